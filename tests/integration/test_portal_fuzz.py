"""Every door of the portal is knocked at: what its description allows, made by schemathesis, by every role and by programs;
and attacks in every filter and every address of every page. No answer is a 500, none holds what the role may not see."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import schemathesis
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

import products
from lake import access_scope
from lake.access_policy import policy
from lake.settings import settings
from portal import access, clients, sessions
from portal.accounts import Person
from portal.app import create_app
from tests import fixtures_silver as silver
from tests import products_world

#: In every field that names a person at C201; nowhere else.
CANARY = "金丝雀"
NUMBERS = ("429701196001017777", "13977770007", "7号楼7单元")
SECRETS = (CANARY, *NUMBERS)

ATTACKS = (
    "' OR '1'='1' --",
    "\"; DROP TABLE portal_account; --",
    "<script>alert(7)</script>\" onload=alert(7) x=\"",
    "{{ 7777 * 7777 }}${7777*7777}#{7777*7777}",
    "../../../../secrets/portal.json",
    "silver/person UNION ALL FROM person",
    "=cmd|'/c calc'!A1",
    "\x00\u202e\ud7ff-1e309",
    "9" * 400,
)  # fmt: skip
_SUM = str(7777 * 7777)


@dataclass
class World:
    app: Any
    home: Path
    tokens: dict[str, str]

    def browser(self, role: str, org: str = "") -> TestClient:
        made = TestClient(
            self.app, base_url="http://127.0.0.1", raise_server_exceptions=False, follow_redirects=False
        )
        word = sessions.begin(Person(f"fuzz.{role}", role, org or access_scope.root(), role), "full", "x")
        made.cookies.set(sessions.COOKIE, word)
        return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("fuzz") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        patch.setenv("MEDLAKE_PORTAL_BURST", "100000")
        settings.cache_clear()
        products_world.day(products_world.DAY_1)
        products.publish(products_world.DAY_1)
        keys = [f"E{n:04d}" for n in range(8)]
        number, phone, address = NUMBERS
        silver.write(
            products_world.DAY_2,
            {
                "person": [
                    silver.resident(k, name=f"{CANARY}{k}", id_no=number, phone=phone, addr_detail=address)
                    for k in keys
                ],
                "person_identifier": [silver.link(k, "public_health", "C201", f"A{k}") for k in keys],
                "htn_card": [
                    {"card_id": k, "archive_id": f"A{k}", "carded_on": date(2026, 2, 3)} for k in keys
                ],
            },
        )
        tokens = {
            "all": clients.create("C202", sorted(clients.SCOPES))[1],
            "none": clients.create("C202", ["lis"])[1],
        }
        app = create_app()
        with TestClient(app):
            yield World(app, home, tokens)
    settings.cache_clear()


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the platform logged (the test's own client logs its requests too)."""
    return "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("medlake"))


def _leaks(text: str) -> list[str]:
    return [s for s in SECRETS if s in text]


def _examples(operation: Any, most: int, knock: Callable[[Any], None]) -> None:
    """Up to so many requests that the description allows, the same ones each time."""

    @hypothesis.settings(
        max_examples=most, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def run(case: Any) -> None:
        knock(case)

    run()


def test_no_described_operation_breaks_or_leaks(world: World, caplog: pytest.LogCaptureFixture) -> None:
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    browsers = {role: world.browser(role, "C202") for role in policy().roles}
    nobody = TestClient(world.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    programs = {}
    for name, token in world.tokens.items():
        programs[name] = TestClient(world.app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        programs[name].headers["authorization"] = f"Bearer {token}"
    seen: set[str] = set()
    broken: set[str] = set()

    def knocked(case: Any, asking: dict[str, TestClient], allowed: bool) -> None:
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
        sent.pop("cookies", None)
        sent["headers"] = {
            k: v for k, v in dict(sent.get("headers") or {}).items() if k.lower() not in ("authorization", "cookie")
        }  # fmt: skip
        if isinstance(sent.get("data"), bytes | str):
            sent["content"] = sent.pop("data")
        for who, browser in asking.items():
            answer = browser.request(**sent)
            seen.add(f"{case.method} {case.path}")
            if answer.status_code == 500 or _leaks(answer.text):
                broken.add(f"{who} {case.method} {case.path} {answer.status_code}")
            if not allowed:
                assert answer.status_code in (401, 403, 404, 405, 413, 415, 419), (who, case.path)

    with caplog.at_level(logging.DEBUG):
        for found in schema.get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr]
            room = access.room_of(operation.path)
            is_public = access.is_public(operation.path)
            roles = room.roles if room else frozenset()
            inside = programs if access.CLIENT in roles else {r: b for r, b in browsers.items() if r in roles}
            outside = {"nobody": nobody} | {r: b for r, b in browsers.items() if r not in roles}
            if is_public:
                inside, outside = {"nobody": nobody}, {}
            one = dict(list(inside.items())[:2])

            _examples(operation, 6, partial(knocked, asking=one, allowed=True))
            if outside:
                _examples(operation, 1, partial(knocked, asking=outside, allowed=False))
    assert len(seen) >= 30
    assert not broken
    assert not _leaks(_logged(caplog))


def _pages(app: Any) -> list[APIRoute]:
    return [r for r in app.routes if isinstance(r, APIRoute) and "GET" in (r.methods or ())]


def _inside(path: str) -> str:
    """A role that may enter, the one that sees most; "" for programs' and public paths."""
    room = access.room_of(re.sub(r"\{[^}]*\}", "x", path))
    if room is None or access.CLIENT in room.roles:
        return ""
    return next((r for r in ("steward", "officer", "doctor", "researcher", "audit_admin") if r in room.roles),
                sorted(room.roles)[0])  # fmt: skip


def test_attacks_in_every_filter_and_address_are_text(world: World, caplog: pytest.LogCaptureFixture) -> None:
    browsers: dict[str, TestClient] = {}
    tried = 0
    broken: list[str] = []
    words = (world.home / "secrets" / "portal.json").read_text("utf-8")
    with caplog.at_level(logging.DEBUG):
        for route in _pages(world.app):
            role = _inside(route.path)
            if not role:
                continue
            browser = browsers.setdefault(role, world.browser(role))
            filters = [p.alias for p in route.dependant.query_params]
            for attack in ATTACKS:
                address = re.sub(r"\{[^}]*\}", quote(attack, safe=""), route.path)
                if not filters and address == route.path:
                    continue
                answer = browser.get(address, params=dict.fromkeys(filters, attack))
                tried += 1
                if (
                    answer.status_code == 500
                    or ("<script>alert(7)" in answer.text and "json" not in answer.headers["content-type"])
                    or _SUM in answer.text
                    or words in answer.text
                    or any(k in answer.text for k in ("Traceback", "duckdb.", "sqlalchemy", "SELECT "))
                ):
                    broken.append(f"{route.path} {answer.status_code} {attack[:20]!r}")
    assert tried > 200
    assert not broken
    assert not _leaks(_logged(caplog)) and not any(a in _logged(caplog) for a in ATTACKS[:4])


@pytest.mark.parametrize(
    ("role", "org"),
    [("executive", ""), ("researcher", ""), ("asset_manager", ""), ("doctor", "C202"), ("officer", "C202"),
     ("steward", "C202"), ("pharmacist", ""), ("system_admin", ""), ("audit_admin", ""), ("security_admin", "")],
)  # fmt: skip
def test_no_page_holds_what_the_policy_hides(
    world: World, role: str, org: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All pages of a role that may not see these residents clear: other institutions', or levels that are closed to it;
    also asked to sort and to filter by the values themselves."""
    browser = world.browser(role, org)
    opened = 0
    with caplog.at_level(logging.DEBUG):
        for route in _pages(world.app):
            if "{" in route.path or access.is_public(route.path):
                continue
            filters = [p.alias for p in route.dependant.query_params]
            for asked in ({}, *({f: value} for f in filters for value in ("name", "C201", NUMBERS[0]))):
                answer = browser.get(route.path, params=asked)
                opened += answer.status_code == 200
                told = answer.text
                for f in asked.values():
                    told = told.replace(str(f), "")  # a page may say what it was asked
                assert not _leaks(told), (route.path, asked)
    assert opened >= 2
    assert not _leaks(_logged(caplog))


def test_no_file_beside_the_lake_holds_a_resident(world: World) -> None:
    """After all of that: logs, audit, exports and what else lies in the home."""
    for path in world.home.rglob("*"):
        if path.is_file() and "lake" not in path.relative_to(world.home).parts:
            content = path.read_bytes()
            assert not [s for s in SECRETS if s.encode() in content], path
