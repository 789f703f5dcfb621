"""Scores for the quality page: all domains' rankings with intervals, each institution's card, parts and trend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from lake import runs, tables
from quality.compile import day
from quality.scorecards import ALL_DOMAINS, formula_zh, parameters
from quality.scorecards.read import PART, cards_sql

#: Days of the trend, and the costliest rules that an institution's page lists.
_DAYS, _PARTS = 30, 40


@dataclass
class Scores:
    """``domains``: code -> Chinese name, ALL first. ``cards``: domain -> rows, best first (``quality/scorecard``'s
    columns and ``name``). ``parts`` and ``trend``: institution -> rows."""

    formula: str
    weights: dict[str, float]
    small_below: int
    leads: list[str]
    domains: dict[str, str]
    cards: dict[str, list[dict[str, Any]]]
    parts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    trend: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def orgs(self) -> list[str]:
        return [c["org_code"] for c in self.cards.get(ALL_DOMAINS, [])]

    @property
    def unscored(self) -> list[str]:
        """Names of the domains that nothing was evaluated in."""
        return [zh for code, zh in self.domains.items() if not self.cards.get(code)]

    def of_org(self, org: str) -> list[dict[str, Any]]:
        """The institution's row of each domain, ``score`` None where nothing was evaluated."""
        made = []
        for code, zh in self.domains.items():
            own = next((c for c in self.cards.get(code, []) if c["org_code"] == org), None)
            made.append({"domain": code, "domain_zh": zh, "score": None} | (own or {}))
        return made

    def scale(self, domain: str) -> float:
        """Left end of the intervals' axis; the right end is 100."""
        lows = [c["score_low"] for c in self.cards.get(domain, []) if c["score_low"] is not None]
        return max(0.0, 5 * (min([*lows, 95.0]) // 5))


def gather_scores(
    connection: duckdb.DuckDBPyConnection, run: runs.Run, names: dict[str, str], domains: dict[str, str]
) -> Scores:
    """Read the scores of a checked run. ``domains`` are the rule book's, in its order."""

    def rows(sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
        return found

    today, cards = day(run.data_date), cards_sql(run)
    p = parameters(run.data_date)
    made = Scores(formula_zh(p), p.weights, p.small_below, p.leads, {ALL_DOMAINS: "全部领域"} | domains, {})
    for row in rows(
        f"SELECT * FROM {cards} WHERE data_date = {today} "
        "ORDER BY coalesce(shrunk_score, score) DESC NULLS LAST, org_code"
    ):
        made.cards.setdefault(row["domain"], []).append(
            row | {"name": names.get(row["org_code"], row["org_code"])}
        )
    for row in rows(
        f"SELECT org_code, data_date, score FROM {cards} WHERE domain = '{ALL_DOMAINS}' "
        f"AND data_date <= {today} AND data_date > {today} - {_DAYS} ORDER BY org_code, data_date"
    ):
        made.trend.setdefault(row["org_code"], []).append(row)
    if PART in run.versions:
        for row in rows(
            "WITH part AS (SELECT *, weight * rate_pct / count(*) OVER (PARTITION BY org_code) AS points "
            f"FROM {tables.scan_sql(PART, run.versions[PART])}) SELECT * FROM part WHERE points > 0 QUALIFY "
            f"row_number() OVER (PARTITION BY org_code ORDER BY points DESC, rule_id, table_name) <= {_PARTS} "
            "ORDER BY org_code, points DESC, rule_id, table_name"
        ):
            made.parts.setdefault(row["org_code"], []).append(row)
    return made


def polyline(values: list[float], low: float, high: float) -> str:
    """Points of a curve in a 240 x 48 box; one value makes none."""
    if len(values) < 2:
        return ""
    step, span = 240 / (len(values) - 1), (high - low) or 1
    return " ".join(f"{i * step:.1f},{44 - 40 * (v - low) / span:.1f}" for i, v in enumerate(values))
