"""Integrity: does the ledger balance, are keys unique, is the volume plausible, did every feed arrive?

These checks block; they look at the platform's own books, not at what the records say. ``integrity.yaml`` lists
them with their texts and the products that stand on each feed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import yaml

from lake import contracts, ledger, tables
from quality.compile import name

_COUNTS = ("received", "loaded", "duplicate", "quarantined")


@dataclass(frozen=True)
class Check:
    """One integrity check of one feed or table. ``passed`` None: not evaluated."""

    id: str
    subject: str
    title_zh: str
    passed: bool | None
    evaluated: int
    failed: int
    products: tuple[str, ...]
    message_zh: str = ""
    message_en: str = ""


@lru_cache(maxsize=1)
def plan() -> dict[str, Any]:
    """The reviewed list: ``feeds`` (feed -> products) and ``checks``."""
    node: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "integrity.yaml").read_text("utf-8"))
    return node


def _check(
    check_id: str, subject: str, of: str, passed: bool | None, evaluated: int, failed: int, **context: Any
) -> Check:
    """Fill a check's texts; ``of`` is the feed whose products it can close."""
    text = next(c for c in plan()["checks"] if c["id"] == check_id)
    told = passed is False
    return Check(
        check_id,
        subject,
        text["title_zh"],
        passed,
        evaluated,
        failed,
        tuple(plan()["feeds"][of]),
        text["message_zh"].format(**context) if told else "",
        text["message_en"].format(**context) if told else "",
    )


def ledger_checks(books: list[dict[str, Any]], data_date: date) -> list[Check]:
    """INT-001, INT-003 and INT-004 from the ledger's rows per feed and date (``ledger.by_feed()``)."""
    committed = [b for b in books if b["state"] == "committed"]
    limits = next(c for c in plan()["checks"] if c["id"] == "INT-003")["params"]
    checks: list[Check] = []
    for feed in plan()["feeds"]:
        days = {b["data_date"]: b for b in committed if b["feed"] == feed}
        today = days.get(data_date)
        checks.append(
            _check(
                "INT-004",
                feed,
                feed,
                today is not None,
                1,
                int(today is None),
                feed=feed,
                data_date=data_date,
            )
        )
        if today is None:
            continue
        received, *rest = (int(today[c]) for c in _COUNTS)
        accounted = sum(rest)
        checks.append(
            _check("INT-001", feed, feed, received == accounted, received, abs(received - accounted),
                   feed=feed, received=received, accounted=accounted)
        )  # fmt: skip
        # The first delivery is the initial load of years: no measure for a day.
        before = sorted((d, int(b["received"])) for d, b in days.items() if d < data_date)[1:]
        volumes = [n for _, n in before[-limits["window_days"] :]]
        usual = median(volumes) if volumes else 0
        passed = None
        if len(volumes) >= limits["min_days"] and usual >= limits["min_median"]:
            passed = received == 0 or limits["low_ratio"] * usual <= received <= limits["high_ratio"] * usual
        checks.append(
            _check("INT-003", feed, feed, passed, 0 if passed is None else 1, int(passed is False),
                   feed=feed, received=received, days=len(volumes), median=round(usual))
        )  # fmt: skip
    return checks


def key_checks(connection: duckdb.DuckDBPyConnection, versions: Mapping[str, int]) -> list[Check]:
    """INT-002 on every pinned silver table of the expected feeds.

    Keys are compared themselves: DuckDB's ``hash`` of several short texts collides within some ten thousand rows.
    """
    checks = []
    for feed in plan()["feeds"]:
        for table, contract in contracts.contract(feed).tables.items():
            if (at := versions.get(f"silver/{table}")) is None:
                continue
            keys = ", ".join(name(k) for k in contract.full_key)
            row = connection.execute(
                f"SELECT coalesce(sum(n), 0), coalesce(sum(n) - count(*), 0) FROM "
                f"(SELECT count(*) AS n FROM {tables.scan_sql(f'silver/{table}', at)} GROUP BY {keys})"
            ).fetchone()
            assert row is not None
            checks.append(
                _check("INT-002", table, feed, row[1] == 0, row[0], row[1], table=table, duplicates=row[1])
            )
    return checks


def integrity(
    connection: duckdb.DuckDBPyConnection, versions: Mapping[str, int], data_date: date
) -> list[Check]:
    """All integrity checks of a date over the run's pinned versions."""
    return [*ledger_checks(ledger.by_feed(), data_date), *key_checks(connection, versions)]
