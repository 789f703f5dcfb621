"""JSON objects to rows of a table: each field under its source name, its English name or its Chinese label.

DuckDB parses each object twice, once for its fields and once for its keys; nothing is looked at row by row.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from ingestion.readers import ndjson
from lake.contracts import Field, TableContract
from lake.settings import settings

_LOCAL = threading.local()


def connection() -> duckdb.DuckDBPyConnection:
    """This thread's in-memory DuckDB: opening one costs more than reading a small file."""
    found = getattr(_LOCAL, "connection", None)
    if found is None:
        found = duckdb.connect(config={"threads": settings().duckdb_threads})
        found.execute("SET TimeZone = 'UTC'")
        _LOCAL.connection = found
    made: duckdb.DuckDBPyConnection = found
    return made


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def spellings(field: Field) -> list[str]:
    """Under which keys an object may hold the field, the source's name first."""
    return list(dict.fromkeys((field.physical_name, field.name, field.label_zh)))


def paths(keys: Sequence[str]) -> str:
    """The keys as a list of JSON paths."""
    listed = ", ".join(text('$."' + k.replace("\\", "\\\\").replace('"', '\\"') + '"') for k in keys)
    return f"[{listed}]"


def rows_sql(table: TableContract, source: str, kept: Sequence[str], ignored: Sequence[str] = ()) -> str:
    """A query that turns the column ``object`` (JSON text) of ``source`` into the table's fields and ``_extra``.

    Args:
        kept: columns of the source that go along.
        ignored: keys that the caller has already taken from the objects.
    """
    keys = list(dict.fromkeys(k for f in table.fields for k in spellings(f)))
    place = {k: n + 1 for n, k in enumerate(keys)}
    fields = ", ".join(
        f"coalesce({', '.join(f'v[{place[k]}]' for k in spellings(f))}) AS {quoted(f.name)}"
        for f in table.fields
    )
    known = "[" + ", ".join(text(k) for k in (*keys, *ignored)) + "]"
    along = "".join(f"{quoted(k)}, " for k in kept)
    return f"""
        WITH parsed AS (
            SELECT {along}object, json_extract_string(object, {paths(keys)}) AS v,
                   list_filter(json_keys(object), k -> NOT list_contains({known}, k)) AS unknown
            FROM {source}
        )
        SELECT {along}{fields}, CASE WHEN len(unknown) > 0 THEN CAST(to_json(map_from_entries(list_transform(unknown,
            k -> struct_pack(k := k, v := json_extract(object, '$."' || replace(replace(k, '\\', '\\\\'), '"', '\\"') || '"')
            )))) AS VARCHAR) END AS _extra
        FROM parsed"""


def numbered_lines(path: Path) -> Iterator[tuple[pa.Table, dict[int, bytes]]]:
    """A file's lines as ``text, source_line`` piece by piece, and those that are not UTF-8 by their line number."""
    base = 0
    for piece in ndjson.windows(path):
        data, bad = ndjson.utf8_lines(piece)
        lines = ndjson.lines_of(data)
        numbers = pa.array(np.arange(base + 1, base + 1 + len(lines)), pa.int64())
        yield pa.table({"text": lines, "source_line": numbers}), {base + 1 + i: raw for i, raw in bad.items()}
        base += len(lines)
