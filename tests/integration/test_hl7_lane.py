"""From the MLLP door to the fast lane: a critical value asks for work at once, restarts and bad records included."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingestion import fastlane
from ingestion.receive import hl7_lane
from ingestion.receive.segment import Record
from lake import ops
from lake.settings import settings
from tests.hl7_door import Door, Sender
from tests.ingestion_world import adt, oru


def potassium(number: int, value: str) -> str:
    return oru(f"M{number}", f"R{number}", f"OBX|1|NM|2823-3^血钾^LN||{value}|mmol/L|3.5-5.3||||F\r")


def asked() -> list[dict[str, Any]]:
    with ops.engine().begin() as connection:
        rows = connection.execute(select(ops.work_request)).mappings().all()
    return [dict(r) | {"payload": json.loads(r["payload"])} for r in rows]


def until_asked(count: int) -> list[dict[str, Any]]:
    while len(found := asked()) < count:
        time.sleep(0.02)
    return found


def test_a_critical_value_asks_for_work_while_the_door_is_open(lake_home: Path) -> None:
    with Door() as door:
        sender = Sender(door.port)
        assert sender.send(potassium(1, "4.2")) == "AA"
        assert sender.send(potassium(2, "7.1")) == "AA"
        assert sender.send(adt("A1", "P1")) == "AA"
        (request,) = until_asked(1)
        door.stop()
    assert (request["kind"], request["org_code"], request["origin"]) == (
        "critical_value",
        "H101",
        "fast_lane",
    )
    assert request["payload"]["report_id"] == "R2"
    assert request["payload"]["patient_local_id"] == "P1"
    assert len(asked()) == 1


def test_what_was_received_before_a_kill_is_asked_for_after_it_once(lake_home: Path) -> None:
    with Door() as door:
        sender = Sender(door.port)
        assert sender.send(potassium(1, "7.1")) == "AA"
        until_asked(1)
        door.kill()
    position = settings().home / "receive" / "mllp" / "fastlane.position"
    position.unlink(missing_ok=True)  # as if the kill had come before the position was written
    with Door() as door:
        assert Sender(door.port).send(potassium(2, "7.2")) == "AA"
        until_asked(2)
        door.stop()
    assert {r["payload"]["report_id"] for r in asked()} == {"R1", "R2"}
    assert len(asked()) == 2


def record(seq: int, text: str, org: str = "H101") -> Record:
    return Record(seq, datetime(2026, 11, 18, 1, 30, tzinfo=UTC), org, text.encode())


def test_a_record_that_cannot_be_judged_does_not_hold_up_the_others(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fastlane.offer

    def offer(table: str, rows: list[dict[str, str | None]], org_code: str, received_at: datetime) -> int:
        if any(r["report_id"] == "R3" for r in rows):
            raise ValueError("a rule stumbles")
        return real(table, rows, org_code, received_at)

    monkeypatch.setattr(fastlane, "offer", offer)
    hl7_lane.results([record(n, potassium(n, "7.1")) for n in range(1, 8)])
    assert {r["payload"]["report_id"] for r in asked()} == {f"R{n}" for n in (1, 2, 4, 5, 6, 7)}
    log = (settings().log_dir / "medlake.jsonl").read_text()
    assert log.count("fast_lane_passed_over") == 1
    assert "7.1" not in log
    assert "王" not in log


def test_a_database_that_does_not_answer_is_tried_again(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def away(*_: object) -> int:
        raise OperationalError("select", {}, Exception("away"))

    monkeypatch.setattr(fastlane, "offer", away)
    with pytest.raises(OperationalError):
        hl7_lane.results([record(1, potassium(1, "7.1"))])


def test_each_institution_is_asked_on_its_own(lake_home: Path) -> None:
    texts = [record(n, potassium(n, "7.1"), org) for n, org in enumerate(("H101", "H101", "C201"), 1)]
    hl7_lane.results(texts)
    assert sorted((r["org_code"], r["payload"]["report_id"]) for r in asked()) == [
        ("C201", "R3"),
        ("H101", "R1"),
        ("H101", "R2"),
    ]
