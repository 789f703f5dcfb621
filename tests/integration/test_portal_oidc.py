"""Single sign-on against a real OpenID provider: who gets in as what, and every token that must not be believed."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select
from starlette.testclient import TestClient

from lake import ops
from lake.errors import MedlakeError
from lake.settings import settings
from portal import account_store, csrf, oidc, oidc_accounts, oidc_tokens, sessions
from portal.app import create_app
from tests.servers import oidc_provider
from tests.servers.oidc_provider import CLIENT, SECRET, Provider

PORTAL = "http://127.0.0.1:8443"
PEOPLE: dict[str, dict[str, Any]] = {
    "pharm": {"name": "赵药师", "groups": ["yaoshi", "everybody"], "org": "421C201"},
    "boss": {"name": "院长", "groups": ["yuanling"], "org": ["421H001", "unknown"]},
    "both": {"name": "两职", "groups": ["yaoshi", "yuanling"], "org": "421C201"},
    "stranger": {"name": "外人", "groups": ["everybody"], "org": "421C201"},
    "nowhere": {"name": "无机构", "groups": ["yaoshi"], "org": "C201"},
    "doc": {"name": "李医生", "groups": [], "org": ""},
}
MAPPING = (
    "role_claim: groups\norg_claim: org\n"
    "roles: {yaoshi: pharmacist, yuanling: executive}\norgs: {421C201: C201, 421H001: H001}\n"
)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with oidc_provider.a_provider(tmp_path_factory.mktemp("oidc"), PORTAL, PEOPLE) as made:
        yield made


@cache
def application() -> FastAPI:
    """One for all tests: it keeps nothing of a home but the demo's words, which no test here uses."""
    return create_app()


@dataclass
class World:
    provider: Provider
    mapping: Path

    def browser(self) -> TestClient:
        return TestClient(
            application(), base_url=PORTAL, raise_server_exceptions=False, follow_redirects=False
        )

    def departed(self, browser: TestClient, wanted: str = "/account") -> str:
        answer = browser.get("/login/oidc", params={"next": wanted})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def arrived(self, browser: TestClient, who: str) -> Any:
        return browser.get(self.provider.sign_on(self.departed(browser), who))


@pytest.fixture
def world(provider: Provider, lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    mapping = lake_home / "mapping.yaml"
    mapping.parent.mkdir(parents=True)
    mapping.write_text(MAPPING, "utf-8")
    for name, value in {"ISSUER": provider.issuer, "CLIENT_ID": CLIENT, "MAPPING": str(mapping)}.items():
        monkeypatch.setenv(f"MEDLAKE_OIDC_{name}", value)
    settings.cache_clear()
    settings().secrets_dir.mkdir(parents=True, exist_ok=True)
    (settings().secrets_dir / "oidc.key").write_text(SECRET, "utf-8")
    return World(provider, mapping)


def test_role_and_institution_come_from_the_allow_list(world: World) -> None:
    browser = world.browser()
    departure = world.departed(browser, "/account")
    asked = parse_qs(urlsplit(departure).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["state"] and asked["nonce"]
    back = world.provider.sign_on(departure, "pharm")
    answer = browser.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    session = sessions.find(browser.cookies[sessions.COOKIE])
    assert session is not None and session.stage == "full"  # a pharmacist needs no second factor
    assert (session.person.role, session.person.org_code, session.person.name) == (
        "pharmacist", "C201", "赵药师")  # fmt: skip
    assert browser.get("/account").status_code == 200
    assert browser.get("/quarantine").status_code == 403
    # at the next login the list says otherwise: the account moves, and its session of before ends
    world.mapping.write_text(MAPPING.replace("yaoshi: pharmacist", "yaoshi: laboratory"), "utf-8")
    again = world.browser()
    assert world.arrived(again, "pharm").status_code == 303
    moved = sessions.find(again.cookies[sessions.COOKIE])
    assert moved is not None and (moved.person.user, moved.person.role) == (session.person.user, "laboratory")
    assert moved.stage == "enrol" and again.get("/work").headers["location"] == "/account/enrol"
    assert browser.get("/account").status_code == 401


@pytest.mark.parametrize("who", ["stranger", "both", "nowhere", "doc"])
def test_claims_without_exactly_one_line_open_nothing(world: World, who: str) -> None:
    browser = world.browser()
    answer = world.arrived(browser, who)
    assert answer.status_code == 403
    assert sessions.COOKIE not in browser.cookies
    assert not [a for a in account_store.listed() if a["user"].startswith("sso.")]


def test_an_account_that_administrators_bound_is_theirs(world: World) -> None:
    account_store.create("doc.li", "李医生", "doctor", "C202", by="t", oidc=f"{world.provider.issuer}|doc")
    browser = world.browser()
    assert world.arrived(browser, "doc").status_code == 303
    session = sessions.find(browser.cookies[sessions.COOKIE])
    assert session is not None and (session.person.user, session.person.org_code) == ("doc.li", "C202")
    assert session.stage == "enrol"  # a doctor needs a second factor, and the issuer has not asked for one
    account_store.lock("doc.li", by="security_admin")
    assert browser.get("/account").status_code == 401
    assert world.arrived(world.browser(), "doc").status_code == 403


def test_the_list_gives_no_administrator_and_no_unknown_role_or_place(world: World) -> None:
    for wrong in ("yaoshi: audit_admin", "yaoshi: nobody"):
        world.mapping.write_text(MAPPING.replace("yaoshi: pharmacist", wrong), "utf-8")
        with pytest.raises(MedlakeError):
            oidc_accounts.mapping()
        assert world.arrived(world.browser(), "pharm").status_code == 403
    world.mapping.write_text(MAPPING.replace("421C201: C201", "421C201: X999"), "utf-8")
    with pytest.raises(MedlakeError):
        oidc_accounts.mapping()


def test_an_answer_works_once_in_the_browser_that_asked(world: World) -> None:
    browser = world.browser()
    departure = world.departed(browser)
    kept = browser.cookies[oidc.COOKIE]
    back = world.provider.sign_on(departure, "pharm")
    other = world.browser()
    assert other.get(back).status_code == 403  # another browser: no cookie
    world.departed(other)
    assert other.get(back).status_code == 403  # another sign-on's state
    assert browser.get(back.replace("state=", "state=x")).status_code == 403
    assert browser.get(f"{back}&error=access_denied").status_code == 403
    assert browser.get(back.replace("iss=", "iss=http%3A%2F%2Fevil.invalid&was=")).status_code == 403
    assert browser.get(back).status_code == 303
    assert browser.get(back).status_code == 403  # the cookie is gone
    browser.cookies.set(oidc.COOKIE, kept, domain="127.0.0.1", path="/login")
    replayed = browser.get(back)
    assert replayed.status_code == 403  # and the code is spent
    with ops.reader().connect() as connection:
        told = [json.loads(e) for e in connection.execute(select(ops.audit_entry.c.entry)).scalars()]
    logins = [e["result"] for e in told if e["action"] == "login"]
    assert logins.count("refused") == 7 and logins.count("full") == 1
    code = parse_qs(urlsplit(back).query)["code"][0]
    assert not any(code in json.dumps(e) for e in told)


def test_a_code_without_its_verifier_is_worth_nothing(world: World) -> None:
    back = world.provider.sign_on(world.departed(world.browser()), "pharm")
    code = parse_qs(urlsplit(back).query)["code"][0]
    given = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": f"{PORTAL}/login/oidc/callback",
    }
    for stolen in (given, given | {"code_verifier": "x" * 43}):
        answer = httpx.post(f"{world.provider.issuer}/token", data=stolen, auth=(CLIENT, SECRET))
        assert answer.status_code == 400, answer.text


def test_keys_rotate_and_the_old_ones_are_worth_nothing(world: World) -> None:
    old = world.provider.key
    assert world.arrived(world.browser(), "boss").status_code == 303
    world.provider.rotate()
    assert world.arrived(world.browser(), "boss").status_code == 303
    with pytest.raises(MedlakeError):
        checked(world.provider, jwt.encode({"alg": "RS256", "kid": "first"}, claims(world.provider), old))


def test_logout_ends_our_session_and_the_issuers(world: World) -> None:
    browser = world.browser()
    with httpx.Client() as person:
        back = world.provider.through(person, world.departed(browser), "pharm")
        browser.get(back)
        assert world.provider.through(person, world.departed(world.browser()), "nobody").startswith(PORTAL)
        session = sessions.find(browser.cookies[sessions.COOKIE])
        assert session is not None
        cookie = browser.cookies[sessions.COOKIE]
        assert browser.post("/logout", data={"csrf": csrf.make(session.key)}).status_code == 303
        assert sessions.find(cookie) is None
        away = browser.get("/login/oidc/leave").headers["location"]
        page = person.get(away)
        secret = page.text.split('name="xsrf" value="')[1].split('"')[0]
        done = person.post(
            f"{world.provider.issuer}/session/end/confirm", data={"xsrf": secret, "logout": "yes"}
        )
        assert done.headers["location"].startswith(f"{PORTAL}/login")
        asked = person.get(world.departed(world.browser()))
        assert "/interaction/" in asked.headers["location"]  # the issuer asks who this is again


def test_an_issuer_that_is_away_or_another_lets_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("http://127.0.0.1:9", world.provider.issuer.replace("127.0.0.1", "localhost")):
        monkeypatch.setenv("MEDLAKE_OIDC_ISSUER", wrong)
        settings.cache_clear()
        answer = world.browser().get("/login/oidc")
        assert answer.status_code == 403
    monkeypatch.delenv("MEDLAKE_OIDC_ISSUER")
    settings.cache_clear()
    for path in ("/login/oidc", "/login/oidc/callback", "/login/oidc/leave"):
        assert world.browser().get(path).status_code == 404


def claims(provider: Provider, **other: Any) -> dict[str, Any]:
    now = int(time.time())
    right = {
        "iss": provider.issuer,
        "aud": CLIENT,
        "sub": "pharm",
        "iat": now,
        "exp": now + 300,
        "nonce": "n1",
    }
    return {k: v for k, v in (right | other).items() if v is not None}


def checked(provider: Provider, token: str, nonce: str = "n1") -> dict[str, Any]:
    return oidc_tokens.checked(token, provider.keys(), issuer=provider.issuer, client=CLIENT, nonce=nonce)


def signed(provider: Provider, **other: Any) -> str:
    header = {"alg": "RS256", "kid": provider.key.kid}
    return jwt.encode(header, claims(provider, **other), provider.key)


def shared(provider: Provider) -> str:
    """A token signed by HMAC with the public key as its secret, as no library would make it."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": provider.key.kid}).encode())
    body = header.rstrip(b"=") + b"." + signed(provider).split(".")[1].encode()
    digest = hmac.digest(provider.key.as_pem(private=False), body, "sha256")
    return (body + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


WRONG: dict[str, Callable[[Provider], str]] = {
    "audience": lambda p: signed(p, aud="another-client"),
    "audience beside ours": lambda p: signed(p, aud=[CLIENT, "another-client"]),
    "authorised party": lambda p: signed(p, azp="another-client"),
    "issuer": lambda p: signed(p, iss="http://127.0.0.1:1"),
    "no issuer": lambda p: signed(p, iss=None),
    "expired": lambda p: signed(p, exp=int(time.time()) - 60),
    "never expires": lambda p: signed(p, exp=None),
    "from the future": lambda p: signed(p, iat=int(time.time()) + 600),
    "no subject": lambda p: signed(p, sub=None),
    "another nonce": lambda p: signed(p, nonce="n2"),
    "no nonce": lambda p: signed(p, nonce=None),
    "another key of this name": lambda p: jwt.encode(
        {"alg": "RS256", "kid": p.key.kid}, claims(p), RSAKey.generate_key(2048)
    ),
    "unsigned": lambda p: (
        "eyJhbGciOiJub25lIn0." + signed(p).split(".")[1] + "."
    ),
    "our key as a shared secret": lambda p: shared(p),
    "a claim changed": lambda p: ".".join(
        (signed(p).split(".")[0], signed(p, sub="boss").split(".")[1], signed(p).split(".")[2])
    ),
    "no token": lambda p: "garbage",
}  # fmt: skip


def test_a_right_token_is_believed(provider: Provider) -> None:
    assert checked(provider, signed(provider))["sub"] == "pharm"


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_token_is_not_believed_and_not_told(provider: Provider, how: str) -> None:
    token = WRONG[how](provider)
    with pytest.raises(MedlakeError) as refused:
        checked(provider, token)
    assert refused.value.code == "E693" and "pharm" not in refused.value.zh and token not in refused.value.zh
