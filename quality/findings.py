"""Findings with a life: they open, are seen again, close by themselves and reopen on recurrence.

State follows from two inputs alone: the findings as of the previous run, and what fires today. Running a date
again gives the same table. ``last_seen_on`` is NULL as long as a finding is found: what a day does not change, it does
not write (``quality.incremental``).
"""

from __future__ import annotations

from datetime import date

import duckdb

from quality.compile import day, text
from quality.rule import RuleBook
from quality.tickets.counting import org_sql

#: Columns of ``quality/finding``, in order, with their DuckDB types.
COLUMNS: dict[str, str] = {
    "finding_id": "VARCHAR",
    "rule_id": "VARCHAR",
    "rule_version": "VARCHAR",
    "domain": "VARCHAR",
    "severity": "VARCHAR",
    "category": "VARCHAR",
    "table_name": "VARCHAR",
    "record_key": "VARCHAR",
    "org_code": "VARCHAR",
    "doctor_id": "VARCHAR",
    "empi_id": "VARCHAR",
    "field_list": "VARCHAR",
    "observed": "VARCHAR",
    "expected": "VARCHAR",
    "message_zh": "VARCHAR",
    "remedy_zh": "VARCHAR",
    "source_file": "VARCHAR",
    "source_sheet": "VARCHAR",
    "source_line": "BIGINT",
    "first_seen_on": "DATE",
    "last_seen_on": "DATE",
    "closed_on": "DATE",
    "reopened": "BIGINT",
    "state": "VARCHAR",
    "effect": "VARCHAR",
    "products": "VARCHAR",
}
#: What today's evaluation says about a finding; the rest is its history.
_TODAY = tuple(
    c for c in COLUMNS if c not in ("first_seen_on", "last_seen_on", "closed_on", "reopened", "state")
)


_NONE_WAITS = """(SELECT NULL::VARCHAR AS table_name, NULL::VARCHAR AS org_code, NULL::VARCHAR AS record_key,
    NULL::VARCHAR AS field WHERE false)"""
_NO_WAIVER = "(SELECT NULL::VARCHAR AS rule_id, NULL::VARCHAR AS org_code WHERE false)"


def rule_register(book: RuleBook, as_of: date) -> str:
    """The rule book as SQL rows: one per rule and table, for joining and for ``quality/rule``."""
    rows = []
    for rule in book.rules:
        for target in rule.targets:
            effects = ",".join(f"{p}:{e}" for p, e in target.products.items())
            values = [
                text(rule.id), str(rule.version), text(rule.domain), text(rule.domain_zh), text(rule.domain_en),
                text(rule.title_zh), text(rule.title_en), text(rule.category), text(rule.kind), text(target.table),
                text(rule.severity), text(",".join(target.fields)), text(target.eligibility),
                text(target.condition), text(rule.remedy_zh), text(rule.source_standard), text(rule.verified),
                text(",".join(target.products)), text(effects), text(rule.owner), day(rule.introduced_on),
                text("observing" if rule.observing(as_of) else "active"), f"{float(rule.tolerance_pct)}::DOUBLE",
            ]  # fmt: skip
            rows.append(f"({', '.join(values)})")
    columns = (
        "rule_id, version, domain, domain_zh, domain_en, title_zh, title_en, category, kind, table_name, severity, "
        "field_list, eligibility, condition, remedy_zh, source_standard, verified, products, effects, owner, "
        "introduced_on, status, tolerance_pct"
    )
    return f"SELECT * REPLACE (version::BIGINT AS version) FROM (VALUES {', '.join(rows)}) AS t({columns})"


def merge(
    connection: duckdb.DuckDBPyConnection,
    book: RuleBook,
    as_of: date,
    previous: str | None,
    waived: str | None = None,
    waiting: str | None = None,
    last_on: date | None = None,
) -> None:
    """Make the temporary table ``finding`` from ``finding_now`` and the previous findings.

    Args:
        previous: SQL that stands for the findings as of the run before (in a FROM clause); None for the first.
        waived: SQL of the waivers that hold (``rule_id``, ``org_code``); a finding under one is ``waived``, not
            ``open``: it stays visible, and neither excludes nor asks.
        waiting: SQL of the fields that an institution corrected and whose source has not delivered the value
            (``table_name``, ``org_code``, ``record_key``, ``field``): a finding that only such a correction mends is
            ``corrected``, and closes for good when the source's own extract carries the value.
        last_on: the date of the run before: what was found then and is no longer was last seen on it.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE rule_register AS {rule_register(book, as_of)}")
    before = (
        previous or "(SELECT " + ", ".join(f"NULL::{t} AS {c}" for c, t in COLUMNS.items()) + " WHERE false)"
    )
    today = ", ".join(f"n.{c}" for c in _TODAY)
    corrected = (
        "coalesce(o.state <> 'closed' AND list_has_any(c.fields, string_split(o.field_list, ',')), false)"
    )
    # the history is joined narrow, and what is no longer found is told apart from it: no wide row enters a hash table
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE finding AS
        WITH finding_today AS NOT MATERIALIZED (
            SELECT
                md5(concat_ws('|', f.rule_id, f.table_name, f.org_code, f.record_key)) AS finding_id,
                f.*,
                r.version::VARCHAR AS rule_version,
                r.domain,
                r.category,
                r.remedy_zh,
                r.products
            FROM finding_now AS f
            INNER JOIN rule_register AS r ON r.rule_id = f.rule_id AND r.table_name = f.table_name
        ),
        merged AS (
            SELECT
                {today},
                coalesce(o.first_seen_on, {day(as_of)}) AS first_seen_on,
                NULL AS last_seen_on,
                NULL AS closed_on,
                coalesce(o.reopened, 0) + CASE WHEN o.state = 'closed' THEN 1 ELSE 0 END AS reopened,
                CASE
                    WHEN n.is_observing THEN 'observing'
                    WHEN w.rule_id IS NOT NULL THEN 'waived'
                    ELSE 'open'
                END AS state
            FROM finding_today AS n
            LEFT JOIN (SELECT finding_id, first_seen_on, reopened, state FROM {before}) AS o ON o.finding_id = n.finding_id
            LEFT JOIN {waived or _NO_WAIVER} AS w ON w.rule_id = n.rule_id AND w.org_code = {org_sql("n")}
            UNION ALL BY NAME
            SELECT o.* REPLACE (
                coalesce(o.last_seen_on, {day(last_on) if last_on else "NULL"}) AS last_seen_on,
                CASE WHEN {corrected} THEN NULL ELSE coalesce(o.closed_on, {day(as_of)}) END AS closed_on,
                CASE WHEN {corrected} THEN 'corrected' ELSE 'closed' END AS state
            )
            FROM {before} AS o
            LEFT JOIN (SELECT table_name, org_code, record_key, list(field) AS fields FROM {waiting or _NONE_WAITS} GROUP BY ALL)
                AS c ON c.table_name = o.table_name AND c.org_code = o.org_code AND c.record_key = o.record_key
            WHERE NOT EXISTS (SELECT 1 FROM finding_today AS n WHERE n.finding_id = o.finding_id)
        )
        SELECT {", ".join(f"{c}::{t} AS {c}" for c, t in COLUMNS.items())} FROM merged
    """)


def exclusions(connection: duckdb.DuckDBPyConnection, book: RuleBook) -> None:
    """Make ``exclusion``: the records that each product leaves out while their findings are open."""
    pairs = [
        f"({text(r.id)}, {text(t.table)}, {text(product)})"
        for r in book.rules
        for t in r.targets
        for product, effect in t.products.items()
        if effect == "exclude"
    ]
    gates = f"(VALUES {', '.join(pairs)}) AS g(rule_id, table_name, product)"
    if not pairs:
        gates = "(SELECT NULL::VARCHAR AS rule_id, NULL::VARCHAR AS table_name, NULL::VARCHAR AS product WHERE false) AS g"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE exclusion AS
        SELECT DISTINCT g.product, f.table_name, f.org_code, f.record_key
        FROM finding AS f
        INNER JOIN {gates} ON g.rule_id = f.rule_id AND g.table_name = f.table_name
        WHERE f.state = 'open' AND f.effect = 'exclude'
    """)


def changes(connection: duckdb.DuckDBPyConnection, as_of: date) -> dict[str, int]:
    """How the day moved the findings: now open, new, closed today, reopened today (they were closed before)."""
    row = connection.execute(f"""
        SELECT
            count(*) FILTER (state IN ('open', 'observing')),
            count(*) FILTER (state <> 'closed' AND first_seen_on = {day(as_of)}),
            count(*) FILTER (state = 'closed' AND closed_on = {day(as_of)})
        FROM finding
    """).fetchone()
    assert row is not None
    return {"open": int(row[0]), "new": int(row[1]), "closed_today": int(row[2])}
