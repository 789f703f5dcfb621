"""From the rule book to SQL text. Nothing here touches data: strings in, strings out.

The flags of a table are one ``SELECT``: per rule a TINYINT, 0 holds, 1 violated, NULL not evaluated. A rule that
needs others reads their flags in the same row (DuckDB lets a column refer to one further left).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
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


def _steps(steps: Sequence[tuple[date, float | int]], as_of: date, dated_by: str | None) -> str:
    if dated_by is None:
        held = next((value for since, value in reversed(steps) if since <= as_of), None)
        return "NULL" if held is None else repr(held)
    whens = [f"WHEN {dated_by} >= {day(since)} THEN {value!r}" for since, value in reversed(steps)]
    return f"CASE {' '.join(whens)} END"


def _value(param: Param, as_of: date, dated_by: str | None) -> str:
    """The value that holds on the day; where an institution has its own, by the record's institution (``r``)."""
    general = _steps(param.steps, as_of, dated_by)
    if not param.by_org:
        return general
    own = [
        f"WHEN {text(org)} THEN coalesce({_steps(steps, as_of, dated_by)}, {general})"
        for org, steps in param.by_org
    ]
    return f"CASE r.org_code {' '.join(own)} ELSE {general} END"


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


def counts_sql(book: RuleBook, table: str, flags: str) -> str:
    """Evaluated and failed records per institution and rule, from one scan of a table's flags."""
    rules = [name(r.id) for r in book.of_table(table)]
    # a pair in one list element a rule: one UNNEST turns the one row of an institution into a row a rule
    pairs = ", ".join(
        f"struct_pack(evaluated := count({r}), failed := coalesce(sum({r}), 0)::BIGINT)" for r in rules
    )
    ids = ", ".join(text(r.id) for r in book.of_table(table))
    return f"""
        SELECT rule_id, {text(table)} AS table_name, org_code, n.evaluated, n.failed
        FROM (SELECT org_code, unnest([{ids}]) AS rule_id, unnest([{pairs}]) AS n FROM {flags}.{name(table)} GROUP BY org_code)
    """


def violations_sql(book: RuleBook, table: str, flags: str, failed: Collection[str]) -> str:
    """Every violation as a pair (``v_rid`` record, ``v_rule`` place of the rule in the table's list), rule by rule."""
    return " UNION ALL ".join(
        f"SELECT rid AS v_rid, {number}::SMALLINT AS v_rule FROM {flags}.{name(table)} WHERE {name(rule.id)} = 1"
        for number, rule in enumerate(book.of_table(table))
        if rule.id in failed
    )


def _by_rule(texts: Mapping[int, str]) -> str:
    """One expression of many: the text of a violation's rule.

    Halved again and again, not one ``WHEN`` a rule: violations come rule by rule, and of two hundred texts a batch of rows
    then meets eight conditions (measured: half the time of all findings).
    """
    numbers = sorted(texts)
    if len(set(texts.values())) == 1:
        return texts[numbers[0]]
    middle = numbers[len(numbers) // 2]
    below, above = ({n: t for n, t in texts.items() if (n < middle) is side} for side in (True, False))
    return f"CASE WHEN v.v_rule < {middle} THEN {_by_rule(below)} ELSE {_by_rule(above)} END"


def findings_sql(
    book: RuleBook, table: str, as_of: date, failed: Collection[str], present: Collection[str] | None = None
) -> str:
    """Every violation of a table (temporary table ``violation``) with place, values and message, in one statement."""
    rules = {n: r for n, r in enumerate(book.of_table(table)) if r.id in failed}
    targets = {n: r.target(table) for n, r in rules.items()}
    soft = {n: soft_sql(r, targets[n], as_of) for n, r in rules.items()}
    excludes = {n: "exclude" if "exclude" in t.products.values() else "show" for n, t in targets.items()}
    observing = {n: "true" if r.observing(as_of) else "false" for n, r in rules.items()}
    told = {
        "rule_id": {n: text(r.id) for n, r in rules.items()},
        "severity": {n: _if(soft[n], text("warn"), text(r.severity)) for n, r in rules.items()},
        "field_list": {n: text(",".join(t.fields)) for n, t in targets.items()},
        "observed": {n: object_sql(t.observed, rules[n], t, as_of) for n, t in targets.items()},
        "expected": {n: object_sql(t.expected, rules[n], t, as_of) for n, t in targets.items()},
        "message_zh": {n: message_sql(rules[n], t, as_of) for n, t in targets.items()},
        "is_observing": observing,
        "effect": {
            n: text("show") if observing[n] == "true" else _if(soft[n], text("show"), text(excludes[n]))
            for n in rules
        },
    }
    told_sql = {column: f"{_by_rule(texts)} AS {column}" for column, texts in told.items()}
    joins = [
        f"LEFT JOIN q_{q} AS {q} ON {q}.q_rid = r.rid"
        for q in book.queries_of(table, present)
        if q in {t.query for t in targets.values()}
    ]
    return f"""
        SELECT
            {told_sql["rule_id"]}, {text(table)} AS table_name, r.record_key, r.org_code, r.doctor_id, r.empi_id,
            {told_sql["severity"]}, {told_sql["field_list"]}, {told_sql["observed"]}, {told_sql["expected"]},
            {told_sql["message_zh"]}, r.source_file, r.source_sheet, r.source_line, {told_sql["is_observing"]},
            {told_sql["effect"]}
        FROM violation AS v INNER JOIN {name(table)} AS r ON r.rid = v.v_rid {" ".join(joins)}
    """


def _if(condition: str, then: str, otherwise: str) -> str:
    return otherwise if condition == "false" else f"CASE WHEN {condition} THEN {then} ELSE {otherwise} END"
