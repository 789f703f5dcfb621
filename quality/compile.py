"""From the rule book to SQL text. Nothing here touches data: strings in, strings out.

The flags of a table are one ``SELECT``: per rule a TINYINT, 0 holds, 1 violated, NULL not evaluated. A rule that
needs others reads their flags in the same row (DuckDB lets a column refer to one further left).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path

from lake.settings import settings
from quality.rule import PLACEHOLDER, Param, Query, Rule, RuleBook, Target

_BRACES = re.compile(r"\{([a-z][a-z0-9_]*)(?:\|([a-z][a-z0-9_]*))?\}")


def day(value: date) -> str:
    """A date as a SQL literal."""
    return f"DATE '{value.isoformat()}'"


def text(value: str) -> str:
    """A string as a SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """A quoted SQL identifier."""
    return '"' + value.replace('"', '""') + '"'


def _value(param: Param, as_of: date, dated_by: str | None) -> str:
    if dated_by is None:
        held = param.at(as_of)
        return "NULL" if held is None else repr(held)
    steps = [f"WHEN {dated_by} >= {day(since)} THEN {value!r}" for since, value in reversed(param.steps)]
    return f"CASE {' '.join(steps)} END"


def bind(sql: str, params: Mapping[str, Param], as_of: date, dated_by: str | None = None) -> str:
    """Put parameter values in: those that hold on the day in column ``dated_by``, or on ``as_of``.

    Before a parameter's first date its value is NULL, so the rule is not evaluated there.
    """

    def put(match: re.Match[str]) -> str:
        if match[1] == "as_of":
            return day(as_of)
        return f"({_value(params[match[1]], as_of, dated_by)})"

    return PLACEHOLDER.sub(put, sql)


def query_sql(query: Query, as_of: date) -> str:
    return bind(query.sql, query.params, as_of)


@lru_cache(maxsize=64)
def _code_names(directory: Path, code_system: str) -> str:
    with (directory / "codes" / f"{code_system}.csv").open(encoding="utf-8") as file:
        pairs = [f"{text(r['code'])}: {text(r['name_zh'])}" for r in csv.DictReader(file)]
    return "MAP {" + ", ".join(pairs) + "}"


def message_sql(rule: Rule, target: Target, as_of: date) -> str:
    """The message template as a SQL expression over a failing row."""

    def value(match: re.Match[str]) -> str:
        key, code_system = match[1], match[2]
        known = {**target.expected, **target.observed}
        if key in known:
            sql = bind(known[key], rule.params, as_of, target.dated_by)
        elif key in rule.params:
            sql = _value(rule.params[key], as_of, target.dated_by)
        else:
            sql = name(key)
        if code_system:
            sql = f"coalesce({_code_names(settings().seeds_dir, code_system)}[{sql}], {sql})"
        return f"as_text({sql})"

    parts, at = [], 0
    for match in _BRACES.finditer(target.message_zh):
        parts += [text(target.message_zh[at : match.start()]), value(match)]
        at = match.end()
    parts.append(text(target.message_zh[at:]))
    return "concat(" + ", ".join(p for p in parts if p != "''") + ")"


def object_sql(values: Mapping[str, str], rule: Rule, target: Target, as_of: date) -> str:
    """Named expressions as one JSON text."""
    if not values:
        return "'{}'"
    pairs = [f"{name(k)} := {bind(sql, rule.params, as_of, target.dated_by)}" for k, sql in values.items()]
    return f"CAST(to_json(struct_pack({', '.join(pairs)})) AS VARCHAR)"


def soft_sql(rule: Rule, target: Target, as_of: date) -> str:
    """Whether a violation is only a warning."""
    return (
        f"coalesce({bind(target.warn_when, rule.params, as_of, target.dated_by)}, false)"
        if target.warn_when
        else "false"
    )


def _known(rule: Rule, target: Target, as_of: date) -> list[str]:
    """Guard against days before a parameter's first date: a NULL threshold must not reach an ELSE branch."""
    first = max((p.steps[0][0] for p in rule.params.values()), default=None)
    if first is None or (target.dated_by is None and first <= as_of):
        return []
    return [f"{target.dated_by} >= {day(first)}" if target.dated_by else "false"]


def flag_sql(
    book: RuleBook, rule: Rule, table: str, as_of: date, present: Collection[str] | None = None
) -> str:
    """One rule's flag: ``CASE`` over eligibility, what must not have failed, and its condition.

    A prerequisite that failed as a warning only, or was not evaluated, does not hold its dependants back. Where a
    table that the rule requires is not in the lake (``present``; None: all are), it is not evaluated.
    """
    target = rule.target(table)
    if not book.evaluable(rule, table, present):
        return f"CAST(NULL AS TINYINT) AS {name(rule.id)}"
    guards = [
        *_known(rule, target, as_of),
        f"({bind(target.eligibility, rule.params, as_of, target.dated_by)})",
    ]
    for needed in book.prerequisites(rule, table):
        failed = f"coalesce({name(needed.id)} = 1, false)"
        soft = soft_sql(needed, needed.target(table), as_of)
        guards.append(f"NOT {failed}" if soft == "false" else f"NOT ({failed} AND NOT {soft})")
    condition = bind(target.condition, rule.params, as_of, target.dated_by)
    return f"CASE WHEN {' AND '.join(guards)} THEN CAST(({condition}) AS TINYINT) END AS {name(rule.id)}"


def joins_sql(book: RuleBook, table: str, present: Collection[str] | None = None) -> str:
    """The table and the set queries that its rules use, each under its own name, joined by ``rid``."""
    used = book.queries_of(table, present)
    joins = [f"LEFT JOIN q_{q} AS {q} ON {q}.q_rid = r.rid" for q in used]
    return " ".join([f"{name(table)} AS r", *joins])


def flags_sql(
    book: RuleBook, table: str, as_of: date, into: str, present: Collection[str] | None = None
) -> str:
    """One scan of a table that writes its keys and one flag per rule."""
    flags = [flag_sql(book, rule, table, as_of, present) for rule in book.of_table(table)]
    columns = ",\n  ".join(["r.rid", "r.org_code", "r.record_key", *flags])
    return f"CREATE OR REPLACE TABLE {into}.{name(table)} AS SELECT\n  {columns}\nFROM {joins_sql(book, table, present)}"


def failing_sql(book: RuleBook, table: str, flags: str, present: Collection[str] | None = None) -> str:
    """The records with at least one violation, whole, with set queries as structs and flags beside them."""
    rules = [name(r.id) for r in book.of_table(table)]
    used = book.queries_of(table, present)
    picked = ", ".join(["r.*", *used, *(f"f.{r}" for r in rules)])
    any_failed = " OR ".join(f"f.{r} = 1" for r in rules)
    return (
        f"CREATE OR REPLACE TEMP TABLE failing AS SELECT {picked} "
        f"FROM (SELECT * FROM {flags}.{name(table)} AS f WHERE {any_failed}) AS f "
        f"INNER JOIN {name(table)} AS r ON r.rid = f.rid "
        + " ".join(f"LEFT JOIN q_{q} AS {q} ON {q}.q_rid = r.rid" for q in used)
    )


def finding_sql(rule: Rule, table: str, as_of: date) -> str:
    """Every violation of one rule in the table ``failing``, with place, values and message."""
    target = rule.target(table)
    soft = soft_sql(rule, target, as_of)
    observing = "true" if rule.observing(as_of) else "false"
    effect = "exclude" if "exclude" in target.products.values() else "show"
    return f"""
        SELECT
            {text(rule.id)} AS rule_id,
            {text(table)} AS table_name,
            record_key,
            org_code,
            doctor_id,
            empi_id,
            CASE WHEN {soft} THEN 'warn' ELSE {text(rule.severity)} END AS severity,
            {text(",".join(target.fields))} AS field_list,
            {object_sql(target.observed, rule, target, as_of)} AS observed,
            {object_sql(target.expected, rule, target, as_of)} AS expected,
            {message_sql(rule, target, as_of)} AS message_zh,
            source_file,
            source_sheet,
            source_line,
            {observing} AS is_observing,
            CASE WHEN {soft} OR {observing} THEN 'show' ELSE {text(effect)} END AS effect
        FROM failing
        WHERE {name(rule.id)} = 1
    """
