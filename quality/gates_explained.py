"""Why a data product is blocked, since when, and what would unblock it: the gate's own numbers taken apart.

A gate closes by an integrity check, or when too large a share of records is excluded. The second opens again when
enough records are mended: how many, and which rule at which institution gets there with the fewest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lake import duck, registry, runs, tables
from lake.errors import MedlakeError
from quality.compile import day, text

GATE, EXCLUSION, FINDING, VALIDATION, RULE = (
    f"quality/{t}" for t in ("gate", "exclusion", "finding", "validation", "rule")
)

#: Steps that a sentence names; all are in the list.
_TOLD = 5


@dataclass(frozen=True)
class Mend:
    """``records`` that would no longer be excluded if this rule's findings at this institution were mended alone."""

    rule_id: str
    title_zh: str
    org_code: str
    records: int


@dataclass(frozen=True)
class Explained:
    """One product. ``since``: first date of the current unbroken run of closed (or open) checks; ``to_mend``: how many
    excluded records must be mended to get under the limit (0: the share does not block)."""

    product: str
    label_zh: str
    gate: str
    since: date
    reason_zh: str
    reason_en: str
    excluded: int
    eligible: int
    excluded_pct: float
    limit_pct: float
    to_mend: int
    steps: tuple[Mend, ...]
    also: int
    checks: tuple[dict[str, Any], ...]
    advice_zh: str
    advice_en: str

    def as_dict(self) -> dict[str, Any]:
        made = dict(self.__dict__)
        return made | {"steps": [s.__dict__ for s in self.steps], "checks": list(self.checks)}


def explain(product: str | None = None, data_date: date | None = None) -> list[Explained]:
    """The gates of a date (default: the newest checked one), closed ones first.

    Raises:
        MedlakeError: E423 nothing was checked; E424 there is no such product.
    """
    run = runs.get_run(data_date) if data_date else runs.latest_run()
    while data_date is None and run is not None and GATE not in run.versions:
        run = runs.previous_run(run.data_date)
    if run is None or GATE not in run.versions:
        raise MedlakeError("E423", data_date=data_date or "—")
    known = {p.product: p for p in registry.products()}
    if product is not None and product not in known:
        raise MedlakeError("E424", product=product, known="、".join(known))
    with duck.connect() as connection:
        for full in (GATE, EXCLUSION, FINDING, VALIDATION, RULE):
            sql = tables.scan_sql(full, run.versions[full])
            connection.execute(f"CREATE VIEW {full.partition('/')[2]} AS SELECT * FROM {sql}")
        only = "" if product is None else f"AND product = {text(product)}"
        rows = connection.execute(
            f"SELECT * FROM gate WHERE data_date = {day(run.data_date)} {only}"
        ).to_arrow_table()
        found = [_explained(connection, r, known[r["product"]]) for r in rows.to_pylist()]
    return sorted(found, key=lambda e: (e.gate != "closed", e.product))


def _explained(
    connection: duckdb.DuckDBPyConnection, row: dict[str, Any], known: registry.Product
) -> Explained:
    product, closed = str(row["product"]), row["gate"] == "closed"
    checks = _checks(connection, product, row["data_date"]) if closed else []
    over = row["excluded_pct"] > known.exclude_limit_pct
    # the gate compares the share rounded to two places; this many may stay
    allowed = _allowed(int(row["eligible"]), known.exclude_limit_pct)
    to_mend = max(0, int(row["excluded"]) - allowed) if over else 0
    steps, also = _steps(connection, product, to_mend) if to_mend else ((), 0)
    zh, en = _advice(checks, to_mend, steps, also)
    return Explained(
        product=product,
        label_zh=known.label_zh,
        gate=str(row["gate"]),
        since=_since(connection, product, row["data_date"]),
        reason_zh=str(row["reason_zh"]),
        reason_en=str(row["reason_en"]),
        excluded=int(row["excluded"]),
        eligible=int(row["eligible"]),
        excluded_pct=float(row["excluded_pct"]),
        limit_pct=known.exclude_limit_pct,
        to_mend=to_mend,
        steps=steps,
        also=also,
        checks=tuple(checks),
        advice_zh=zh,
        advice_en=en,
    )


def _allowed(eligible: int, limit_pct: float) -> int:
    """The most excluded records with which the rounded share is not above the limit."""
    if not eligible:
        return 0
    most = math.floor(eligible * limit_pct / 100)
    while round(100 * (most + 1) / eligible, 2) <= limit_pct:
        most += 1
    while most and round(100 * most / eligible, 2) > limit_pct:
        most -= 1
    return most


def _since(connection: duckdb.DuckDBPyConnection, product: str, data_date: date) -> date:
    """First date of the unbroken run of equal gates that ends on a date."""
    row = connection.execute(f"""
        WITH history AS (
            SELECT data_date, gate, arg_max(gate, data_date) OVER () AS now
            FROM gate WHERE product = {text(product)} AND data_date <= {day(data_date)}
        )
        SELECT min(data_date) FROM history
        WHERE data_date > coalesce((SELECT max(data_date) FROM history WHERE gate <> now), DATE '0001-01-01')
    """).fetchone()
    assert row is not None
    since: date = row[0]
    return since


def _checks(connection: duckdb.DuckDBPyConnection, product: str, data_date: date) -> list[dict[str, Any]]:
    """Integrity checks that failed and that the gate's reason names."""
    rows = connection.execute(f"""
        SELECT v.rule_id AS check_id, v.subject, v.failed, v.message_zh
        FROM validation AS v
        INNER JOIN gate AS g ON g.data_date = v.data_date AND g.product = {text(product)}
        WHERE v.data_date = {day(data_date)} AND v.suite = 'integrity' AND v.success IS FALSE
            AND contains(g.reason_zh, v.message_zh)
        ORDER BY v.rule_id, v.subject
    """).to_arrow_table()
    return list(rows.to_pylist())


def _steps(connection: duckdb.DuckDBPyConnection, product: str, to_mend: int) -> tuple[tuple[Mend, ...], int]:
    """The fewest (rule, institution) pairs that together mend enough, largest first; and how many records are excluded
    by more than one rule (they are mended by none of the steps alone)."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE held AS
        SELECT e.table_name, e.org_code, e.record_key, f.rule_id, any_value(r.title_zh) AS title_zh,
            count(*) OVER (PARTITION BY e.table_name, e.org_code, e.record_key) AS rules
        FROM exclusion AS e
        INNER JOIN finding AS f
            ON f.table_name = e.table_name AND f.record_key = e.record_key AND f.org_code IS NOT DISTINCT FROM e.org_code
        INNER JOIN rule AS r ON r.rule_id = f.rule_id AND r.table_name = f.table_name
        WHERE e.product = {text(product)} AND f.state = 'open' AND f.effect = 'exclude'
            AND list_contains(string_split(r.effects, ','), {text(product + ":exclude")})
        GROUP BY e.table_name, e.org_code, e.record_key, f.rule_id
    """)
    rows = connection.execute(f"""
        WITH own AS (
            SELECT rule_id, any_value(title_zh) AS title_zh, org_code, count(*) AS records
            FROM held WHERE rules = 1 GROUP BY rule_id, org_code
        ),
        summed AS (
            SELECT *, sum(records) OVER (
                ORDER BY records DESC, rule_id, org_code ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) - records AS before
            FROM own
        )
        SELECT rule_id, title_zh, org_code, least(records, {to_mend} - before)::BIGINT AS records
        FROM summed WHERE before < {to_mend} ORDER BY summed.records DESC, rule_id, org_code
    """).fetchall()
    several = connection.execute(
        "SELECT count(*) FROM (SELECT DISTINCT table_name, org_code, record_key FROM held WHERE rules > 1)"
    ).fetchone()
    assert several is not None
    return tuple(Mend(r, t, o, int(n)) for r, t, o, n in rows), int(several[0])


def _advice(
    checks: list[dict[str, Any]], to_mend: int, steps: tuple[Mend, ...], also: int
) -> tuple[str, str]:
    zh = [f"先恢复完整性检查 {c['check_id']}（{c['subject']}）" for c in checks]
    en = [f"make integrity check {c['check_id']} ({c['subject']}) hold" for c in checks]
    if not to_mend:
        return "；".join(zh), "; ".join(en)
    told = steps[:_TOLD]
    parts_zh = [f"{s.org_code} 的 {s.rule_id} {s.records}条" for s in told]
    parts_en = [f"mend {s.records} of {s.rule_id} at {s.org_code}" for s in told]
    if len(steps) > len(told):
        parts_zh.append(f"另{len(steps) - len(told)}项")
        parts_en.append(f"{len(steps) - len(told)} more steps")
    if (left := to_mend - sum(s.records for s in steps)) > 0:
        parts_zh.append(f"同时违反多条规则的{also}条记录中的{left}条（各条规则都要改正）")
        parts_en.append(f"mend {left} of the {also} records that fail several rules (all of them)")
    zh.append(f"至少再改正{to_mend}条被剔除的记录，最省的做法：" + "、".join(parts_zh))
    en.append(f"mend at least {to_mend} excluded records; fewest steps: " + ", ".join(parts_en))
    return "；".join(zh), "; ".join(en)
