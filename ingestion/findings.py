"""What is wrong with a value, or was decided about it, as SQL: the columns ``err`` and ``note`` of ``conform``."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from ingestion import times, typing_sql
from ingestion.fields import NUMERIC, is_identifier, is_typed, quoted
from ingestion.placeholders import is_placeholder
from ingestion.typing_sql import scientific
from ingestion.units import derived_names
from lake.contracts import Field, TableContract

#: Letters of ``note``: placeholder taken as empty, unit converted, unit unknown, 12 hour clock, epoch, years of
#: summer time, another zone than Shanghai's.
NOTES = ("P", "U", "X", "H", "S", "D", "Z")


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


def _picked(errors: bool) -> str:
    kept = f"list_filter(string_split(found, ','), x -> (x[1] = 'E') = {str(errors).lower()})"
    return f"CASE WHEN found <> '' THEN nullif(array_to_string({kept}, ','), '') END"


def notes() -> str:
    """The notes among ``found``; NULL when there are none."""
    return _picked(False)


def errors(table: TableContract) -> str:
    """The errors among ``found``; of a record that its source deleted only the key must be there."""
    keys = ", ".join(f"'{k}'" for k in table.key)
    kept = f"list_filter(string_split({_picked(True)}, ','), x -> split_part(x, ':', 2) IN ({keys}))"
    return f"CASE WHEN _op = 'D' THEN nullif(array_to_string({kept}, ','), '') ELSE {_picked(True)} END"


def found(
    table: TableContract,
    zones: Mapping[str, str],
    codes: Mapping[str, str],
    odd: AbstractSet[str],
    absent: AbstractSet[str],
) -> str:
    """All errors and notes of a row; the many CASEs are evaluated only where some value is not simply in order."""
    derived = derived_names()
    told = []
    for f in table.fields:
        if f.name in absent and f.name not in derived:
            if f.required or f.is_key:
                told.append(("true", f"'E210:{f.name}'"))
        elif this := _finding(f, zones.get(f.name, ""), f.name in codes, f.name in odd):
            told.append(this)
    if odd:
        told.append(("converted IS NOT NULL", "converted"))
    suspect = " OR ".join(f"({when})" for when, _ in told)
    return (
        f"CASE WHEN {suspect} THEN concat_ws(',', {', '.join(what for _, what in told)}) END"
        if told
        else "NULL"
    )
