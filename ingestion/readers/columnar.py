"""Parquet: extracts of ours (all text) and typed files of others, row group by row group, values to exact text.

Text passes through untouched. Of the other types DuckDB writes the text: decimals with all their digits, doubles the
shortest that reads back, instants in UTC with a ``Z``, bytes in base64, nested values as JSON. A line is a row, from 1.
"""

from __future__ import annotations

import base64
from functools import lru_cache

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.readers import headers
from ingestion.readers.base import LandedFile, Sink, extras_json, reject_file, why
from lake.contracts import TableContract
from lake.settings import settings

#: Rows handed over at once.
BATCH_ROWS = 65_536

#: A column that says what happened to the row at its source: U(pdated) or D(eleted).
OP = "_op"


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect(config={"threads": settings().duckdb_threads})
    made.execute("SET TimeZone = 'UTC'")
    return made


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _expression(name: str, kind: pa.DataType) -> str:
    column = _quoted(name)
    if pa.types.is_timestamp(kind) and kind.tz:
        return f"strftime({column}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if pa.types.is_nested(kind):
        return f"CAST(to_json({column}) AS VARCHAR)"
    return f"CAST({column} AS VARCHAR)"


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind))


def as_text(batch: pa.Table) -> pa.Table:
    """Every column as text; nulls stay null."""
    for name in batch.column_names:
        kind = batch.schema.field(name).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(
            kind
        ):  # one step a value: DuckDB's blobs have no base64 of a null-safe kind
            values = [None if v is None else base64.b64encode(v).decode() for v in batch[name].to_pylist()]
            batch = batch.set_column(batch.schema.get_field_index(name), name, pa.array(values, pa.string()))
    typed = [f for f in batch.schema if not _is_text(f.type)]
    if not typed:
        return batch
    connection = _connection()
    connection.register("batch", batch)
    picked = ", ".join(
        _quoted(f.name) if _is_text(f.type) else f"{_expression(f.name, f.type)} AS {_quoted(f.name)}"
        for f in batch.schema
    )
    found = connection.execute(f"SELECT {picked} FROM batch").to_arrow_table()
    connection.unregister("batch")
    return found


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read one Parquet file of one table."""
    try:
        with pq.ParquetFile(file.path) as opened:
            names = [n for n in opened.schema_arrow.names if n != OP]
            header = headers.find([names], table)
            if header is None:
                expected = "、".join(f.physical_name for f in table.fields[:5])
                return reject_file(sink, file, "E205", expected=expected)
            _tell(file, table, sink, header)
            _read(file, table, sink, opened, header, names)
    except (OSError, pa.ArrowInvalid, duckdb.Error) as error:
        reject_file(sink, file, "E202", detail=why(error))


def _tell(file: LandedFile, table: TableContract, sink: Sink, header: headers.Header) -> None:
    if header.unknown:
        sink.notice(file, "E221", columns="、".join(header.unknown))
    if missing := header.missing(table):
        sink.notice(file, "E222", columns="、".join(missing))


def _read(
    file: LandedFile,
    table: TableContract,
    sink: Sink,
    opened: pq.ParquetFile,
    header: headers.Header,
    names: list[str],
) -> None:
    line = 1
    for batch in opened.iter_batches(BATCH_ROWS):
        found = as_text(pa.Table.from_batches([batch]))
        columns = {field: found[names[at]] for field, at in header.fields.items()}
        columns["source_line"] = pa.array(range(line, line + found.num_rows), pa.int64())
        if header.unknown:
            columns["_extra"] = extras_json(
                list(header.unknown), [found[names[at]] for at in header.unknown.values()]
            )
        if OP in found.column_names:
            columns[OP] = found[OP]
        sink.rows(file, table.name, pa.table(columns))
        line += found.num_rows
