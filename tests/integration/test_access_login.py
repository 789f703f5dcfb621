"""From nothing to a session: passwords, second factor, lock, time-out, fixation, replay, forged forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select
from starlette.testclient import TestClient

from lake import audit, ops
from lake.access_policy import policy
from lake.access_tables import portal_account, portal_session
from lake.settings import settings
from portal import account_store, accounts, csrf, passwords, sessions
from portal.app import create_app

HTML = {"accept": "text/html"}
WORD = "Correct-Horse-9"
_PRE = re.compile(r'name="pre" value="([^"]+)"')
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_SEALED = re.compile(r'name="sealed" value="([^"]+)"')
_SECRET = re.compile(r"<code>([A-Z2-7]{32})</code>")


@pytest.fixture(autouse=True)
def cheap_digests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm at a lower cost, where a test is not about the cost itself."""
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1)
    if "digests" not in request.node.name:
        monkeypatch.setattr(passwords, "_argon", lambda: cheap)


@pytest.fixture
def portal(lake_home: Path) -> Iterator[TestClient]:
    yield browser()


def browser(**options: Any) -> TestClient:
    return TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False, **options)


def log_in(client: TestClient, user: str, word: str, wanted: str = "/") -> Any:
    pre = _PRE.search(client.get("/login").text)
    assert pre
    form = {"user": user, "password": word, "pre": pre.group(1), "next": wanted}
    return client.post("/login", data=form)


def demo_word(user: str) -> str:
    return str(json.loads(accounts.ensure().read_text("utf-8"))[user])


def form_token(client: TestClient, page: str) -> str:
    found = _CSRF.search(client.get(page).text)
    assert found, page
    return found.group(1)


def made(user: str, role: str, org: str = "C201", **more: Any) -> None:
    account_store.create(user, "测试", role, org, by="test", word=WORD, **more)
    with ops.engine().begin() as connection:
        connection.execute(
            portal_account.update().where(portal_account.c.user == user).values(must_change=False)
        )


def last_entry() -> dict[str, Any]:
    with ops.engine().begin() as connection:
        newest = select(ops.audit_entry.c.entry).order_by(ops.audit_entry.c.seq.desc()).limit(1)
        return dict(json.loads(connection.execute(newest).scalar_one()))


def test_a_page_leads_to_the_login_and_back(portal: TestClient) -> None:
    away = portal.get("/account?x=1", headers=HTML)
    assert away.status_code == 303 and away.headers["location"] == "/login?next=/account%3Fx%3D1"
    answer = log_in(portal, "steward", demo_word("steward"), "/account")
    assert answer.status_code == 303 and answer.headers["location"] == "/account"
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(sessions.COOKIE))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    assert "演示数据管家" in portal.get("/account").text
    entry = last_entry()
    assert (entry["action"], entry["actor"], entry["result"]) == ("login", "steward", "ok")
    assert entry["source_ip"] == "testclient"
    out = portal.post("/logout", data={"csrf": form_token(portal, "/account")})
    assert out.status_code == 303
    assert portal.get("/account", headers=HTML).status_code == 303


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
def test_the_login_leads_nowhere_else(portal: TestClient, wanted: str) -> None:
    assert log_in(portal, "steward", demo_word("steward"), wanted).headers["location"] == "/"


def test_a_session_planted_before_the_login_is_worth_nothing(portal: TestClient) -> None:
    portal.cookies.set(sessions.COOKIE, "planted")
    log_in(portal, "steward", demo_word("steward"))
    victim = portal.cookies.get(sessions.COOKIE, domain="testserver.local")
    assert victim != "planted" and sessions.find("planted") is None
    # a real session of the attacker ends when somebody logs in over it
    attacker = sessions.begin(accounts.demo_person("researcher"), "full", "x")
    again = browser(cookies={sessions.COOKIE: attacker})
    log_in(again, "steward", demo_word("steward"))
    assert sessions.find(attacker) is None


def test_a_cookie_that_was_copied_is_dead_after_logout(portal: TestClient) -> None:
    log_in(portal, "steward", demo_word("steward"))
    copied = portal.cookies.get(sessions.COOKIE)
    assert copied
    portal.post("/logout", data={"csrf": form_token(portal, "/account")})
    assert browser(cookies={sessions.COOKIE: copied}).get("/account").status_code == 401
    assert browser(cookies={sessions.COOKIE: copied + "x"}).get("/account").status_code == 401


def test_a_session_ends_when_idle_and_in_any_case(lake_home: Path) -> None:
    word = sessions.begin(accounts.demo_person("steward"), "full", "x")
    now = datetime.now(UTC)
    idle = timedelta(minutes=settings().session_idle_minutes)
    assert sessions.find(word, now + idle - timedelta(seconds=5))  # this use is written down
    assert sessions.find(word, now + 2 * idle - timedelta(seconds=30))
    assert sessions.find(word, now + 4 * idle) is None
    assert sessions.find(word, now + timedelta(hours=settings().session_hours, seconds=1)) is None
    with ops.engine().begin() as connection:
        kept = connection.execute(select(portal_session)).one()
    assert word not in str(tuple(kept))


@pytest.mark.parametrize("scheme", ["argon2id", "pbkdf2-sm3"])
def test_passwords_are_kept_as_digests(lake_home: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("MEDLAKE_PASSWORD_SCHEME", scheme)
    settings.cache_clear()
    kept = passwords.keep(WORD)
    assert kept.startswith(f"${scheme}") and WORD not in kept and kept != passwords.keep(WORD)
    assert passwords.is_right(kept, WORD)
    assert not passwords.is_right(kept, WORD + "x") and not passwords.is_right("", WORD)


@pytest.mark.parametrize("weak", ["Short-1", "alllowercaseonly", "Zhangsan-2026-x", "Aa1-Aa1-Aa1-A"])
def test_weak_passwords_are_refused(weak: str) -> None:
    from lake.errors import MedlakeError

    with pytest.raises(MedlakeError) as refused:
        passwords.check_strength("zhangsan", weak)
    assert refused.value.code == "E690" and weak not in str(refused.value)


def test_a_role_that_sees_level_4_needs_a_second_factor(portal: TestClient) -> None:
    made("doc.li", "doctor")
    assert log_in(portal, "doc.li", WORD).status_code == 303
    assert portal.get("/").headers["location"] == "/account/enrol"
    assert portal.get("/catalogue").status_code == 303
    page = portal.get("/account/enrol").text
    token, sealed, secret = (p.search(page) for p in (_CSRF, _SEALED, _SECRET))
    assert token and sealed and secret and "<svg" in page
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/static/portal.js" defer>']
    otp = pyotp.TOTP(secret.group(1))
    form = {"csrf": token.group(1), "sealed": sealed.group(1), "code": "000000"}
    assert portal.post("/account/enrol", data=form).status_code in (400, 200)
    before = portal.cookies.get(sessions.COOKIE)
    done = portal.post("/account/enrol", data=form | {"code": otp.now()})
    assert done.status_code == 200 and "恢复码" in done.text
    codes = re.findall(r"<code>([0-9a-f]{5}-[0-9a-f]{5})</code>", done.text)
    assert len(codes) == policy().login["recovery_codes"]
    assert portal.cookies.get(sessions.COOKIE) != before and sessions.find(before or "") is None
    assert portal.get("/account").status_code == 200
    # the next login asks; a code that was used before is refused, a recovery code works once
    for code, status in ((otp.now(), 401), (codes[0], 303), (codes[0], 401)):
        again = browser()
        assert log_in(again, "doc.li", WORD).status_code == 303
        assert again.get("/").headers["location"] == "/account/factor"
        given = {"csrf": form_token(again, "/account/factor"), "code": code}
        assert again.post("/account/factor", data=given).status_code == status, code
    row = account_store.get("doc.li")
    assert row is not None and secret.group(1) not in str(tuple(row)) and codes[1] not in str(tuple(row))


def test_an_account_is_locked_after_five_wrong_passwords(portal: TestClient) -> None:
    made("doc.wang", "pharmacist")
    for _ in range(5):
        assert log_in(portal, "doc.wang", "Wrong-Password-1").status_code == 401
    refused = log_in(portal, "doc.wang", WORD)
    assert refused.status_code == 401 and "锁定" in refused.text
    unknown = log_in(portal, "nobody.here", WORD)
    strip = lambda text: re.sub(r'value="[^"]*"', "", text)  # noqa: E731
    assert strip(unknown.text) == strip(refused.text)
    account_store.reset("doc.wang", by="test")
    assert log_in(portal, "doc.wang", WORD).status_code == 401
    with ops.engine().begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        kept = passwords.keep(WORD)
        connection.execute(portal_account.update().values(locked_until=past, failed=5, password=kept))
    assert log_in(portal, "doc.wang", WORD).status_code == 303
    assert audit.verify() >= 9
    with ops.engine().begin() as connection:
        told = "".join(connection.execute(select(ops.audit_entry.c.entry)).scalars())
    assert WORD not in told and "Wrong-Password-1" not in told and "nobody.here" not in told


def test_a_first_password_must_be_changed(portal: TestClient) -> None:
    first = account_store.create("pharm.zhao", "赵", "pharmacist", "C201", by="test")
    log_in(portal, "pharm.zhao", first)
    assert portal.get("/").headers["location"] == "/account/password"
    token = form_token(portal, "/account/password")
    form = {"csrf": token, "old": first, "new": WORD, "again": WORD}
    assert portal.post("/account/password", data=form | {"old": "x"}).status_code == 400
    assert portal.post("/account/password", data=form | {"again": "x"}).status_code == 400
    assert portal.post("/account/password", data=form).status_code == 303
    assert portal.get("/account").status_code == 200
    assert log_in(browser(), "pharm.zhao", WORD).status_code == 303


@pytest.mark.parametrize("how", ["production", "proxy", "host"])
def test_demo_passwords_open_the_demo_alone(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    headers = {}
    if how == "production":
        monkeypatch.setenv("MEDLAKE_PORTAL_MODE", "production")
    elif how == "host":
        monkeypatch.setenv("MEDLAKE_HOST", "0.0.0.0")
    else:
        headers = {"x-forwarded-for": "10.0.0.9"}
    settings.cache_clear()
    client = browser(headers=headers, base_url="https://testserver")
    word = demo_word("steward")
    answer = log_in(client, "steward", word)
    assert answer.status_code == 401 and "演示" not in answer.text
    refused = client.get("/account", auth=("steward", word))
    assert refused.status_code == 401 and "www-authenticate" not in refused.headers
    made("pharm.qian", "pharmacist")
    entered = log_in(client, "pharm.qian", WORD)
    cookie = next(c for c in entered.headers.get_list("set-cookie") if c.startswith(sessions.COOKIE))
    assert "Secure" in cookie


def test_forms_need_the_token_of_their_own_session(portal: TestClient) -> None:
    log_in(portal, "system_admin", demo_word("system_admin"))
    form = {"user": "new.person", "name": "新", "role": "doctor", "org_code": "C201"}
    other = csrf.make(sessions.begin(accounts.demo_person("system_admin"), "full", "x"))
    for forged in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": other}, {"csrf": csrf.make("")}):
        assert portal.post("/accounts", data=form | forged).status_code == 419, forged
    assert portal.post("/accounts", data=form, headers={"x-csrf-token": other}).status_code == 419
    basic = browser().post("/accounts", data=form, auth=("system_admin", demo_word("system_admin")))
    assert basic.status_code == 419
    assert account_store.get("new.person") is None
    token = form_token(portal, "/accounts")
    multipart = {"csrf": (None, token), "user": (None, "a")}
    assert portal.post("/accounts", files=multipart).status_code == 400
    assert portal.post("/accounts", data=form, headers={"x-csrf-token": token}).status_code == 200
    assert account_store.get("new.person").state == "waiting"  # type: ignore[union-attr]
    stale = browser().post("/login", data={"user": "steward", "password": "x", "pre": "forged"})
    assert stale.status_code == 403


def test_large_and_strange_contents_are_refused_before_they_are_read(
    portal: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert portal.post("/login", content=b"x" * 20_000).status_code == 413
    chunks = (b"x" * 10_000 for _ in range(3))
    assert portal.post("/login", content=chunks).status_code == 413
    log_in(portal, "steward", demo_word("steward"))
    answer = portal.post("/account/password", content=b"<x/>", headers={"content-type": "text/xml"})
    assert answer.status_code == 415


def test_an_address_may_not_guess_for_ever(portal: TestClient) -> None:
    logins = portal.app.state.logins  # type: ignore[attr-defined]
    while not logins.wait("testclient"):  # as often as one address may at once
        pass
    answer = log_in(portal, "steward", demo_word("steward"))
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1


ADMINS = ("system_admin", "security_admin", "audit_admin")


@pytest.mark.parametrize("role", [*accounts.ROLES])
def test_no_administrator_does_anothers_work(lake_home: Path, role: str) -> None:
    account_store.create("wait.ing", "待", "doctor", "C201", by="proposer", state="waiting")
    made("act.ive", "doctor")
    client = browser()
    log_in(client, role, demo_word(role))
    header = {"x-csrf-token": form_token(client, "/account")}
    propose = {"user": "neu.er", "name": "新", "role": "doctor", "org_code": "C201"}
    did = {
        "propose": client.post("/accounts", data=propose, headers=header).status_code == 200,
        "activate": client.post("/accounts/wait.ing/activate", headers=header).status_code == 200,
        "lock": client.post("/accounts/act.ive/lock", headers=header).status_code == 200,
        "reset": client.post("/accounts/act.ive/reset", headers=header).status_code == 200,
    }
    allowed = {
        "system_admin": {"propose"},
        "security_admin": {"activate", "lock", "reset"},
    }.get(role, set())
    assert {what for what, done in did.items() if done} == allowed
    if role in ADMINS:
        for page in ("/ledger", "/catalogue", "/quality/", "/api/ledger", "/api/openapi.json"):
            assert client.get(page).status_code == 403, page


def test_who_proposed_an_account_cannot_activate_it(lake_home: Path) -> None:
    account_store.create("a.person", "甲", "doctor", "C201", by="security_admin", state="waiting")
    client = browser()
    log_in(client, "security_admin", demo_word("security_admin"))
    header = {"x-csrf-token": form_token(client, "/account")}
    assert client.post("/accounts/a.person/activate", headers=header).status_code == 403
    assert log_in(browser(), "a.person", WORD).status_code == 401


def test_locking_an_account_ends_its_sessions_at_once(portal: TestClient) -> None:
    made("pharm.sun", "pharmacist")
    log_in(portal, "pharm.sun", WORD)
    assert portal.get("/account").status_code == 200
    account_store.lock("pharm.sun", by="security_admin")
    assert portal.get("/account").status_code == 401
    assert log_in(portal, "pharm.sun", WORD).status_code == 401
