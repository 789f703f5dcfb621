"""A file that is one JSON array of objects. ``source_line`` is the element's number, from 1.

DuckDB streams the elements, so memory does not follow the file's size; text that breaks the array refuses the file.
"""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa

from ingestion.readers import json_rows
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from lake.contracts import TableContract

#: Elements handed over at once.
_ROWS = 50_000

#: Bytes that one element may have.
_LARGEST = 64 * 1024 * 1024


def begins(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an array."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read one file of one table; elements that are no objects are refused, each with its number."""
    con = json_rows.connection()
    path = json_rows.text(str(file.path))
    source = f"""(SELECT row_number() OVER () AS source_line, json::VARCHAR AS object
        FROM read_json_objects({path}, format = 'array', maximum_object_size = {_LARGEST}))"""
    told = False
    try:
        con.execute("SET preserve_insertion_order = true")
        other = f"SELECT source_line, object FROM {source} WHERE json_type(object) <> 'OBJECT'"
        for line, raw in con.execute(other).fetchall():
            sink.reject(Reject(file, table.name, "E217", raw, line))
        objects = f"(SELECT * FROM {source} WHERE json_type(object) = 'OBJECT')"
        reader = con.execute(json_rows.rows_sql(table, objects, ["source_line"])).to_arrow_reader(_ROWS)
        for batch in reader:
            if not told and batch["_extra"].null_count < batch.num_rows:
                first = json.loads(next(v for v in batch["_extra"].to_pylist() if v))
                sink.notice(file, "E221", columns="、".join(first))
                told = True
            sink.rows(file, table.name, pa.Table.from_batches([batch]))
    except duckdb.Error as error:
        reject_file(sink, file, "E216", detail=why(error))
