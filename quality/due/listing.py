"""The due list of a date, from the rules themselves: what each would find later if nobody did anything.

A rule with ``look`` is evaluated as of that later date with what the lake has now (its own eligibility, condition and
prerequisites); what it finds there is due, where its grace has not ended and ``undone`` holds (a rule that also finds
other things than an absence says so there). A rule whose records have one task after another (a child's
next stage) names a set query that says which is next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

import duckdb

from lake.errors import MedlakeError
from quality import compile as sql
from quality.compile import bind, day, name, text
from quality.prepare import Prepared, prepare, run_query
from quality.rule import Rule, RuleBook, Target

COLUMNS: dict[str, str] = {
    "rule_id": "VARCHAR",
    "rule_version": "VARCHAR",
    "severity": "VARCHAR",
    "table_name": "VARCHAR",
    "record_key": "VARCHAR",
    "org_code": "VARCHAR",
    "doctor_id": "VARCHAR",
    "empi_id": "VARCHAR",
    "what_zh": "VARCHAR",
    "due_on": "DATE",
    "fails_on": "DATE",
}
_FLAGS = "due_flags"


def rules_with_due(book: RuleBook) -> list[Rule]:
    return [r for r in book.rules if any(t.due for t in r.targets)]


def _target(target: Target) -> Target:
    """A target as it is evaluated here; its due expressions stand where the columns that SQL needs are looked for."""
    due = target.due
    assert due is not None
    texts = {"due_on": due.due_on, "fails_on": due.fails_on}
    texts |= {"undone": due.undone} if due.undone else {}
    texts |= {"what_zh": due.what_zh} if due.what_zh else {}
    if due.query is None:
        return replace(target, observed={**target.observed, **texts})
    return replace(
        target, query=due.query, eligibility="true", condition=due.undone, warn_when=None, dated_by=None,
        observed=texts, expected={},
    )  # fmt: skip


def _due_rule(book: RuleBook, rule: Rule) -> Rule:
    targets = tuple(_target(t) for t in rule.targets if t.due)
    params = dict(rule.params)
    for target in targets:
        if target.query:
            params = {**book.queries[target.query].params, **params}
    return replace(rule, targets=targets, params=params)


def _due_book(book: RuleBook) -> RuleBook:
    """The rules with due entries, on the tables that have them, and what they need."""
    due = rules_with_due(book)
    small = book.only(*(r.id for r in due))
    ids = {r.id for r in due}
    return replace(small, rules=tuple(_due_rule(book, r) if r.id in ids else r for r in small.rules))


def _looks(
    connection: duckdb.DuckDBPyConnection, book: RuleBook, ids: Iterable[str], as_of: date
) -> dict[date, list[str]]:
    """Date as of which rules are evaluated -> their ids; a rule with its own query looks at today."""
    found: dict[date, list[str]] = {}
    for rule_id in ids:  # some forty rules
        rule = book.rule(rule_id)
        for target in rule.targets:
            at = as_of
            if target.due and target.due.look:
                row = connection.execute(
                    f"SELECT ({bind(target.due.look, rule.params, as_of)})::DATE"
                ).fetchone()
                assert row is not None
                at = row[0]
            found.setdefault(at, [])
            if rule_id not in found[at]:
                found[at].append(rule_id)
    return found


def _select(rule: Rule, target: Target, as_of: date, since: date) -> str:
    """Rows of ``failing`` that are due and had not failed on a day."""
    due = target.due
    assert due is not None
    due_on, fails_on = (
        f"({bind(e, rule.params, as_of, target.dated_by)})::DATE" for e in (due.due_on, due.fails_on)
    )
    what = bind(due.what_zh, rule.params, as_of, target.dated_by) if due.what_zh else text(rule.title_zh)
    where = [f"{name(rule.id)} = 1", f"{fails_on} >= {day(since)}"]
    if due.look and due.undone:
        where.append(f"({bind(due.undone, rule.params, as_of, target.dated_by)})")
    return f"""
        INSERT INTO due_now
        SELECT {text(rule.id)}, {text(str(rule.version))}, {text(rule.severity)}, {text(target.table)},
            x.record_key, x.org_code, x.doctor_id, x.empi_id, {what}, {due_on}, {fails_on}
        FROM failing AS x WHERE {" AND ".join(where)}
    """


def _group(
    connection: duckdb.DuckDBPyConnection,
    book: RuleBook,
    prepared: Prepared,
    look: date,
    as_of: date,
    since: date,
    wanted: set[str],
) -> None:
    for table in (t for t in book.tables if t in prepared.rows):
        rules = [
            r for r in book.of_table(table) if r.id in wanted and book.evaluable(r, table, prepared.present)
        ]
        if not rules:
            continue
        for query in book.queries_of(table, prepared.present):
            run_query(connection, book.queries[query], look)
        connection.execute(sql.flags_sql(book, table, look, _FLAGS, prepared.present))
        connection.execute(sql.failing_sql(book, table, _FLAGS, prepared.present))
        for rule in rules:
            target = rule.target(table)
            if target.due:
                connection.execute(_select(rule, target, as_of, since))


def due(
    connection: duckdb.DuckDBPyConnection, book: RuleBook, as_of: date, *, since: date | None = None
) -> int:
    """Make the temporary table ``due_now`` (:data:`COLUMNS`). Returns its rows.

    Args:
        connection: has views ``silver.<table>``, as for ``quality.engine.evaluate``.
        since: list also what had not failed yet on that earlier day (a rule with its own query: what is due now).

    Raises:
        MedlakeError: E427, a due entry's SQL does not run.
    """
    columns = ", ".join(f"{c} {t}" for c, t in COLUMNS.items())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE due_now ({columns})")
    small = _due_book(book)
    ids = [r.id for r in rules_with_due(book)]
    if not ids:
        return 0
    connection.execute(f"ATTACH ':memory:' AS {_FLAGS}")
    prepared = prepare(connection, small, as_of)
    try:
        for look, wanted in sorted(_looks(connection, small, ids, as_of).items()):
            try:
                part = small.only(*wanted)
                _group(connection, part, prepared, look, as_of, since or as_of, set(wanted))
            except duckdb.Error as error:
                detail = str(error).splitlines()[0][:300]
                if isinstance(error, duckdb.ConversionException):  # it would quote a record's value
                    detail = type(error).__name__
                raise MedlakeError("E427", rule_id="、".join(wanted), detail=detail) from error
    finally:
        connection.execute("DROP TABLE IF EXISTS failing")
        connection.execute(f"DETACH {_FLAGS}")
    row = connection.execute("SELECT count(*) FROM due_now").fetchone()
    assert row is not None
    return int(row[0])
