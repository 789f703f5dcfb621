"""Tickets over HTTP: own institution only, scopes, a named person, the same command once, two persons for a waiver."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import worklist
from portal import clients
from portal.app import create_app
from quality import tickets
from tests.tickets_world import checked, finding

DAY = date(2026, 11, 18)


@pytest.fixture
def door(lake_home: Path) -> TestClient:
    checked(DAY, [finding("V1", doctor_id="D9"), finding("V2", org_code="C202")])
    tickets.ask(DAY)
    worklist.take_requests(datetime(2026, 11, 18, 4, tzinfo=UTC))
    return TestClient(create_app(), raise_server_exceptions=False)


def token(*scopes: str, org: str = "C201") -> dict[str, str]:
    return {"authorization": f"Bearer {clients.create(org, scopes or ('tickets', 'tickets-approve'))[1]}"}


def own(door: TestClient, headers: dict[str, str]) -> dict[str, Any]:
    (row,) = door.get("/api/quality/tickets", headers=headers).json()["rows"]
    return dict(row)


def test_a_token_sees_its_institution_only(door: TestClient) -> None:
    headers = token()
    row = own(door, headers)
    assert (row["org_code"], row["rule_id"], row["findings"]) == ("C201", "HTN-022", 1)
    shown = door.get(f"/api/quality/tickets/{row['item_id']}", headers=headers).json()
    assert [f["record_key"] for f in shown["findings"]] == ["V1"]
    other = own(door, token(org="C202"))
    refused = door.get(f"/api/quality/tickets/{other['item_id']}", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (404, "E428")
    step = door.post(
        f"/api/quality/tickets/{other['item_id']}/fix",
        headers=headers | {"X-Actor": "D1"},
        json={"reason_code": "entry_error"},
    )
    assert step.json()["code"] == "E428"
    assert own(door, token(org="C202"))["state"] == "open"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({}, 401, "E273"), ({"scopes": "public_health"}, 403, "E425"), ({"scopes": "tickets"}, 400, "E426")],
)
def test_without_token_scope_or_name_nothing_moves(
    door: TestClient, headers: dict[str, str], status: int, code: str
) -> None:
    row = own(door, token())
    given = token(headers["scopes"]) if headers else {}
    answer = door.post(
        f"/api/quality/tickets/{row['item_id']}/fix", headers=given, json={"reason_code": "entry_error"}
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert own(door, token())["state"] == "open"


def test_a_command_sent_again_is_the_same_command(door: TestClient) -> None:
    headers = token() | {"X-Actor": "steward", "Idempotency-Key": "abc-12345"}
    item = own(door, headers)["item_id"]
    for _ in range(2):
        answer = door.post(f"/api/quality/tickets/{item}/assign", headers=headers, json={"to": "D7"})
        assert (answer.status_code, answer.json()["assignee"]) == (200, "D7")
    assert [e.action for e in worklist.log_of(item)] == ["create", "assign_doctor", "assign"]


def test_a_waiver_takes_two_scopes_and_two_persons(door: TestClient) -> None:
    asking, deciding = token("tickets"), token("tickets-approve")
    item = own(door, asking)["item_id"]
    wanted = {"reason_code": "true_exception", "reason": "核实属实"}
    path = f"/api/quality/tickets/{item}"
    asked = door.post(f"{path}/waive", headers=asking | {"X-Actor": "D3"}, json=wanted)
    assert (asked.status_code, asked.json()["state"]) == (200, "waiver_asked")
    word = {"agree": True, "reason": "同意"}
    for headers, status, code in (
        (asking | {"X-Actor": "lead"}, 403, "E425"),
        (deciding | {"X-Actor": "D3"}, 409, "E909"),
        (deciding | {"X-Actor": "D9"}, 409, "E910"),
    ):
        answer = door.post(f"{path}/decide", headers=headers, json=word)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    done = door.post(f"{path}/decide", headers=deciding | {"X-Actor": "lead"}, json=word)
    assert (done.status_code, done.json()["state"]) == (200, "waived")
    assert [w.approved_by for w in tickets.waivers(DAY)] == ["lead"] or datetime.now(UTC).date() > DAY


def test_what_is_not_in_the_taxonomy_is_refused_with_the_list(door: TestClient) -> None:
    headers = token() | {"X-Actor": "D1"}
    item = own(door, headers)["item_id"]
    answer = door.post(f"/api/quality/tickets/{item}/fix", headers=headers, json={"reason_code": "typo"})
    assert (answer.status_code, answer.json()["code"]) == (422, "E420")
    assert "entry_error" in answer.json()["remedy_en"]
    assert len(door.get("/api/quality/tickets/reasons", headers=headers).json()["rows"]) == len(
        tickets.reasons()
    )
    assert (
        door.get("/api/quality/tickets/stats", headers=headers).json()["institutions"][0]["value"] == "C201"
    )


def test_persons_have_no_business_here_and_gates_need_a_check(door: TestClient) -> None:
    assert door.get("/api/quality/tickets", auth=("steward", "x")).status_code == 401
    answer = door.get("/api/quality/gates", headers=token())
    assert (answer.status_code, answer.json()["code"]) == (404, "E423")
