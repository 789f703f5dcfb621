"""The engine: once, versioned, atomic, appended only; anonymity; who may take what."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

import worklist
from lake import audit
from lake.errors import MedlakeError
from lake.settings import settings
from tests.worklist_world import NOW, ask
from worklist import store, tables

CONFIRM = {"actor": "张", "role": "lab_technician", "data": {"recheck": "一致"}}


def test_the_same_command_is_done_once(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    first = worklist.act(item.item_id, "confirm", command_key="c1", **CONFIRM)
    again = worklist.act(item.item_id, "confirm", command_key="c1", **CONFIRM)
    assert again == first
    assert [e.action for e in worklist.log_of(item.item_id)] == ["create", "confirm"]


def test_a_command_key_belongs_to_one_command(lake_home: Path) -> None:
    one, two = ask("critical_value", "k1"), ask("critical_value", "k2")
    worklist.act(one.item_id, "confirm", command_key="c1", **CONFIRM)
    for item, action in ((two, "confirm"), (one, "notify")):
        with pytest.raises(MedlakeError, match="E914"):
            worklist.act(item.item_id, action, command_key="c1", **CONFIRM)


def test_whoever_saw_an_older_version_is_told(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    worklist.assign(item.item_id, "李", actor="王", role="lab_lead")
    with pytest.raises(MedlakeError) as told:
        worklist.act(item.item_id, "confirm", expected_version=item.version, **CONFIRM)
    assert told.value.code == "E913" and "2" in told.value.en
    assert worklist.act(item.item_id, "confirm", expected_version=2, **CONFIRM).version == 3


def test_a_refused_command_leaves_nothing(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    with pytest.raises(MedlakeError, match="E906"):
        worklist.act(item.item_id, "confirm", actor="张", role="lab_technician", command_key="c1")
    assert worklist.find(item.item_id)[0] == item
    assert audit.verify() == 0
    worklist.act(item.item_id, "confirm", command_key="c1", **CONFIRM)  # the key is still free


def test_item_event_clock_and_audit_are_one_transaction(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = ask("critical_value", "k1")

    def fails(*_: object, **__: object) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(audit, "record", fails)
    with pytest.raises(OSError, match="disk full"):
        worklist.act(item.item_id, "confirm", **CONFIRM)
    assert worklist.find(item.item_id) == (item, worklist.log_of(item.item_id))
    assert len(worklist.log_of(item.item_id)) == 1
    monkeypatch.undo()


def test_every_persons_step_is_in_the_audit_chain(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    worklist.act(item.item_id, "confirm", **CONFIRM)
    assert audit.verify() == 1


def test_the_log_is_appended_only(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    for statement in (
        update(tables.item_event).values(reason="changed"),
        delete(tables.item_event).where(tables.item_event.c.item_id == item.item_id),
    ):
        with pytest.raises(IntegrityError, match="appended only"), store.begin() as connection:
            connection.execute(statement)
    assert len(worklist.log_of(item.item_id)) == 1


def test_taking_needs_a_role_of_the_step_and_a_new_owner_begins_unassigned(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    with pytest.raises(MedlakeError, match="E905"):
        worklist.assign(item.item_id, "李", actor="李", role="pharmacist")
    assert worklist.assign(item.item_id, "张", actor="张", role="lab_technician").assignee == "张"
    assert worklist.act(item.item_id, "confirm", **CONFIRM).assignee == "张"  # the same role goes on
    given = {"channel": "phone", "notifier": "张"}
    moved = worklist.act(item.item_id, "notify", actor="张", role="lab_technician", data=given)
    assert (moved.owner_role, moved.assignee) == ("ward_nurse", None)


def test_a_closed_item_is_not_assigned(lake_home: Path) -> None:
    item = ask("silent_feed", "k1")
    worklist.act(item.item_id, "resume", actor="王", role="integration_engineer")
    with pytest.raises(MedlakeError, match="E918"):
        worklist.assign(item.item_id, "李", actor="王", role="integration_engineer")


def test_reopening_starts_new_clocks_and_keeps_the_old_ones(lake_home: Path) -> None:
    item = ask("quality_ticket", "k1")
    with store.begin() as connection:
        from worklist import engine

        closed = engine.act_as_system(connection, item, "confirm_gone", at=NOW, data={"run_id": "r1"})
    assert closed.closed_at == NOW and closed.due_at is None
    later = NOW.replace(day=25)
    again = worklist.act(item.item_id, "reopen", actor="王", role="data_steward", reason="又出现", at=later)
    assert again.reopened == 1 and again.closed_at is None
    assert (
        again.due_at is not None and again.due_at > later
    )  # three working days from now, not from the first time
    with store.begin() as connection:
        from worklist import clocks

        rounds = [(c["step"], c["round"], c["is_on_time"]) for c in clocks.all_of(connection, item.item_id)]
    # the month's report has a clock of its own
    assert rounds == [("fix", 1, True), ("report", 1, None), ("fix", 2, None), ("report", 2, None)]


SECRETS = ("王报告", "R-778899", "13912345678", "ICU-07")
REPORTER = {
    "reporter_name": SECRETS[0],
    "reporter_id": SECRETS[1],
    "reporter_phone": SECRETS[2],
    "reporter_dept_code": SECRETS[3],
}


def everything(home: Path) -> bytes:
    """All bytes of the installation's state, the database's write-ahead log folded in."""
    database = settings().ops_url.removeprefix("sqlite:///")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM")
    return b"".join(p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file())


def test_a_voluntary_report_of_an_adverse_event_is_anonymous_everywhere(lake_home: Path) -> None:
    """Non-punitive reporting: nothing that the installation keeps tells who reported."""
    item = worklist.create(
        "adverse_event",
        org_code="H001",
        subject="adverse_event/H001/A1",
        actor=SECRETS[0],
        role="reporter",
        request_key="ae|H001|A1",
        payload={"reporting": "voluntary", "event_level": "3", "text": "跌倒"} | REPORTER,
    )
    assert item.is_anonymous
    worklist.act(
        item.item_id,
        "supplement",
        actor=SECRETS[0],
        role="reporter",
        data={"supplement_text": "补充"} | REPORTER,
    )
    worklist.act(
        item.item_id, "triage", actor="管理员", role="safety_officer", data={"category_code": "fall"}
    )
    worklist.drop_decisions(NOW.date().replace(year=2030))
    log = worklist.log_of(item.item_id)
    assert [e.actor for e in log] == ["anonymous", "anonymous", "管理员"]
    kept = everything(lake_home)
    assert all(secret.encode() not in kept for secret in SECRETS)
    assert "跌倒".encode() in kept  # what happened is kept


def test_a_mandatory_report_names_its_reporter(lake_home: Path) -> None:
    item = worklist.create(
        "adverse_event",
        org_code="H001",
        subject="adverse_event/H001/A2",
        actor=SECRETS[0],
        role="reporter",
        request_key="ae|H001|A2",
        payload={"reporting": "mandatory", "event_level": "1"} | REPORTER,
    )
    assert not item.is_anonymous and item.payload["reporter_id"] == SECRETS[1]
    assert worklist.log_of(item.item_id)[0].actor == SECRETS[0]


def test_a_later_run_settles_what_it_finds_out(lake_home: Path) -> None:
    ask("silent_feed", "feed|his|H101")
    resumed = worklist.settle("feed|his|H101", "resume", at=NOW)
    assert resumed is not None and resumed.state == "resumed"
    assert worklist.settle("feed|his|H101", "resume", at=NOW) == resumed  # nothing more to do
    again = worklist.settle("feed|his|H101", "reopen", reason="再次静默", at=NOW)
    assert again is not None and (again.state, again.reopened) == ("silent", 1)
    ask("critical_value", "cv")
    kept = worklist.settle("cv", "close", at=NOW)  # not the engine's to do
    assert kept is not None and kept.state == "detected"
    assert worklist.settle("nobody asked", "resume", at=NOW) is None


def test_creating_twice_is_one_item(lake_home: Path) -> None:
    told = {
        "org_code": "H001",
        "subject": "data/1",
        "actor": "研究者",
        "role": "researcher",
        "request_key": "dr|1",
    }
    assert worklist.create("data_request", **told) == worklist.create("data_request", **told)
    assert len(worklist.items()) == 1


def test_an_item_is_found_by_the_beginning_of_its_number(lake_home: Path) -> None:
    items = [ask("silent_feed", f"k{n}") for n in range(40)]
    assert worklist.find(items[0].item_id[:12])[0] == items[0]
    for unclear in ("W", "nothing", "%"):
        with pytest.raises(MedlakeError, match="E903"):
            worklist.find(unclear)


def test_the_list_is_the_most_urgent_first(lake_home: Path) -> None:
    later = ask("critical_value", "k1", at=NOW.replace(hour=3))
    sooner = ask("critical_value", "k2", at=NOW)
    never = ask("silent_feed", "k3", at=NOW)
    assert [i.item_id for i in worklist.items()] == [sooner.item_id, later.item_id, never.item_id]
    assert worklist.items(kind="silent_feed", org_codes=["H001"]) == [never]
    assert worklist.items(org_codes=["C201"]) == [] and worklist.items(role="lab_technician", limit=1) == [
        sooner
    ]


def test_no_fact_of_a_record_gets_into_the_log_file(lake_home: Path) -> None:
    item = ask("critical_value", "k1", patient_local_id="P-secret-1", value_text="7.77")
    worklist.act(item.item_id, "confirm", **CONFIRM)
    text = (lake_home / "logs" / "medlake.jsonl").read_text("utf-8")
    assert "item_moved" in text
    assert all(secret not in text for secret in ("P-secret-1", "7.77", "张", "一致"))
