"""A contract's table as SQL: raw text in, typed and code-mapped values and the list of errors out.

The statement reads ``chunk`` (rows of text with ``rid`` and ``file_no``), ``files`` and what ``register`` makes, and
gives per row: ``rid``, the place, ``r_<field>`` (as received), ``t_<field>`` (typed, where that differs from the
cleaned text), ``raw_hash``, ``err``: comma-separated ``<number>:<field>``, NULL when the contract accepts, and
``note``: what was decided about a value though it was accepted, as ``<letter>:<field>`` (``NOTES``).

Each value is read by the expression for what nearly all look like; only where that gives NULL is the slow one
evaluated (``typing_sql``), for numbers once per distinct text (``odd_numbers``). That keeps odd layouts, units and
placeholders off the hot path.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import date

import duckdb

from ingestion import codemaps, times, typing_sql
from ingestion.placeholders import is_placeholder
from ingestion.typing_sql import filled, identifier, scientific, trimmed
from ingestion.units import derived_names
from ingestion.units import sql as quantities
from lake.contracts import Field, TableContract

#: Logical type in a reader's words, for the texts of E211.
TYPE_NAMES = {
    "integer": ("整数", "integer"),
    "number": ("数值", "number"),
    "boolean": ("是否值", "yes/no value"),
    "date": ("日期", "date"),
    "timestamp": ("时间", "date and time"),
}

#: Types whose odd values come from ``odd_number`` (``ingestion.odd_numbers``).
NUMERIC = ("integer", "number")

#: A code map of at most so many texts is written into the statement.
_INLINE = 150

#: Letters of ``note``: placeholder taken as empty, unit converted, unit unknown, 12 hour clock, epoch, years of
#: summer time, another zone than Shanghai's.
NOTES = ("P", "U", "X", "H", "S", "D", "Z")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_typed(field: Field) -> bool:
    return field.type != "string" or field.name in derived_names()


def is_identifier(field: Field) -> bool:
    """Whether a text field must identify something: part of the key, or a required reference."""
    return field.type == "string" and (field.is_key or (field.required and field.name.endswith("_id")))


def _is_number_like(field: Field) -> bool:
    """Whether a text field holds numbers that spreadsheets damage: identifiers, document and telephone numbers."""
    return is_identifier(field) or (
        field.type == "string" and not field.code_system and field.name.endswith(("_id", "_no", "phone"))
    )


def clean(field: Field, column: str, plain: bool) -> str:
    """SQL of a field's text as the contract takes it: trimmed, identifiers repaired, NULL when empty."""
    text = trimmed(column, plain)
    return identifier(text, plain) if _is_number_like(field) else filled(text)


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
    table: TableContract, mapped: Iterable[str], *, on: date | None = None, dated: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Joins of ``codemap`` to ``s`` (with ``c_<field>`` and ``org_code``), and per coded field the code found: that of
    the narrowest scope, else the text itself, else NULL for a placeholder.

    Args:
        on: day of delivery of all rows.
        dated: date expression to compare with a map's days, when ``codemap`` holds more than one day's.
    """
    day = " AND {dated} BETWEEN {alias}.valid_from AND {alias}.valid_to" if dated else ""
    joins: list[str] = []
    found: dict[str, str] = {}
    known = set(mapped)
    for f in table.fields:
        if is_typed(f) or f.code_system not in known:
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


def _finding(field: Field, zone: str, coded: bool, odd: bool) -> tuple[str, str] | None:
    """When a field's value is not simply in order, and the CASE that says what about it (NULL: nothing after all)."""
    clean, value, read = (quoted(p + field.name) for p in ("c_", "t_", "f_"))
    required = field.required or field.is_key
    empty = f"'E210:{field.name}'" if required else "NULL"
    nothing = empty if required else f"'P:{field.name}'"
    missing = f"WHEN {clean} IS NULL THEN {empty}"
    refused = f"'E211:{field.name}'"
    unread = f"{value} IS NULL" if required else f"({value} IS NULL AND {clean} IS NOT NULL)"
    if field.name in derived_names():
        unknown = f"{value} IN ('unknown_unit', 'other_quantity')"
        return (
            (unknown, f"CASE WHEN {unknown} THEN 'X:{field.name}' END")
            if field.name.endswith("_rule")
            else None
        )
    if field.type in NUMERIC:
        # a placeholder is odd: without odd texts there is none
        other = (
            f"CASE WHEN {is_placeholder(field.type, clean)} THEN {nothing} ELSE {refused} END"
            if odd
            else refused
        )
        return unread, f"CASE {missing} WHEN {value} IS NULL THEN {other} END"
    if is_typed(field):
        other = f"CASE WHEN {is_placeholder(field.type, clean)} THEN {nothing} ELSE {refused} END"
        before, after, when = "", "", unread
        if field.type == "timestamp":
            before, after = _time_notes(field, clean, value, zone)
            when += f" OR ({read} IS NULL AND {clean} IS NOT NULL) OR {value} < TIMESTAMPTZ '{times.SUMMER_TIME[1]}'"
            when += f" OR {zone} <> {typing_sql.SHANGHAI}" if zone != typing_sql.SHANGHAI else ""
        told = f"CASE {missing} {before} WHEN {read} IS NOT NULL THEN NULL WHEN {value} IS NULL THEN {other} {after} END"
        return when, told
    if coded:
        return unread, f"CASE {missing} WHEN {value} IS NULL THEN {nothing} END"
    if is_identifier(field):
        broken = scientific(clean)
        return f"{clean} IS NULL OR {broken}", f"CASE {missing} WHEN {broken} THEN 'E212:{field.name}' END"
    return (f"{clean} IS NULL", f"CASE {missing} END") if required else None


def _time_notes(field: Field, clean: str, value: str, zone: str) -> tuple[str, str]:
    """Branches that tell by which rule a time became an instant: for every value, and for those read slowly."""
    begins, ends = times.SUMMER_TIME
    before = (
        f"WHEN {value} >= TIMESTAMPTZ '{begins}' AND {value} < TIMESTAMPTZ '{ends}' THEN 'D:{field.name}'"
    )
    if zone != typing_sql.SHANGHAI:
        local = f"{value} IS NOT NULL AND NOT regexp_matches({clean}, '([Zz]|[-+][0-9]{{2}}:?[0-9]{{2}})$')"
        before += f" WHEN {local} AND {zone} <> {typing_sql.SHANGHAI} THEN 'Z:{field.name}'"
    after = f"""WHEN {typing_sql.twelve_hour(clean)} THEN 'H:{field.name}'
        WHEN {typing_sql.is_epoch(clean)} THEN 'S:{field.name}'"""
    return before, after


def _picked(prefix: str) -> str:
    """The errors (``E``) or the notes of ``found``; NULL when there are none."""
    kept = f"list_filter(string_split(found, ','), x -> (x[1] = 'E') = {prefix})"
    return f"CASE WHEN found <> '' THEN nullif(array_to_string({kept}, ','), '') END"


def _of_deleted(table: TableContract, errors: str) -> str:
    """Of a record that its source deleted only the key must be there."""
    keys = ", ".join(f"'{k}'" for k in table.key)
    kept = f"list_filter(string_split({errors}, ','), x -> split_part(x, ':', 2) IN ({keys}))"
    return f"CASE WHEN _op = 'D' THEN nullif(array_to_string({kept}, ','), '') ELSE {errors} END"


def statement(
    table: TableContract,
    mapped: list[str],
    plain: set[str],
    default_org: str,
    odd: AbstractSet[str] = frozenset(),
    on: date | None = None,
) -> str:
    """The conform query of one table.

    Args:
        mapped: code systems in ``codemap``.
        plain: fields whose values need no trimming (``stage.is_plain``).
        odd: numeric fields with values that ``odd_number`` explains (``odd_numbers.look``).
        on: day of delivery, for what is valid by date (time zones).
    """
    zones = {
        f.name: times.zone_sql(table.feed, table.name, f.name, on)
        for f in table.fields
        if f.type in ("date", "timestamp")
    }
    joins, codes = map_joins(table, mapped, on=on)
    derived = quantities.derived_values(table)
    raw = [f"c.{quoted(f.name)} AS {quoted('r_' + f.name)}" for f in table.fields]
    # trimming costs most: done once, in a projection of its own
    uneven = [f for f in table.fields if f.name not in plain]
    trim = [f"{trimmed('c.' + quoted(f.name), False)} AS {quoted('w_' + f.name)}" for f in uneven]
    cleaned = []
    for f in table.fields:
        text = quoted(("r_" if f.name in plain else "w_") + f.name)
        taken = identifier(text, f.name in plain) if _is_number_like(f) else filled(text)
        cleaned.append(f"{taken} AS {quoted('c_' + f.name)}")
    hashed = ", ".join(f"coalesce(c.{quoted(f.name)}, '')" for f in table.fields if f.name not in derived)
    read = [
        f"{typing_sql.fast(f.type, quoted('c_' + f.name), zones.get(f.name, ''))} AS {quoted('f_' + f.name)}"
        for f in table.fields
        if is_typed(f) and f.name not in derived
    ]
    values = [
        f"{codes.get(f.name) or _mended(f, zones.get(f.name, ''), f.name in odd)} AS {quoted('t_' + f.name)}"
        for f in table.fields
        if (is_typed(f) and f.name not in derived) or f.name in codes
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
    findings = [_finding(f, zones.get(f.name, ""), f.name in codes, f.name in odd) for f in table.fields]
    told = [x for x in findings if x] + ([("converted IS NOT NULL", "converted")] if odd else [])
    suspect = " OR ".join(f"({when})" for when, _ in told)
    listed = ", ".join(what for _, what in told)
    found = f"CASE WHEN {suspect} THEN concat_ws(',', {listed}) END" if told else "NULL"
    return f"""
        WITH trimmed AS (
            SELECT c.rid, c.file_no, {org} AS org_code, c.source_sheet, c.source_line, c._extra, c._op,
                   md5(rtrim(concat_ws(chr(31), {hashed}), chr(31)) || coalesce(chr(30) || c._extra, '')
                       || CASE WHEN c._op = 'D' THEN chr(29) ELSE '' END) AS raw_hash,
                   {", ".join(raw + trim)}
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
        ), checked AS (SELECT {kept}, {found} AS found FROM whole s)
        SELECT * EXCLUDE (found), {_of_deleted(table, _picked("true"))} AS err, {_picked("false")} AS note FROM checked"""


def silver_value(field: Field, mapped: list[str], plain: set[str]) -> str:
    """The silver value of a field, from a row that ``statement`` gave."""
    if is_typed(field) or field.code_system in mapped:
        return quoted("t_" + field.name)
    return clean(field, quoted("r_" + field.name), field.name in plain)


def newest_by(table: TableContract) -> str | None:
    """The field that says which of two rows of a key is newer; None: the later delivery is."""
    names = [f.name for f in table.fields]
    return next((n for n in ("source_updated_at", "recorded_at", "last_updated_at") if n in names), None)
