"""Units as tables and joins: to a contract field's unit, and to the canonical quantity of rows that name their own.

The unit that a header declares comes in ``_extra`` under ``#units``.
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from ingestion import reviewed, units
from lake.contracts import Field, TableContract

#: Key in ``_extra`` below which a reader puts the units that headers declare: {field: folded spelling}.
DECLARED = "#units"


def of_field(name: str, unit: str) -> dict[str, units.Conversion]:
    """Folded spelling -> conversion to the unit of a contract field; empty when the field has none."""
    return units.conversions(unit, units.analyte_of_field(name)) if unit else {}


def declared_column(column: str) -> str:
    """The units that the header declared for a row, as JSON; NULL nearly always."""
    return (
        f"CASE WHEN contains({column}, '\"{DECLARED}\"') THEN json_extract({column}, '$.\"{DECLARED}\"') END"
    )


def scale_table(fields: list[Field]) -> pa.Table:
    """How units become those of contract fields: field, spelled (folded), scale, offset."""
    rows = [
        (f.name, spelled, how.scale, how.offset)
        for f in fields
        for spelled, how in of_field(f.name, f.unit).items()
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    kinds = (pa.string(), pa.string(), pa.float64(), pa.float64())
    names = ("field", "spelled", "scale", "plus")
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def rule_table() -> pa.Table:
    """How (LOINC code, folded unit) becomes a canonical quantity: loinc, spelled, ucum, scale, offset, rule.

    ``rule``: ``same``, ``converted``, ``other_quantity`` (the unit measures something else than the code); a code that
    has no canonical unit here is looked up as ``''``, where the unit is only normalised (``no_loinc``).
    """
    return _rule_table(reviewed.stamp("unit_spelling"))


@lru_cache(maxsize=2)
def _rule_table(_stamp: tuple[str, int, int]) -> pa.Table:
    rows: list[tuple[str, str, str, float | None, float | None, str]] = []
    for loinc, wanted in units.loinc_units().items():
        target, how = units.units()[wanted], units.conversions(wanted, units.analyte_of(loinc))
        for spelled in units.spellings():
            found = how.get(spelled)
            if found is None:
                rows.append((loinc, spelled, wanted, None, None, "other_quantity"))
                continue
            same = abs(found.scale - 1) < 1e-12 and found.offset == 0
            rows.append((loinc, spelled, wanted, found.scale, found.offset, "same" if same else "converted"))
        if target.dimension in ("ratio_inr", "ph"):  # laboratories leave the unit of these out
            rows.append((loinc, "", wanted, 1.0, 0.0, "same"))
    rows += [("", spelled, code, 1.0, 0.0, "no_loinc") for spelled, code in units.spellings().items()]
    names = ("unit_loinc", "unit_spelled", "unit_ucum", "unit_scale", "unit_offset", "unit_rule")
    kinds = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.float64(), pa.string())
    columns = zip(*rows, strict=True)
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})


def derived_join(table: TableContract) -> str:
    """Join of ``unit_rule`` (``rule_table``) as ``u`` to a relation ``s`` of cleaned columns; '' where none is due."""
    how = units.derived(table.name, [f.name for f in table.fields])
    if how is None:
        return ""
    known = ", ".join(f"'{code}'" for code in units.loinc_units())
    loinc = f'CASE WHEN s."c_{how.loinc}" IN ({known}) THEN s."c_{how.loinc}" ELSE \'\' END'
    spelled = units.fold_sql(f"coalesce(s.\"c_{how.unit}\", '')")
    return f"LEFT JOIN unit_rule u ON u.unit_loinc = {loinc} AND u.unit_spelled = {spelled}"


def derived_values(table: TableContract) -> dict[str, str]:
    """Field -> expression over ``s`` (with ``t_``/``f_`` values) and ``u``; empty where nothing is derived."""
    how = units.derived(table.name, [f.name for f in table.fields])
    if how is None:
        return {}
    value, unit = f'"t_{how.value}"', f's."c_{how.unit}"'
    known = "u.unit_scale IS NOT NULL"
    plain = "u.unit_scale = 1 AND u.unit_offset = 0"
    return {
        how.value_out: f"CASE WHEN {plain} THEN {value} WHEN {known} THEN {value} * u.unit_scale + u.unit_offset END",
        how.unit_out: f"CASE WHEN {value} IS NOT NULL AND {known} THEN u.unit_ucum END",
        how.rule_out: f"""CASE WHEN {value} IS NULL THEN NULL WHEN u.unit_rule IS NOT NULL THEN u.unit_rule
            WHEN {unit} IS NULL THEN 'no_unit' ELSE 'unknown_unit' END""",
    }
