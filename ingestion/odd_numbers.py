"""Numbers that are not plainly written: with a unit, a thousands' comma, full-width digits, or a placeholder instead.

Most deliveries have none, which a look at the bytes of a column tells. What there is is read once per distinct text
and becomes one relation ``odd_number``, a row per record that has any: the values in the contract's units under the
fields' names, NULL for what is no number, and ``converted``, the notes (``U:<field>``) on units that were converted.
``conform`` joins it once, so a table with eighty numeric columns costs no more expressions than one with two.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from ingestion.fields import NUMERIC, clean, quoted
from ingestion.typing_sql import EXACT, fast, half, number_of
from ingestion.units import derived_names, fold, fold_sql, row_unit
from ingestion.units.sql import declared_column, scale_table
from lake.contracts import Field, TableContract

_DIGITS = np.zeros(256, bool)
_DIGITS[48:58] = True
_DECIMALS = _DIGITS.copy()
_DECIMALS[46] = True

_QUANTITY = "^([-+]?[0-9.,]+(?:[eE][-+]?[0-9]+)?)[ \u3000]*([^0-9 \u3000.,].*)$"


def is_simple(column: pa.ChunkedArray, *, decimals: bool) -> bool:
    """Whether the text of a column is nothing but digits (and points, with ``decimals``)."""
    allowed = _DECIMALS if decimals else _DIGITS
    for chunk in column.chunks:
        _, ends, data = chunk.buffers()
        if data is None or not len(chunk):
            continue
        offsets = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if not allowed[np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]].all():
            return False
    return True


def _declared(connection: duckdb.DuckDBPyConnection, chunk: pa.Table) -> set[str]:
    """Fields whose unit some header declares."""
    if "_extra" not in chunk.column_names or chunk["_extra"].null_count == chunk.num_rows:
        return set()
    found = connection.execute(f"""
        SELECT DISTINCT unnest(json_keys(d)) FROM (SELECT DISTINCT {declared_column("_extra")} AS d FROM chunk)
        WHERE d IS NOT NULL""").fetchall()
    return {name for (name,) in found}


def _of_row(table: TableContract, field: Field, chunk: pa.Table) -> str | None:
    """The unit that another field of the row says, as folded spelling, '' for the contract's own; None: none says so."""
    found = row_unit(table.name, field.name)
    if found is None or chunk[found[0]].null_count == chunk.num_rows:
        return None
    source, texts = found
    foreign = {t: u for t, u in texts.items() if fold(u) != fold(field.unit)}
    said = f"trim({quoted(source)})"
    cases = " ".join(
        f"WHEN {said} = '{t}' OR {fold_sql(said)} = '{fold(u)}' THEN '{fold(u)}'" for t, u in foreign.items()
    )
    return f"CASE {cases} ELSE '' END"


def _branch(field: Field, plain: bool, declared: bool, of_row: str | None) -> str:
    """The texts of one field that need explaining, with the unit that the column's header or the row declares."""
    text = clean(field, quoted(field.name), plain)
    header = f"coalesce({declared_column('_extra')} ->> '{field.name}', '')" if declared else "''"
    if of_row is not None:
        header = f"coalesce(nullif({header}, ''), {of_row})"
    return f"""
        SELECT rid, '{field.name}' AS field, '{field.type}' AS kind, c AS text, header FROM (
            SELECT rid, {text} AS c, {header} AS header FROM chunk)
        WHERE c IS NOT NULL AND (header <> '' OR ({fast(field.type, "c")}) IS NULL)"""


def look(
    connection: duckdb.DuckDBPyConnection, table: TableContract, chunk: pa.Table, plain: set[str]
) -> frozenset[str]:
    """Make ``odd_number`` for the rows registered as ``chunk``; returns the fields that have such values."""
    declared = _declared(connection, chunk)
    of_row = {f.name: x for f in table.fields if (x := _of_row(table, f, chunk)) is not None}
    suspects = [
        f
        for f in table.fields
        if f.type in NUMERIC and f.name not in derived_names()
        if f.name in declared or f.name in of_row or not is_simple(chunk[f.name], decimals=f.type == "number")
    ]
    if not suspects:
        return frozenset()
    branches = " UNION ALL ".join(
        _branch(f, f.name in plain, f.name in declared, of_row.get(f.name)) for f in suspects
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE odd_text AS {branches}")
    names = [n for (n,) in connection.execute("SELECT DISTINCT field FROM odd_text ORDER BY 1").fetchall()]
    if names:
        _explain(connection, suspects)
        _by_record(connection, names)
    connection.execute("DROP TABLE odd_text")
    return frozenset(names)


def _explain(connection: duckdb.DuckDBPyConnection, fields: list[Field]) -> None:
    """``odd_value``: what each distinct text of a field is in the contract's unit, and whether a unit was converted."""
    connection.register("unit_scale", scale_table(fields))
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE odd_value AS
        WITH split AS (
            SELECT *, {number_of("h")} AS plain, regexp_extract(h, '{_QUANTITY}', ['v', 'u']) AS q
            FROM (SELECT *, {half("text")} AS h FROM (SELECT DISTINCT field, kind, text, header FROM odd_text))
        ), spelled AS (
            SELECT field, kind, text, header, coalesce(plain, TRY_CAST(replace(q.v, ',', '') AS DOUBLE)) AS n,
                   CASE WHEN plain IS NULL THEN {fold_sql("q.u")} ELSE header END AS unit
            FROM split
        ), scaled AS (
            SELECT o.*, CASE WHEN o.unit = '' OR (u.scale = 1 AND u.plus = 0) THEN n ELSE n * u.scale + u.plus END AS v
            FROM spelled o LEFT JOIN unit_scale u ON u.field = o.field AND u.spelled = o.unit
        )
        SELECT field, text, header, unit <> '' AND v IS NOT NULL AS converted,
               CASE WHEN kind = 'number' THEN v WHEN unit <> '' THEN round(v)
                    WHEN v = trunc(v) AND abs(v) < {EXACT} THEN v END AS value
        FROM scaled""")
    connection.unregister("unit_scale")


def _by_record(connection: duckdb.DuckDBPyConnection, names: list[str]) -> None:
    """``odd_number`` out of ``odd_text`` and ``odd_value``."""
    listed = ", ".join(f"'{n}'" for n in names)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE odd AS FROM odd_text JOIN odd_value USING (field, text, header)"
    )
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE odd_number AS
        SELECT * FROM (PIVOT (SELECT rid, field, value FROM odd) ON field IN ({listed}) USING first(value) GROUP BY rid)
        LEFT JOIN (
            SELECT rid, string_agg('U:' || field, ',') AS converted FROM odd WHERE converted GROUP BY rid) USING (rid)""")
    connection.execute("DROP TABLE odd")
    connection.execute("DROP TABLE odd_value")
