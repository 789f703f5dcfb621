"""What the quality page shows, as plain values: aggregates of one checked date, never a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb

from lake import duck, registry, runs, tables
from quality.compile import day
from quality.docs import label
from quality.gates_explained import explain
from quality.integrity import plan
from quality.page_scores import Scores, gather_scores
from quality.rule import RuleBook
from quality.scorecards import ALL_DOMAINS

_TREND_DAYS = 14


@dataclass
class RuleLine:
    """One rule on one table, as the judge saw it."""

    rule_id: str
    table: str
    table_zh: str
    title_zh: str
    category: str
    severity: str
    kind: str
    rows: int
    evaluated: int
    failed: int
    threshold_pct: float
    success: bool
    observing: bool

    @property
    def rate_pct(self) -> float | None:
        return 100 * self.failed / self.evaluated if self.evaluated else None


@dataclass
class Facts:
    """Everything the templates need. ``orgs`` are ranked by score, those without one last."""

    data_date: date
    run_id: str
    rule_count: int
    rows: int
    evaluated: int
    findings: dict[str, int]
    new: int
    closed: int
    excluded: int
    gates: list[dict[str, Any]]
    integrity: list[dict[str, Any]]
    lines: list[RuleLine]
    orgs: list[dict[str, Any]]
    domains: list[tuple[str, str]]
    by_org: dict[tuple[str, str], dict[str, int]]
    trend: list[dict[str, Any]]
    scores: Scores
    org_names: dict[str, str] = field(default_factory=dict)

    @property
    def open(self) -> int:
        return sum(self.findings.values())

    @property
    def closed_gates(self) -> list[dict[str, Any]]:
        return [g for g in self.gates if g["gate"] == "closed"]

    @property
    def city_score(self) -> float | None:
        """Mean of the institutions' scores, each weighing as much as it was evaluated."""
        scored = [
            (o["scores"][ALL_DOMAINS], o["eligible"])
            for o in self.orgs
            if o["scores"].get(ALL_DOMAINS) is not None
        ]
        total = sum(n for _, n in scored)
        return sum(s * n for s, n in scored) / total if total else None

    def tables(self) -> list[dict[str, Any]]:
        """One entry per judged table with its lines, worst first."""
        made = []
        for table in dict.fromkeys(line.table for line in self.lines):
            lines = sorted(
                (line for line in self.lines if line.table == table),
                key=lambda x: (x.success, -(x.rate_pct or 0), x.rule_id),
            )
            made.append(
                {
                    "table": table,
                    "label": lines[0].table_zh,
                    "rows": lines[0].rows,
                    "lines": lines,
                    "failed_rules": sum(not x.success for x in lines),
                    "findings": sum(x.failed for x in lines),
                }
            )
        return made

    def of_rule(self, rule_id: str) -> list[RuleLine]:
        return [x for x in self.lines if x.rule_id == rule_id]


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
    return found


def newest_checked() -> runs.Run | None:
    """The newest run whose check is complete, if any."""
    run = runs.latest_run()
    while run is not None and "quality/gate" not in run.versions:
        run = runs.previous_run(run.data_date)
    return run


def _lines(rows: list[dict[str, Any]], book: RuleBook, data_date: date) -> list[RuleLine]:
    known = {r.id: r for r in book.rules}
    made = []
    for row in rows:
        rule = known.get(row["rule_id"])
        if rule is None:
            continue
        made.append(
            RuleLine(
                rule.id,
                row["subject"],
                label(row["subject"]),
                rule.title_zh,
                rule.category,
                rule.severity,
                rule.kind,
                row["rows"],
                row["evaluated"],
                row["failed"],
                row["threshold_pct"],
                row["success"],
                rule.observing(data_date),
            )
        )
    order = {t: i for i, t in enumerate(dict.fromkeys(t.table for r in book.rules for t in r.targets))}
    return sorted(made, key=lambda x: (order.get(x.table, len(order)), x.rule_id))


def _orgs(cards: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    by: dict[str, dict[str, Any]] = {}
    for card in cards:
        org = by.setdefault(
            card["org_code"],
            {
                "org_code": card["org_code"],
                "name": names.get(card["org_code"], card["org_code"]),
                "scores": {},
            },
        )
        org["scores"][card["domain"]] = card["score"]
        if card["domain"] == ALL_DOMAINS:
            org |= {"eligible": card["eligible"], "findings": card["findings"]}
    return sorted(by.values(), key=lambda o: (-(o["scores"].get(ALL_DOMAINS) or -1), o["org_code"]))


def gather(run: runs.Run, book: RuleBook) -> Facts:
    """Read the aggregates of a checked run.

    Raises:
        KeyError: the run has no check.
    """
    at = run.versions
    today = day(run.data_date)
    scan = {
        n: tables.scan_sql(f"quality/{n}", at[f"quality/{n}"])
        for n in ("gate", "validation", "scorecard", "finding")
    }
    names = dict(
        zip(
            registry.orgs()["org_code"].to_pylist(),
            registry.orgs()["org_short_name"].to_pylist(),
            strict=True,
        )
    )
    labels = {p.product: p for p in registry.products()}
    with duck.connect() as connection:
        gates = _rows(connection, f"SELECT * FROM {scan['gate']} WHERE data_date = {today}")
        validation = _rows(connection, f"SELECT * FROM {scan['validation']} WHERE data_date = {today}")
        cards = _rows(connection, f"SELECT * FROM {scan['scorecard']} WHERE data_date = {today}")
        severity = _rows(
            connection,
            f"SELECT severity, count(*) AS n FROM {scan['finding']} WHERE state <> 'closed' GROUP BY severity",
        )
        moved = _rows(
            connection,
            f"SELECT count(*) FILTER (state <> 'closed' AND first_seen_on = {today}) AS new, "
            f"count(*) FILTER (state = 'closed' AND closed_on = {today}) AS closed FROM {scan['finding']}",
        )[0]
        cells = _rows(
            connection,
            "SELECT rule_id, table_name, org_code, count(*) AS n "
            f"FROM {scan['finding']} WHERE state <> 'closed' GROUP BY ALL",
        )
        trend = _rows(
            connection,
            f"SELECT data_date, sum(findings)::BIGINT AS findings, sum(score * eligible) / sum(eligible) AS score "
            f"FROM {scan['scorecard']} WHERE domain = '{ALL_DOMAINS}' AND data_date <= {today} "
            f"GROUP BY data_date ORDER BY data_date DESC LIMIT {_TREND_DAYS}",
        )
        domains = dict.fromkeys((r.domain, r.domain_zh) for r in book.rules)
        scores = gather_scores(connection, run, names, dict(tuple(domains)))
    by_org: dict[tuple[str, str], dict[str, int]] = {}
    for cell in cells:
        by_org.setdefault((cell["rule_id"], cell["table_name"]), {})[cell["org_code"]] = cell["n"]
    order = list(labels)
    gates.sort(
        key=lambda g: (g["gate"] != "closed", order.index(g["product"]) if g["product"] in order else 99)
    )
    closed = any(g["gate"] == "closed" for g in gates)
    told = {e.product: e for e in explain(data_date=run.data_date)} if closed else {}
    for gate in gates:
        product = labels.get(gate["product"])
        gate |= {
            "label": product.label_zh if product else gate["product"],
            "owner": product.owner if product else "",
            "limit_pct": product.exclude_limit_pct if product else 100.0,
            "since": told[gate["product"]].since if gate["product"] in told else None,
            "advice_zh": told[gate["product"]].advice_zh if gate["product"] in told else "",
        }
    titles = {c["id"]: c for c in plan()["checks"]}
    books = [
        {**v, "title_zh": titles.get(v["rule_id"], {}).get("title_zh", v["rule_id"]),
         "remedy_zh": titles.get(v["rule_id"], {}).get("remedy_zh", "")}
        for v in validation
        if v["suite"] == "integrity"
    ]  # fmt: skip
    lines = _lines([v for v in validation if v["suite"] != "integrity"], book, run.data_date)
    return Facts(
        data_date=run.data_date,
        run_id=run.run_id,
        rule_count=len({x.rule_id for x in lines}),
        rows=sum({x.table: x.rows for x in lines}.values()),
        evaluated=sum(x.evaluated for x in lines),
        findings={r["severity"]: r["n"] for r in severity},
        new=moved["new"],
        closed=moved["closed"],
        excluded=sum(g["excluded"] for g in gates),
        gates=gates,
        integrity=sorted(books, key=lambda b: (b["rule_id"], b["subject"])),
        lines=lines,
        orgs=_orgs(cards, names),
        domains=list(domains),
        scores=scores,
        by_org=by_org,
        trend=trend[::-1],
        org_names=names,
    )
