"""What a day's readings say about the devices: clocks, gaps, order, bindings."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ingestion
from ingestion import iot
from ingestion.readers.telemetry import envelope
from lake.local_time import SHANGHAI
from tests.ingestion_world import DAY, NEXT, content, drop

NOON = datetime(2026, 11, 18, 12, 0, tzinfo=SHANGHAI)


def line(device: str, seq: int, *, taken: float, received: float | None = None) -> bytes:
    """One message; both times in seconds after noon."""
    node: dict[str, Any] = {"seq": seq, "metric": "8867-4", "value": 60, "unit": "/min"}
    node["ts_device"] = (NOON + timedelta(seconds=taken)).isoformat()
    at = NOON + timedelta(seconds=taken + 1 if received is None else received)
    return envelope(f"hmg/C201/vital/{device}/telemetry", at, json.dumps([node]).encode())


def deliver(name: str, *lines: bytes) -> None:
    drop("iot", "", f"mqtt_{name}.mqtt", b"\n".join(lines) + b"\n")
    ingestion.ingest_feed("iot", DAY)


def test_clocks_gaps_order_and_bindings(lake_home: Path) -> None:
    deliver(
        "1",
        *(line("GOOD", n, taken=n) for n in range(10)),
        *(line("AHEAD", n, taken=n + 500, received=n) for n in range(3)),
        *(line("BEHIND", n, taken=n - 7200, received=n) for n in range(6)),
        *(line("GAPS", n, taken=n) for n in (1, 2, 3, 7, 8, 20)),
        *(line("RESTART", n, taken=100 + n) for n in (8, 9, 10)),
        *(line("RESTART", n, taken=200 + n) for n in (0, 1, 2)),
        *(line("MIXED", n, taken=n, received=r) for r, n in enumerate((50, 2, 1040, 4, 60))),
    )
    drop(
        "iot",
        "C201",
        "binding_1.ndjson",
        b'{"device":"GOOD","archive":"A1","valid_from":"2026-11-18 12:00:05"}\n',
    )
    ingestion.ingest_feed("iot", DAY)
    told = iot.report(DAY)
    assert told["devices"] == 6 and told["readings"] == 36
    assert (told["clocks_ahead"], told["clocks_behind"]) == (2, 1)
    clocks = {r[0]: r[1:] for r in content("ops/device_clock", "device_id, offset_s, is_ahead, is_behind")}
    assert clocks["AHEAD"] == (500.0, True, False) and clocks["BEHIND"] == (-7200.0, False, True)
    assert clocks["GOOD"] == (-1.0, False, False)
    gaps = content("ops/device_gap", "device_id, first_seq, last_seq, missing, is_final")
    assert [g for g in gaps if g[0] in ("GAPS", "RESTART", "GOOD")] == [
        ("GAPS", 4, 6, 3, False),
        ("GAPS", 9, 19, 11, False),
    ]
    assert told["out_of_order"] == 3 and told["beyond_window"] == 2
    assert told["readings_without_person"] == 36 - 5
    suspect = content("silver/vital_reading", "device_id, quality_code, server_at IS NOT NULL")
    assert {r[0] for r in suspect if r[1] == "suspect"} == {"AHEAD", "MIXED"} and all(r[2] for r in suspect)


def test_a_gap_that_is_filled_is_gone_and_one_that_stays_becomes_final(lake_home: Path) -> None:
    deliver("1", *(line("D", n, taken=n) for n in (1, 2, 5, 6, 9)))
    assert iot.report(DAY)["missing"] == 4
    deliver("2", *(line("D", n, taken=n) for n in (3, 4)))
    first = iot.report(DAY)
    assert (first["gaps"], first["missing"], first["gaps_final"]) == (1, 2, 0)
    assert iot.report(DAY) == first, "the same again"
    late = NEXT + timedelta(days=3)
    assert iot.report(late)["gaps_final"] == 1
    days = content("ops/device_gap", "data_date, first_seq, is_final")
    assert days == [(DAY, 7, False), (late, 7, True)]


def test_without_any_reading(lake_home: Path) -> None:
    assert iot.report(DAY)["devices"] == 0
