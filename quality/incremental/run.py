"""A day's evaluation from the check before: judged again is what the day can have changed, all else stands.

Left in the connection are ``rule_count`` of all records, ``finding_now`` of those judged again, and ``standing``, the
findings of the check before that these are held against. Equal to a full run: tests/generative/test_quality_incremental.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import duckdb

from lake import tables
from lake.runs import Run
from quality import engine, prepare
from quality.compile import name, text
from quality.engine import Evaluated, evaluate
from quality.incremental import changed, plan, signature
from quality.incremental.changed import Touched
from quality.incremental.plan import Plan
from quality.incremental.store import COUNT, Pair, Previous
from quality.incremental.worlds import World, Worlds
from quality.rule import RuleBook
from quality.shapes import contract_tables
from quality.tickets.counting import org_sql


@dataclass
class Outcome:
    """``whole``: rules that looked at every record, evaluated in the main connection; ``near``: those that looked at the
    records near a change, in that of ``worlds``. None: there were no such rules. ``rows`` counts all records."""

    plan: Plan
    signatures: dict[Pair, str]
    whole: Evaluated | None
    near: Evaluated | None
    worlds: Worlds | None
    rows: dict[str, int]
    judged_again: int


def signatures(connection: duckdb.DuckDBPyConnection, book: RuleBook, as_of: date) -> dict[Pair, str]:
    """The signatures of a book over the lake that a connection has as ``silver.<table>``."""
    present = prepare.present_tables(book, prepare.held_columns(connection))
    return signature.signatures(book, as_of, present)


def _pairs(connection: duckdb.DuckDBPyConnection, sorted_: Plan) -> None:
    """``pair``: each rule on each table with what it needs."""
    rows = [
        f"({text(rule)}, {text(table)}, '{need}')"
        for need, pairs in (("still", sorted_.still), ("narrow", sorted_.narrow), ("full", sorted_.full))
        for rule, table in sorted(pairs)
    ]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE pair AS SELECT * FROM (VALUES {', '.join(rows)}) AS p(rule_id, table_name, need)"
    )


def _only(needs: Iterable[str]) -> str:
    listed = ", ".join(text(n) for n in needs)
    return f"(rule_id, table_name) IN (SELECT (rule_id, table_name) FROM pair WHERE need IN ({listed}))"


def _near(
    connection: duckdb.DuckDBPyConnection,
    book: RuleBook,
    sorted_: Plan,
    before: Previous,
    run: Run,
    entries: str,
    touched: Mapping[str, Touched],
) -> tuple[Worlds, Evaluated]:
    """Judge what is near the change on both sides; what was said and counted goes to the main connection."""
    small = plan.book_of(book, sorted_.narrow)
    plain = set(contract_tables())
    concerned = {t for t in small.reads if t in plain and f"silver/{t}" in run.versions} - sorted_.whole
    worlds = Worlds(connection, before.run.versions, run.versions)
    worlds.take(concerned, entries)
    if sorted_.by_person:
        worlds.widen(concerned)
    worlds.cut(concerned, touched)
    past, found = (worlds.flags_of(side) for side in worlds.sides)
    evaluate(worlds.before.connection, small, before.run.data_date, flags=past, is_told=False)
    made = evaluate(worlds.now.connection, small, run.data_date, flags=found)
    wanted = _only(["narrow"])
    _copy(worlds.now, connection, "finding_now")
    connection.execute(f"INSERT INTO finding_now BY NAME SELECT * FROM copied WHERE {wanted}")
    for side_, sign in ((worlds.before, -1), (worlds.now, 1)):
        _copy(side_, connection, "rule_count")
        connection.execute(
            f"INSERT INTO rule_count SELECT * REPLACE ({sign} * evaluated AS evaluated, {sign} * failed AS failed) "
            f"FROM copied WHERE {wanted}"
        )
    keys = " UNION ".join(
        f"SELECT {text(table)}, org_code, record_key FROM {flags}.{name(table)}"
        for table in made.rows
        for flags in (past, found)
    )
    if keys:
        connection.execute(f"INSERT INTO judged_again {keys}")
    return worlds, made


def _copy(side: World, connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """A temporary table of a side as the main connection's ``copied``."""
    row = connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    shared = f"{name(row[0])}.main.copied"
    side.connection.execute(f"CREATE OR REPLACE TABLE {shared} AS FROM {table}")


def _counts(connection: duckdb.DuckDBPyConnection, before: Previous) -> None:
    """``rule_count`` of all records: what stood before, with what the change took and brought."""
    kept = tables.scan_sql(COUNT, before.run.versions[COUNT])
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE rule_count AS
        SELECT rule_id, table_name, org_code, sum(evaluated)::BIGINT AS evaluated, sum(failed)::BIGINT AS failed
        FROM (FROM rule_count UNION ALL BY NAME SELECT * FROM {kept} WHERE {_only(["still", "narrow"])})
        GROUP BY ALL
    """)


def _standing(connection: duckdb.DuckDBPyConnection, before: Previous, waived: str) -> None:
    """``standing``: the findings before that were judged again, or whose state others decide (waivers, corrections).

    Those of the latter that no rule judged again are still what they were: they are told again.
    """
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE standing_id AS
        SELECT f.finding_id,
            p.need IS NULL OR p.need = 'full' OR (p.need = 'narrow' AND a.record_key IS NOT NULL) AS is_judged
        FROM (SELECT finding_id, rule_id, table_name, org_code, record_key, state FROM {before.finding_sql}) AS f
        LEFT JOIN pair AS p ON p.rule_id = f.rule_id AND p.table_name = f.table_name
        LEFT JOIN judged_again AS a
            ON a.table_name = f.table_name AND a.org_code = f.org_code AND a.record_key = f.record_key
        WHERE is_judged OR f.state IN ('corrected', 'waived')
            OR (f.state = 'open' AND (f.rule_id, {org_sql("f")}) IN (SELECT (rule_id, org_code) FROM {waived}))
    """)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE standing AS
        SELECT f.* FROM {before.finding_sql} AS f SEMI JOIN standing_id USING (finding_id)
    """)
    connection.execute("""
        INSERT INTO finding_now BY NAME
        SELECT rule_id, table_name, record_key, org_code, doctor_id, empi_id, severity, field_list, observed, expected,
            message_zh, source_file, source_sheet, source_line, state = 'observing' AS is_observing, effect
        FROM standing SEMI JOIN (FROM standing_id WHERE NOT is_judged) USING (finding_id)
        WHERE state IN ('open', 'waived', 'observing')
    """)


def _rows(connection: duckdb.DuckDBPyConnection, book: RuleBook) -> dict[str, int]:
    """Records of each judged table that the lake has; tables that no rule looked at whole become views for whoever counts."""
    held = prepare.held_columns(connection)
    made = {
        t for (t,) in connection.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    }
    made |= {
        t for (t,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE temporary").fetchall()
    }
    for table in book.tables:
        if table not in made:
            rows = (
                f"silver.{name(table)}"
                if table in held
                else "(SELECT NULL::VARCHAR AS record_key WHERE false)"
            )
            connection.execute(f"CREATE TEMP VIEW {name(table)} AS SELECT * FROM {rows}")
    present = prepare.present_tables(book, held)
    there = [
        t
        for t in book.tables
        if t in present and any(book.evaluable(r, t, present) for r in book.of_table(t))
    ]
    counts = " UNION ALL ".join(f"SELECT {text(t)} AS t, count(*) FROM {name(t)}" for t in there)
    return dict(connection.execute(counts).fetchall()) if there else {}


def evaluate_changes(
    connection: duckdb.DuckDBPyConnection, book: RuleBook, run: Run, before: Previous, waived: str
) -> Outcome | None:
    """Judge again what a day can have changed since the check before.

    Args:
        connection: has views ``silver.<table>`` of the run and of what is given besides, and a schema ``flags``.
        waived: SQL of the waivers that hold, as for ``findings.merge``.

    Returns:
        None where no rule can be spared: then a full evaluation does the same for less.

    Raises:
        MedlakeError: E403, a rule's SQL does not run.
    """
    now = signatures(connection, book, run.data_date)
    old, new = before.run.versions, run.versions
    known: dict[str, Touched | None] = {}

    def count(table: str) -> int | None:
        if table not in known:
            full = f"silver/{table}"
            known[table] = changed.find(connection, table, old.get(full), new.get(full))
        touched = known[table]
        return None if touched is None else touched.count

    index = "silver/person_identifier"
    entries = changed.entries(old.get(index), new.get(index))
    persons_changed: bool | None = None
    if entries is not None and (archives := count("ph_archive")) is not None:
        moved = connection.execute(f"SELECT count(*) FROM ({entries})").fetchone()
        persons_changed = bool(archives) or bool(moved and moved[0])
    sorted_ = plan.plan(book, before.signatures, now, count, persons_changed)
    if not sorted_.still and not sorted_.narrow:
        return None
    _pairs(connection, sorted_)
    whole = near = worlds = None
    if sorted_.full:
        whole = evaluate(connection, plan.book_of(book, sorted_.full), run.data_date)
        connection.execute(f"DELETE FROM finding_now WHERE NOT {_only(['full'])}")
        connection.execute("CREATE OR REPLACE TEMP TABLE whole_count AS FROM rule_count")
        connection.execute(f"DELETE FROM rule_count WHERE NOT {_only(['full'])}")
    else:
        engine.nothing(connection)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE judged_again (table_name VARCHAR, org_code VARCHAR, record_key VARCHAR)"
    )
    if sorted_.narrow:
        assert entries is not None
        touched = {t: found for t, found in known.items() if found is not None}
        worlds, near = _near(connection, book, sorted_, before, run, entries, touched)
    _counts(connection, before)
    _standing(connection, before, waived)
    again = connection.execute("SELECT count(*) FROM judged_again").fetchone()
    return Outcome(sorted_, now, whole, near, worlds, _rows(connection, book), int(again[0]) if again else 0)
