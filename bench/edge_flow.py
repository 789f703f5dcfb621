"""72 hours of a city's flow at its 23 edge institutions: the files their systems drop while there is no network.

IoT points, public-health records and fee items in the proportions of the tender's day (2,000,000 : 300,000 :
1,000,000), one file an institution, feed and six hours. Columns are named as the contracts name them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench.tender_day import _columns, _instant, _lines, _struct

NODES = [*(f"H{n}" for n in range(101, 106)), *(f"C{n}" for n in range(201, 219))]
HOURS = 72
PERIODS = 12
PER_DAY = {"vital_reading": 2_000_000, "htn_visit": 300_000, "fee_item": 1_000_000}
FEEDS = {"vital_reading": "iot", "htn_visit": "public_health", "fee_item": "his"}


@dataclass(frozen=True)
class Flow:
    """Rows of each table in one file; every institution and period is alike."""

    each: dict[str, int]

    @classmethod
    def of(cls, records: int) -> Flow:
        whole = sum(PER_DAY.values())
        return cls({t: max(1, round(records * n / whole / len(NODES) / PERIODS)) for t, n in PER_DAY.items()})

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table over all institutions."""
        return {t: n * len(NODES) * PERIODS for t, n in self.each.items()}


def _reading(org: str, period: int, day: date, n: int) -> str:
    step = HOURS * 3600 / PERIODS / n
    seconds = f"{period * HOURS * 3600 // PERIODS} + i * {step}"
    return _struct(
        "vital_reading",
        {
            "device_id": f"'{org}D' || (i % 500)",
            "seq": f"{period * 10_000_000} + i",
            "metric_code": "['8867-4', '8480-6', '59408-5'][i % 3 + 1]",
            "value": "60 + i % 80",
            "unit": "['/min', 'mm[Hg]', '%'][i % 3 + 1]",
            "device_at": _instant(day, seconds, "%Y-%m-%dT%H:%M:%S.%g+08:00"),
            "gateway_at": _instant(day, f"{seconds} + 0.9", "%Y-%m-%dT%H:%M:%S.%g+08:00"),
            "quality_code": "'0'",
            "battery_pct": "80",
        },
    )


def _visit(org: str, period: int, day: date) -> dict[str, str]:
    return {
        "visit_id": f"'{org}V{period:02d}-' || i",
        "archive_id": f"'{org}A' || (i % 20000)",
        "visited_on": f"'{day + timedelta(days=period * 3 // PERIODS)}'",
        "visit_way_code": "['1', '2', '3'][i % 3 + 1]",
        "sbp_mmhg": "110 + i % 60",
        "dbp_mmhg": "70 + i % 30",
        "heart_rate_bpm": "60 + i % 40",
        "height_cm": "150 + i % 35",
        "weight_kg": "48.5 + i % 40",
        "drugs": "'氨氯地平片 5mg qd'",
        "visit_class_code": "CAST(1 + i % 2 AS VARCHAR)",
        "next_visit_on": f"'{day + timedelta(days=90)}'",
        "doctor_id": "'D' || (i % 60)",
        "recorded_at": f"'{day + timedelta(days=period * 3 // PERIODS)} 17:00:00'",
    }


def _fee(org: str, period: int, day: date) -> dict[str, str]:
    return {
        "fee_id": f"'{org}F{period:02d}-' || i",
        "encounter_id": f"'{org}E' || (i // 25)",
        "fee_at": _instant(day, f"{period * HOURS * 3600 // PERIODS} + i % 20000", "%Y-%m-%d %H:%M:%S"),
        "item_code_local": "'L' || (i % 3000)",
        "item_name": "['血常规', '静脉采血', '阿莫西林胶囊', '床位费', 'CT平扫'][i % 5 + 1]",
        "qty": "1 + i % 4",
        "unit_price": "5 + i % 90",
        "amount": "(5 + i % 90) * (1 + i % 4)",
    }


def write(flow: Flow, first_day: date, drops: dict[str, Path]) -> Iterator[Path]:
    """Write every file into its node's drop folder, under its last name only when it is whole."""
    import duckdb

    con: Any = duckdb.connect(config={"threads": 2})
    for period in range(PERIODS):
        for org, drop in drops.items():
            for table, feed in FEEDS.items():
                folder = drop / feed
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                suffix = ".ndjson" if table == "vital_reading" else ".csv"
                target = folder / f"{table}_{period:02d}{suffix}"
                draft = target.with_name(f".{target.name}.part")
                n = flow.each[table]
                if table == "vital_reading":
                    points = f"(SELECT i, {_reading(org, period, first_day, n)} AS q FROM range({n}) r(i))"
                    _lines(con, f"SELECT CAST(to_json(q) AS VARCHAR) AS line FROM {points} ORDER BY i", draft)
                else:
                    made = (
                        _visit(org, period, first_day)
                        if table == "htn_visit"
                        else _fee(org, period, first_day)
                    )
                    con.execute(
                        f"COPY (SELECT {_columns(table, made)} FROM range({n}) r(i)) TO '{draft}' (HEADER)"
                    )
                draft.rename(target)
                yield target
