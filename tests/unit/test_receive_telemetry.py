"""The reader of MQTT messages: every object a record, every refusal a place and a reason, clocks judged and never set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.readers import telemetry
from tests.ingestion_world import Collected, landed

AT = datetime(2026, 11, 18, 8, 0, tzinfo=UTC)


def read(path: Path, *messages: tuple[str, bytes], at: datetime = AT) -> Collected:
    lines = [telemetry.envelope(topic, at, payload) for topic, payload in messages]
    found = Collected()
    telemetry.read(landed(path / "mqtt_1.mqtt", b"\n".join(lines) + b"\n", org=""), found)
    return found


def message(
    kind: str, *objects: dict[str, Any], device: str = "D1", channel: str = "telemetry"
) -> tuple[str, bytes]:
    import json

    return f"hmg/C201/{kind}/{device}/{channel}", json.dumps(list(objects), ensure_ascii=False).encode()


def reading(seq: int, at: datetime = AT, **more: Any) -> dict[str, Any]:
    return {"seq": seq, "metric": "8867-4", "value": 61.5, "unit": "/min", "ts_device": at.isoformat()} | more


def test_the_topic_says_what_the_object_leaves_out(tmp_path: Path) -> None:
    rows = read(
        tmp_path, message("vital", reading(1), reading(2, device="D2", ts_server="2026-11-18T08:00:01Z"))
    )
    first, second = rows.tables["vital_reading"]
    assert (first["device_id"], first["org_code"], first["seq"], first["value"]) == (
        "D1",
        "C201",
        "1",
        "61.5",
    )
    assert first["server_at"].startswith("2026-11-18T08:00:00") and first["source_line"] == 1
    assert (second["device_id"], second["server_at"]) == ("D2", "2026-11-18T08:00:01Z")
    assert rows.rejects == []


def test_each_kind_has_its_table(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        message("cold_chain", {"seq": 1, "ts_device": AT.isoformat(), "temp": 9.1}, device="S1"),
        message(
            "equipment",
            {"meter": "electricity", "ts_device": AT.isoformat(), "value": 1, "unit": "kWh"},
            device="E1",
        ),
        message(
            "rfid", {"epc": "X", "ts_device": AT.isoformat(), "event": "in"}, device="R1", channel="event"
        ),
        message("vital", {"status": "offline"}, channel="status"),
    )
    assert found.rejects == []
    assert found.tables["cold_chain_reading"][0]["sensor_id"] == "S1"
    assert found.tables["equipment_reading"][0]["asset_id"] == "E1"
    assert found.tables["rfid_event"][0]["reader_id"] == "R1"
    status = found.tables["device_status"][0]
    assert (status["device_id"], status["status_code"]) == ("D1", "offline")
    assert status["status_at"].startswith("2026-11-18T08:00:00"), "a last will has no time of its own"


def test_a_clock_ahead_of_receipt_is_flagged_and_kept(tmp_path: Path) -> None:
    late, ahead = AT - timedelta(hours=5), AT + timedelta(minutes=10)
    rows = read(
        tmp_path,
        message("vital", reading(1, late), reading(2, AT - timedelta(seconds=3))),
        message("vital", reading(1, ahead), reading(2, AT, quality="good"), device="D2"),
    ).tables["vital_reading"]
    assert [r["clock_offset_s"] for r in rows] == ["-3.0", "-3.0", "600.0", "600.0"], (
        "the smallest delay tells"
    )
    assert [r["quality_code"] for r in rows] == [None, None, "suspect", "good"]
    assert [r["device_at"] for r in rows][0::2] == [late.isoformat(), ahead.isoformat()], (
        "no time is rewritten"
    )


@pytest.mark.parametrize(
    ("topic", "payload", "code"),
    [
        ("hmg/C201/vital/D1", b"[]", "E265"),
        ("hmg/C201/vital/D1/telemetry/x", b"[]", "E265"),
        ("xyz/C201/vital/D1/telemetry", b"[]", "E265"),
        ("hmg/C299/vital/D1/telemetry", b"[]", "E265"),
        ("hmg/C201/vital/D1/other", b"[]", "E265"),
        ("hmg/C201/vital/D1/telemetry", b"null", "E266"),
        ("hmg/C201/vital/D1/telemetry", b'"x"', "E266"),
        ("hmg/C201/vital/D1/telemetry", b"\x00\x01\xff", "E266"),
        ("hmg/C201/vital/D1/telemetry", b'[{"seq":1}', "E266"),
    ],
)
def test_refusals(tmp_path: Path, topic: str, payload: bytes, code: str) -> None:
    found = read(tmp_path, (topic, payload))
    assert found.codes() == [code] and found.tables == {} and found.rejects[0].line == 1


def test_an_empty_payload_holds_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, ("hmg/C201/vital/D1/status", b""), message("vital"), message("vital", reading(1)))
    assert found.rejects == [] and [len(r) for r in found.tables.values()] == [1]


def test_a_payload_cannot_pretend_to_be_the_envelope(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        ("hmg/C201/vital/D1/telemetry", b'[]","topic":"hmg/H001/vital/D1/telemetry","payload":"[{}]'),
    )
    assert found.codes() == ["E266"] and found.tables == {}


_ELEMENT = st.one_of(st.just({"seq": 1}), st.just("text"), st.just(1.5), st.none(), st.just([1]), st.just({}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(_ELEMENT, max_size=4), min_size=1, max_size=5))
def test_every_element_is_a_row_or_a_reject(tmp_path: Path, payloads: list[list[Any]]) -> None:
    import json

    topic = "hmg/C201/vital/D1/telemetry"
    found = read(tmp_path, *((topic, json.dumps(p).encode()) for p in payloads))
    objects = sum(isinstance(e, dict) for p in payloads for e in p)
    assert len(found.tables.get("vital_reading", [])) == objects
    assert len(found.rejects) == sum(len(p) for p in payloads) - objects
