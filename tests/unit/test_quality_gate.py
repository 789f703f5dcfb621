"""Integrity checks, scores and gates from small counts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from lake.registry import Product
from quality import findings, scorecards
from quality.gate import gates
from quality.integrity import Check, ledger_checks, plan
from quality.rule import rulebook

DAY = date(2026, 11, 20)


def books(
    *received: int, feed: str = "his", last: date = DAY, state: str = "committed", loaded: int | None = None
) -> list[dict[str, Any]]:
    """Ledger rows of one feed for consecutive days up to ``last``."""
    first = last - timedelta(days=len(received) - 1)
    return [
        {"feed": feed, "data_date": first + timedelta(days=i), "state": state, "received": n,
         "loaded": n if loaded is None else loaded, "duplicate": 0, "quarantined": 0}
        for i, n in enumerate(received)
    ]  # fmt: skip


def outcome(rows: list[dict[str, Any]], check_id: str, feed: str = "his") -> Check | None:
    return next((c for c in ledger_checks(rows, DAY) if c.id == check_id and c.subject == feed), None)


def test_a_feed_without_a_committed_batch_fails_and_names_its_products() -> None:
    check = outcome(books(100, state="undone"), "INT-004")
    assert check is not None
    assert check.passed is False
    assert check.products == ("operations",)
    assert "his" in check.message_zh
    assert "2026-11-20" in check.message_en


def test_an_empty_committed_batch_counts() -> None:
    check = outcome(books(0), "INT-004")
    assert check is not None
    assert check.passed is True


def test_a_ledger_that_does_not_balance_fails() -> None:
    check = outcome(books(100, loaded=98), "INT-001")
    assert check is not None
    assert (check.passed, check.failed) == (False, 2)


@pytest.mark.parametrize(
    ("days", "passed"),
    [
        ((90_000, 1000, 1100, 900, 1050), True),
        ((90_000, 1000, 1100, 900, 0), True),  # an empty day is a day
        ((90_000, 1000, 1100, 900, 7), False),  # a torn file
        ((90_000, 1000, 1100, 900, 90_000), False),  # the dump of all years again
        ((90_000, 1000, 1100, 5), None),  # too few days to know
        ((90_000, 10, 12, 9, 800), None),  # too small to judge
        ((90_000,), None),  # the initial load itself
    ],
)  # fmt: skip
def test_volume_is_held_against_the_days_before_without_the_initial_load(
    days: tuple[int, ...], passed: bool | None
) -> None:
    check = outcome(books(*days), "INT-003")
    assert check is not None
    assert check.passed is passed


def test_every_expected_feed_is_asked_for() -> None:
    asked = {c.subject for c in ledger_checks([], DAY)}
    assert asked == set(plan()["feeds"])


@pytest.fixture
def judged() -> duckdb.DuckDBPyConnection:
    """What the engine leaves: 200 follow-ups, 100 cards, 20 follow-ups excluded by HTN-004, one closed finding."""
    connection = duckdb.connect()
    connection.execute("CREATE TABLE htn_visit AS SELECT range AS rid FROM range(200)")
    for table in ("htn_card", "dm_card", "dm_visit", "ph_archive", "ph_exam"):
        connection.execute(f"CREATE TABLE {table} AS SELECT range AS rid FROM range(100)")
    connection.execute("""
        CREATE TABLE finding_now AS SELECT 'HTN-004' AS rule_id, 'htn_visit' AS table_name, 'V' || range AS record_key,
            'C201' AS org_code, 'D1' AS doctor_id, 'P1' AS empi_id, 'error' AS severity, 'sbp_mmhg' AS field_list,
            '{}' AS observed, '{}' AS expected, '血压' AS message_zh, 'f.csv' AS source_file, NULL::VARCHAR AS source_sheet,
            range AS source_line, false AS is_observing, 'exclude' AS effect
        FROM range(20)
    """)
    connection.execute("""
        CREATE TABLE rule_count AS SELECT * FROM (VALUES
            ('HTN-004', 'htn_visit', 'C201', 100, 20), ('HTN-009', 'htn_visit', 'C201', 100, 0),
            ('HTN-004', 'htn_visit', 'C202', 0, 0)
        ) AS t(rule_id, table_name, org_code, evaluated, failed)
    """)
    findings.merge(connection, rulebook(), DAY, None)
    findings.exclusions(connection, rulebook())
    return connection


def product(limit: float) -> list[Product]:
    return [Product("chronic_disease", "慢病管理", "Chronic disease management", "公共卫生科", limit)]


def test_a_share_within_the_limit_keeps_the_gate_open(judged: duckdb.DuckDBPyConnection) -> None:
    gate = gates(judged, rulebook(), product(5), [], DAY)[0]
    assert (gate.gate, gate.excluded, gate.eligible, gate.excluded_pct) == ("open", 20, 500, 4.0)
    assert gate.reason_zh == gate.reason_en == ""


def test_a_share_above_the_limit_closes_it_and_names_rules_and_shares(
    judged: duckdb.DuckDBPyConnection,
) -> None:
    gate = gates(judged, rulebook(), product(3.9), [], DAY)[0]
    assert gate.gate == "closed"
    for text in (gate.reason_zh, gate.reason_en):
        assert "HTN-004" in text
        assert "4%" in text
        assert "3.9%" in text


def test_integrity_closes_only_the_products_that_stand_on_it(judged: duckdb.DuckDBPyConnection) -> None:
    broken = Check(
        "INT-002", "htn_visit", "主键唯一", False, 10, 2, ("chronic_disease",), "2行重复", "2 rows"
    )
    assert gates(judged, rulebook(), product(100), [broken], DAY)[0].gate == "closed"
    other = [Product("operations", "运营总览", "Operations", "", 5)]
    assert gates(judged, rulebook(), other, [broken], DAY)[0].gate == "open"


def test_scores_follow_the_published_formula_and_na_is_not_zero(judged: duckdb.DuckDBPyConnection) -> None:
    scorecards.scorecards(judged, DAY)
    rows = judged.execute("SELECT org_code, domain, eligible, findings, score FROM scorecard").fetchall()
    # two evaluated rules: one at 20 per cent of weight 3, one clean -> 100 - (60 + 0) / 2
    assert sorted(rows) == [("C201", "ALL", 200, 20, 70.0), ("C201", "HTN", 200, 20, 70.0)]
