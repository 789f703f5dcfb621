"""A contract's table as SQL: raw text in, typed and code-mapped values and the list of errors out.

The statement reads ``chunk`` (rows of text with ``rid`` and ``file_no``), ``files`` and what ``register`` makes, and
gives per row: ``rid``, the place, ``r_<field>`` (as received), ``t_<field>`` (typed, where that differs from the
cleaned text), ``raw_hash``, ``err``: comma-separated ``<number>:<field>``, NULL when the contract accepts, and
``note``: what was decided about a value though it was accepted, as ``<letter>:<field>`` (``findings.NOTES``).

Each value is read by the expression for what nearly all look like; only where that gives NULL is the slow one
evaluated (``typing_sql``), for numbers once per distinct text (``odd_numbers``). That keeps odd layouts, units and
placeholders off the hot path.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import date

import duckdb

from ingestion import codemaps, findings, times, typing_sql
from ingestion.fields import NUMERIC, clean, is_identifier, is_number_like, is_typed, quoted
from ingestion.placeholders import is_placeholder
from ingestion.typing_sql import filled, identifier, trimmed
from ingestion.units import sql as quantities
from lake.contracts import Field, TableContract

__all__ = ["TYPE_NAMES", "clean", "is_identifier", "is_typed", "map_joins", "newest_by", "quoted", "register"]
__all__ += ["silver_value", "statement"]

#: Logical type in a reader's words, for the texts of E211.
TYPE_NAMES = {
    "integer": ("整数", "integer"),
    "number": ("数值", "number"),
    "boolean": ("是否值", "yes/no value"),
    "date": ("日期", "date"),
    "timestamp": ("时间", "date and time"),
}

#: A code map of at most so many texts is written into the statement.
_INLINE = 150


def register(connection: duckdb.DuckDBPyConnection, mapped: list[str], on: date | None = None) -> None:
    """Make the relations that ``statement`` reads besides its rows: ``codemap`` and ``unit_rule``."""
    connection.register("codemap", codemaps.as_table(mapped, on))
    connection.register("unit_rule", quantities.rule_table())


def _inline(code_system: str, feed: str, text: str, on: date | None) -> str | None:
    """A small map as an expression: cheaper than a join, whose tables take megabytes each, and a wide form has dozens."""
    pairs = codemaps.scope_map(code_system, feed, on)
    if len(pairs) > _INLINE:
        return None
    keys, codes = (
        ", ".join("'" + t.replace("'", "''") + "'" for t in side) for side in (pairs, pairs.values())
    )
    return f"[{codes}][list_position([{keys}], lower({text}))]"


def map_joins(
    table: TableContract,
    mapped: Iterable[str],
    *,
    on: date | None = None,
    dated: str = "",
    absent: AbstractSet[str] = frozenset(),
) -> tuple[list[str], dict[str, str]]:
    """Joins of ``codemap`` to ``s`` (with ``c_<field>`` and ``org_code``), and per coded field the code found: that of
    the narrowest scope, else the text itself, else NULL for a placeholder.

    Args:
        on: day of delivery of all rows.
        dated: date expression to compare with a map's days, when ``codemap`` holds more than one day's.
        absent: fields to leave out.
    """
    day = " AND {dated} BETWEEN {alias}.valid_from AND {alias}.valid_to" if dated else ""
    joins: list[str] = []
    found: dict[str, str] = {}
    known = set(mapped)
    for f in table.fields:
        if is_typed(f) or f.code_system not in known or f.name in absent:
            continue
        clean = f"s.{quoted('c_' + f.name)}"
        codes = []
        for i, (feed, own) in enumerate(codemaps.scopes(f.code_system, table.feed)):
            code = None if own or dated else _inline(f.code_system, feed, clean, on)
            if code is None:
                alias = quoted(f"m{i}_{f.name}")
                joins.append(
                    f"LEFT JOIN codemap {alias} ON {alias}.code_system = '{f.code_system}' AND {alias}.feed = '{feed}'"
                    f" AND {alias}.org_code = {'s.org_code' if own else repr('')}"
                    f" AND {alias}.source_key = lower({clean})" + day.format(dated=dated, alias=alias)
                )
                code = f"{alias}.code"
            codes.append(code)
        unknown = f"CASE WHEN {is_placeholder('code', clean)} THEN NULL ELSE {clean} END"
        found[f.name] = f"coalesce({', '.join([*codes, unknown])})"
    return joins, found


def _mended(field: Field, zone: str, odd: bool) -> str:
    """The typed value: what ``fast`` read, else what the slow way makes of it."""
    read, clean = f"s.{quoted('f_' + field.name)}", f"s.{quoted('c_' + field.name)}"
    if odd:
        return f"coalesce(CAST(o.{quoted(field.name)} AS {field.duck_type}), {read})"
    slow = typing_sql.slow(field.type, clean, zone)
    if slow is None or field.type in NUMERIC:
        return read
    return f"CASE WHEN {read} IS NOT NULL THEN {read} WHEN {clean} IS NOT NULL THEN {slow} END"


def _hash(table: TableContract, absent: AbstractSet[str], derived: AbstractSet[str]) -> str:
    """Fingerprint of a record as received: its fields without the empty ones at the end, so that a contract which grows
    at the end of a table does not change it, what the contract does not know, and whether it is deleted."""
    fields = [f.name for f in table.fields if f.name not in derived]
    while fields and fields[-1] in absent:
        fields.pop()
    text = (
        f"concat_ws(chr(31), {', '.join(f'coalesce(c.{quoted(n)}, {chr(39) * 2})' for n in fields)})"
        if fields
        else "''"
    )
    ended = f"CASE WHEN suffix({text}, chr(31)) THEN rtrim({text}, chr(31)) ELSE {text} END"
    return f"""md5({ended} || coalesce(chr(30) || c._extra, '') || CASE WHEN c._op = 'D' THEN chr(29) ELSE '' END)"""


def statement(
    table: TableContract,
    mapped: list[str],
    plain: AbstractSet[str],
    default_org: str,
    odd: AbstractSet[str] = frozenset(),
    on: date | None = None,
    absent: AbstractSet[str] = frozenset(),
) -> str:
    """The conform query of one table.

    Args:
        mapped: code systems in ``codemap``.
        plain: fields whose values need no trimming (``stage.is_plain``).
        odd: numeric fields with values that ``odd_number`` explains (``odd_numbers.look``).
        on: day of delivery, for what is valid by date (time zones, code maps).
        absent: fields that no row has; nothing is evaluated for them.
    """
    zones = {
        f.name: times.zone_sql(table.feed, table.name, f.name, on)
        for f in table.fields
        if f.type in ("date", "timestamp")
    }
    derived = quantities.derived_values(table)
    present = [f for f in table.fields if f.name not in absent]
    joins, codes = map_joins(table, mapped, on=on, absent=absent)
    raw = [f"c.{quoted(f.name)} AS {quoted('r_' + f.name)}" for f in table.fields]
    # trimming costs most: done once, in a projection of its own
    uneven = [f for f in present if f.name not in plain]
    trim = [f"{trimmed('c.' + quoted(f.name), False)} AS {quoted('w_' + f.name)}" for f in uneven]
    cleaned = [f"NULL::VARCHAR AS {quoted('c_' + f.name)}" for f in table.fields if f.name in absent]
    for f in present:
        text = quoted(("r_" if f.name in plain else "w_") + f.name)
        taken = identifier(text, f.name in plain) if is_number_like(f) else filled(text)
        cleaned.append(f"{taken} AS {quoted('c_' + f.name)}")
    read = [
        f"{typing_sql.fast(f.type, quoted('c_' + f.name), zones.get(f.name, ''))} AS {quoted('f_' + f.name)}"
        for f in present
        if is_typed(f) and f.name not in derived
    ]
    values = [
        f"{codes.get(f.name) or _mended(f, zones.get(f.name, ''), f.name in odd)} AS {quoted('t_' + f.name)}"
        for f in present
        if (is_typed(f) and f.name not in derived) or f.name in codes
    ]
    values += [
        f"NULL::{f.duck_type} AS {quoted('t_' + f.name)}"
        for f in table.fields
        if f.name in absent and f.name not in derived and (is_typed(f) or f.code_system in mapped)
    ]
    if odd:
        joins.append("LEFT JOIN odd_number o ON o.rid = s.rid")
        values.append("o.converted")
    org = f"coalesce(nullif(f.org_code, ''), nullif(trim(c.org_code), ''), '{default_org}')"
    place = ["rid", "file_no", "org_code", "source_sheet", "source_line", "_extra", "_op", "raw_hash"]
    kept = ", ".join(
        place
        + [quoted("r_" + f.name) for f in table.fields]
        + [quoted("t_" + f.name) for f in table.fields if is_typed(f) or f.code_system in mapped]
    )
    return f"""
        WITH trimmed AS (
            SELECT c.rid, c.file_no, {org} AS org_code, c.source_sheet, c.source_line, c._extra, c._op,
                   {_hash(table, absent, derived.keys())} AS raw_hash, {", ".join(raw + trim)}
            FROM chunk c JOIN files f USING (file_no)
        ), cleaned AS (
            SELECT *, {", ".join(cleaned)} FROM trimmed
        ), looked AS (
            SELECT *{"".join(", " + r for r in read)} FROM cleaned s
        ), typed AS (
            SELECT s.*{"".join(", " + v for v in values)} FROM looked s {" ".join(joins)}
        ), whole AS (
            SELECT s.*{"".join(f", {v} AS {quoted('t_' + n)}" for n, v in derived.items())}
            FROM typed s {quantities.derived_join(table)}
        ), checked AS (SELECT {kept}, {findings.found(table, zones, codes, odd, absent)} AS found FROM whole s)
        SELECT * EXCLUDE (found), {findings.errors(table)} AS err, {findings.notes()} AS note FROM checked"""


def silver_value(field: Field, mapped: list[str], plain: set[str]) -> str:
    """The silver value of a field, from a row that ``statement`` gave."""
    if is_typed(field) or field.code_system in mapped:
        return quoted("t_" + field.name)
    return clean(field, quoted("r_" + field.name), field.name in plain)


def newest_by(table: TableContract) -> str | None:
    """The field that says which of two rows of a key is newer; None: the later delivery is."""
    names = [f.name for f in table.fields]
    return next((n for n in ("source_updated_at", "recorded_at", "last_updated_at") if n in names), None)
