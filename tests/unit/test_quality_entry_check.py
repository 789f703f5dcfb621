"""Checks before saving over HTTP: what is violated and whether it may be saved, what waits, what is refused, whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lake.settings import settings
from portal import clients
from portal.app import create_app

AS_OF = "2027-03-01"
VISIT = {
    "visit_id": "V1", "archive_id": "A1", "visited_on": "2027-02-10", "visit_way_code": "1", "sbp_mmhg": 128,
    "dbp_mmhg": 80, "visit_class_code": "1", "heart_rate_bpm": 72,
}  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("entry") / "var"))
        settings.cache_clear()
        made = TestClient(create_app(), raise_server_exceptions=False)
        made.headers["authorization"] = f"Bearer {clients.create('C201', ['public_health'])[1]}"
        yield made
    settings.cache_clear()


def ask(door: TestClient, body: Any, table: str = "htn_visit") -> Any:
    return door.post(f"/quality/check/{table}", params={"as_of": AS_OF}, json=body)


def rules(record: dict[str, Any]) -> dict[str, str]:
    return {v["rule_id"]: v["blocks"] for v in record["violations"]}


def test_a_clean_record_may_be_saved_and_what_waits_is_told(door: TestClient) -> None:
    answer = ask(door, VISIT)
    assert answer.status_code == 200, answer.text
    (record,) = answer.json()["records"]
    assert (record["save"], record["violations"]) == ("allowed", [])
    assert "HTN-008" in record["evaluated"] or "EXM-003" in record["evaluated"]
    why = {n["rule_id"]: n["why"] for n in record["not_evaluated"]}
    assert (why["HTN-003"], why["GEN-004"]) == ("resident_rows", "as_received")
    assert not set(why) & set(record["evaluated"])


def test_an_error_blocks_and_says_field_values_and_remedy(door: TestClient) -> None:
    (record,) = ask(door, VISIT | {"sbp_mmhg": 80, "dbp_mmhg": 128}).json()["records"]
    assert record["save"] == "blocked"
    told = next(v for v in record["violations"] if v["blocks"] == "save")
    assert {f["name"] for f in told["fields"]} & {"sbp_mmhg", "dbp_mmhg"}
    assert told["message_zh"] and told["remedy_zh"] and told["version"] >= 1 and told["observed"]


def test_a_list_is_answered_record_by_record_and_leaves_nothing_behind(door: TestClient) -> None:
    bad = VISIT | {"visit_id": "V2", "sbp_mmhg": 80, "dbp_mmhg": 128}
    first = ask(door, [VISIT, bad, VISIT | {"visit_id": "V3"}]).json()
    assert [r["save"] for r in first["records"]] == ["allowed", "blocked", "allowed"]
    assert first["blocked"] == 1
    assert ask(door, VISIT).json()["records"][0]["save"] == "allowed"


def test_rows_that_come_along_let_more_be_judged(door: TestClient) -> None:
    earlier = VISIT | {"visit_id": "V0", "visited_on": "2026-06-01"}
    context = {
        "htn_visit": [earlier],
        "htn_card": [],
        "ph_archive": [{"archive_id": "A1", "birth_date": "1950-01-01"}],
    }
    (record,) = ask(door, {"records": [VISIT], "context": context}).json()["records"]
    assert "HTN-003" in rules(record)
    same_day = context | {
        "htn_visit": [VISIT | {"visit_id": "V0", "recorded_at": "2027-02-10T08:00:00+08:00"}]
    }
    (again,) = ask(door, {"records": [VISIT], "context": same_day}).json()["records"]
    assert "HTN-022" in {v["rule_id"] for v in again["violations"]} | set(again["evaluated"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sbp_mmhg": "secret-77"}, "sbp_mmhg"),
        ({"sbp_mmhg": True}, "sbp_mmhg"),
        ({"visited_on": "2027-02-30"}, "visited_on"),
        ({"visited_on": 20270210}, "visited_on"),
        ({"recorded_at": "yesterday"}, "recorded_at"),
        ({"is_referred": "是"}, "is_referred"),
        ({"visit_way_code": 1}, "visit_way_code"),
        ({"no_such": "secret-77"}, "no_such"),
        ({"org_code": "C202"}, "org_code"),
        ({"source_line": 3}, "source_line"),
    ],
)
def test_what_the_contract_does_not_have_is_named_by_field_and_never_repeated(
    door: TestClient, change: dict[str, Any], field: str
) -> None:
    answer = ask(door, [VISIT, VISIT | change])
    assert answer.status_code == 422
    body = answer.json()
    assert body["code"] == "E442"
    assert [(e["record"], e["field"]) for e in body["errors"]] == [(1, field)]
    assert all(e["zh"] and e["en"] for e in body["errors"])
    log = settings().log_dir / "medlake.jsonl"
    assert "secret-77" not in answer.text + log.read_text("utf-8")


@pytest.mark.parametrize(
    "body",
    [
        [],
        [1],
        "x",
        None,
        {"records": []},
        {"records": [{}], "more": 1},
        {"records": [{}], "context": []},
        [{}] * 1001,
    ],
)
def test_another_shape_is_refused(door: TestClient, body: Any) -> None:
    answer = ask(door, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "E441")


def test_no_json_no_table_no_token_no_scope(door: TestClient) -> None:
    assert door.post("/quality/check/htn_visit", content=b"{").json()["code"] == "E441"
    missing = ask(door, {}, "no_such")
    assert (missing.status_code, missing.json()["code"]) == (404, "E440")
    assert "htn_visit" in missing.json()["remedy_zh"]
    foreign = ask(door, {}, "encounter")
    assert (foreign.status_code, foreign.json()["code"]) == (403, "E443")
    bare = door.post("/quality/check/htn_visit", json=VISIT, headers={"authorization": "Bearer nobody"})
    assert (bare.status_code, bare.json()["code"]) == (401, "E273")
    word = clients.create("C201", ["public_health"])[1]
    refused = door.post(
        "/quality/rules", json={}, headers={"authorization": f"Bearer {word}", "X-Actor": "anna"}
    )
    assert refused.json()["code"] == "E443"


def test_too_many_requests_are_told_when_to_come_again(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLAKE_ENTRY_BURST", "1")
    monkeypatch.setenv("MEDLAKE_ENTRY_RATE_PER_SECOND", "0.01")
    settings.cache_clear()
    door = TestClient(create_app(), raise_server_exceptions=False)
    headers = {"authorization": f"Bearer {clients.create('C201', ['public_health'])[1]}"}
    door.post("/quality/check/no_such", json={}, headers=headers)
    answer = door.post("/quality/check/no_such", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "E444")
    assert int(answer.headers["retry-after"]) >= 1
