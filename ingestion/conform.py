"""A contract's table as SQL: raw text in, typed and code-mapped values and the list of errors out.

The statement reads ``chunk`` (rows of text with ``rid`` and ``file_no``), ``files`` and ``codemap``, and gives
per row: ``rid``, the place, ``r_<field>`` (as received), ``t_<field>`` (typed, where that differs from the
cleaned text), ``raw_hash`` and ``err``: comma-separated ``<number>:<field>``, NULL when the contract accepts.
"""

from __future__ import annotations

from ingestion.typing_sql import cleaned, scientific, typed
from lake.contracts import Field, TableContract

#: Logical type in a reader's words, for the texts of E211.
TYPE_NAMES = {
    "integer": ("整数", "integer"),
    "number": ("数值", "number"),
    "boolean": ("是否值", "yes/no value"),
    "date": ("日期", "date"),
    "timestamp": ("时间", "date and time"),
}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_typed(field: Field) -> bool:
    return field.type != "string"


def is_identifier(field: Field) -> bool:
    """Whether a text field must identify something: part of the key, or a required reference."""
    return field.type == "string" and (field.is_key or (field.required and field.name.endswith("_id")))


def _errors(table: TableContract) -> str:
    checks = []
    for f in table.fields:
        clean = quoted("c_" + f.name)
        if f.required or f.is_key:
            checks.append(f"CASE WHEN {clean} IS NULL THEN 'E210:{f.name}' END")
        if is_typed(f):
            checks.append(
                f"CASE WHEN {clean} IS NOT NULL AND {quoted('t_' + f.name)} IS NULL THEN 'E211:{f.name}' END"
            )
        elif is_identifier(f):
            checks.append(f"CASE WHEN {scientific(clean)} THEN 'E212:{f.name}' END")
    return f"nullif(concat_ws(',', {', '.join(checks)}), '')" if checks else "NULL"


def statement(table: TableContract, mapped: list[str], plain: set[str], default_org: str) -> str:
    """The conform query of one table.

    Args:
        mapped: code systems in ``codemap``.
        plain: fields whose values need no trimming (``stage.is_plain``).
    """
    raw = [f"c.{quoted(f.name)} AS {quoted('r_' + f.name)}" for f in table.fields]
    clean = [
        f"{cleaned('c.' + quoted(f.name), f.name in plain)} AS {quoted('c_' + f.name)}" for f in table.fields
    ]
    hashed = ", ".join(f"coalesce(c.{quoted(f.name)}, '')" for f in table.fields)
    values: list[str] = []
    joins: list[str] = []
    for f in table.fields:
        source, target = quoted("c_" + f.name), quoted("t_" + f.name)
        if is_typed(f):
            values.append(f"{typed(f.type, source)} AS {target}")
        elif f.code_system in mapped:
            alias = quoted("m_" + f.name)
            joins.append(
                f"LEFT JOIN codemap {alias} ON {alias}.code_system = '{f.code_system}'"
                f" AND {alias}.source_key = lower(s.{source})"
            )
            values.append(f"coalesce({alias}.code, s.{source}) AS {target}")
    org = f"coalesce(nullif(f.org_code, ''), nullif(trim(c.org_code), ''), '{default_org}')"
    kept = ", ".join(
        ["rid", "file_no", "org_code", "source_sheet", "source_line", "_extra", "raw_hash"]
        + [quoted("r_" + f.name) for f in table.fields]
        + [quoted("t_" + f.name) for f in table.fields if is_typed(f) or f.code_system in mapped]
    )
    return f"""
        WITH cleaned AS (
            SELECT c.rid, c.file_no, {org} AS org_code, c.source_sheet, c.source_line, c._extra,
                   md5(concat_ws(chr(31), {hashed}, coalesce(c._extra, ''))) AS raw_hash,
                   {", ".join(raw)}, {", ".join(clean)}
            FROM chunk c JOIN files f USING (file_no)
        ), typed AS (
            SELECT s.*{"".join(", " + v for v in values)} FROM cleaned s {" ".join(joins)}
        )
        SELECT {kept}, {_errors(table)} AS err FROM typed"""


def silver_value(field: Field, mapped: list[str], plain: set[str]) -> str:
    """The silver value of a field, from a row that ``statement`` gave."""
    if is_typed(field) or field.code_system in mapped:
        return quoted("t_" + field.name)
    return cleaned(quoted("r_" + field.name), field.name in plain)


def newest_by(table: TableContract) -> str | None:
    """The field that says which of two rows of a key is newer; None: the later delivery is."""
    names = [f.name for f in table.fields]
    return next((n for n in ("source_updated_at", "recorded_at") if n in names), None)
