"""Scores that a reader can recompute from the shown columns, shrinkage, ranks with their uncertainty, leads apart."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
import pytest

from quality import page_scores
from quality.scorecards import parameters
from quality.scorecards.compute import scorecards

DAY = date(2026, 11, 20)


def computed(
    counts: list[tuple[str, str, int, int]],
    *,
    domain: dict[str, str] | None = None,
    observing: tuple[str, ...] = (),
) -> duckdb.DuckDBPyConnection:
    """Scorecards of (rule, institution, evaluated, findings); rule names begin with their severity."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE rule_count (rule_id VARCHAR, table_name VARCHAR, org_code VARCHAR, evaluated BIGINT, failed BIGINT);"
        "CREATE TABLE rule_register (rule_id VARCHAR, table_name VARCHAR, domain VARCHAR, severity VARCHAR, status VARCHAR);"
        "CREATE TABLE finding (rule_id VARCHAR, table_name VARCHAR, org_code VARCHAR, state VARCHAR);"
    )
    for rule, org, evaluated, failed in counts:
        connection.execute("INSERT INTO rule_count VALUES (?, 't', ?, ?, ?)", [rule, org, evaluated, failed])
        connection.execute("INSERT INTO finding SELECT ?, 't', ?, 'open' FROM range(?)", [rule, org, failed])
    for rule in dict.fromkeys(c[0] for c in counts):
        severity = rule.partition("-")[0] if rule[0].islower() else "warn"
        status = "observing" if rule in observing else "active"
        connection.execute(
            "INSERT INTO rule_register VALUES (?, 't', ?, ?, ?)",
            [rule, (domain or {}).get(rule, "HTN"), severity, status],
        )
    scorecards(connection, DAY)
    return connection


def cards(connection: duckdb.DuckDBPyConnection, domain: str = "ALL") -> dict[str, dict[str, Any]]:
    rows = (
        connection.execute("SELECT * FROM scorecard WHERE domain = ?", [domain]).to_arrow_table().to_pylist()
    )
    return {r["org_code"]: r for r in rows}


MANY = [
    (rule, f"C{i}", 40 * i, (i * step) % 7)
    for rule, step in (("error-1", 2), ("warn-1", 3), ("info-1", 5), ("error-2", 4))
    for i in range(1, 9)
]


def test_a_reader_recomputes_every_score_from_the_shown_parts() -> None:
    connection = computed(MANY, domain={"error-2": "DM"})
    parts = connection.execute("SELECT * FROM scorecard_part").to_arrow_table().to_pylist()
    weights = {"error": 3.0, "warn": 1.0, "info": 0.2}
    rows = connection.execute("SELECT * FROM scorecard").to_arrow_table().to_pylist()
    assert len(rows) == 8 * 3
    for row in rows:
        own = [p for p in parts if p["org_code"] == row["org_code"] and row["domain"] in ("ALL", p["domain"])]
        cost = sum(weights[p["severity"]] * 100 * p["findings"] / p["evaluated"] for p in own) / len(own)
        assert row["score"] == pytest.approx(max(0, 100 - cost), abs=0.00501)
        shrunk = [
            (p["findings"] + p["prior_n"] * p["group_pct"] / 100) / (p["evaluated"] + p["prior_n"])
            for p in own
        ]
        told = sum(weights[p["severity"]] * 100 * s for p, s in zip(own, shrunk, strict=True)) / len(own)
        assert row["shrunk_score"] == pytest.approx(max(0, 100 - told), abs=0.00501)
        assert (row["rules"], row["eligible"]) == (len(own), sum(p["evaluated"] for p in own))
        assert row["score_low"] <= row["shrunk_score"] <= row["score_high"]


def test_one_bad_record_of_two_does_not_make_a_small_institution_the_worst() -> None:
    counts = [("error-1", f"C{i}", 1000, 20 + i) for i in range(10)] + [
        ("error-1", "BAD", 1000, 300),
        ("error-1", "TINY", 2, 1),
    ]
    found = cards(computed(counts))
    assert found["TINY"]["score"] == 0  # the open formula says what it says: 3 x 50 per cent
    assert found["TINY"]["is_small"]
    assert not found["BAD"]["is_small"]
    assert found["TINY"]["shrunk_score"] > found["BAD"]["shrunk_score"]
    assert found["TINY"]["rank_best"] < found["BAD"]["rank_best"]
    assert abs(found["BAD"]["shrunk_score"] - found["BAD"]["score"]) < 3  # many records speak for themselves


def test_ranks_are_told_apart_only_where_the_intervals_are() -> None:
    found = cards(
        computed([("error-1", "A", 10_000, 10), ("error-1", "B", 10_000, 11), ("error-1", "C", 10_000, 2000)])
    )
    ranks = {o: (c["rank_best"], c["rank_worst"]) for o, c in found.items()}
    assert ranks == {"A": (1, 2), "B": (1, 2), "C": (3, 3)}


def test_equal_rates_pool_and_scattered_rates_do_not() -> None:
    def prior(counts: list[int]) -> float:
        made = computed([("error-1", f"C{i}", 200, n) for i, n in enumerate(counts)])
        row = made.execute("SELECT any_value(prior_n) FROM scorecard_part").fetchone()
        assert row is not None
        return float(row[0])

    bounds = parameters(DAY)
    assert prior([20] * 6) == bounds.prior_most
    assert bounds.prior_least <= prior([0, 190, 3, 150, 60, 100]) < 5
    assert prior([20, 100]) == bounds.prior_default  # two say nothing of a spread


def test_what_was_not_evaluated_has_no_row_and_all_wrong_has_zero() -> None:
    found = cards(computed([("error-1", "NONE", 0, 0), ("error-1", "WRONG", 50, 50)]))
    assert set(found) == {"WRONG"}
    assert found["WRONG"]["score"] == 0


def test_rules_in_observation_and_rules_that_are_leads_take_no_points() -> None:
    leads = parameters(DAY).leads
    assert leads
    plain = [("warn-1", "A", 100, 5), ("warn-1", "B", 100, 9)]
    extra = [(rule, org, 100, 90) for rule in (*leads, "error-new") for org in ("A", "B")]
    columns = "org_code, domain, eligible, findings, score, shrunk_score, rank, rank_best, rank_worst"
    sql = f"SELECT {columns} FROM scorecard ORDER BY ALL"
    without = computed(plain).execute(sql).fetchall()
    assert computed(plain + extra, observing=("error-new",)).execute(sql).fetchall() == without


@pytest.mark.parametrize(
    ("lows", "left"),
    [([], 95.0), ([100.0, 100.0], 95.0), ([None, 97.2], 95.0), ([81.4, 99.0], 80.0), ([3.0], 0.0)],
)
def test_the_axis_of_intervals_never_shrinks_to_nothing(lows: list[float | None], left: float) -> None:
    scores = page_scores.Scores(
        "", {}, 0, [], domains={"HTN": "高血压"}, cards={"HTN": [{"score_low": low} for low in lows]}
    )
    assert scores.scale("HTN") == left
