"""NDJSON: one object per line. The lines are found with array operations, the JSON is read by DuckDB in bulk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.text import shown
from lake.contracts import TableContract
from lake.settings import settings

#: Bytes read at once.
WINDOW = 64 * 1024 * 1024


def windows(path: Path, size: int = WINDOW) -> Iterator[bytes]:
    """The file in pieces that end at a line break."""
    with path.open("rb") as file:
        rest = b""
        while block := file.read(size):
            piece = rest + block
            cut = piece.rfind(b"\n") + 1
            rest = piece[cut:]
            if cut:
                yield piece[:cut]
        if rest:
            yield rest


def lines_of(data: bytes) -> pa.Array:
    """The lines of a piece as a text column over the same bytes, no copy; each keeps its line break."""
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    if not len(breaks) or breaks[-1] != len(data):
        breaks = np.append(breaks, len(data))
    offsets = np.concatenate(([0], breaks)).astype(np.int32)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def utf8_lines(data: bytes) -> tuple[bytes, dict[int, bytes]]:
    """The piece with every line that is not UTF-8 blanked out, and those lines by 0-based number."""
    try:
        data.decode()
        return data, {}
    except UnicodeDecodeError:
        pass
    lines = data.split(b"\n")
    bad: dict[int, bytes] = {}
    for i, line in enumerate(lines):  # only when some line is broken
        try:
            line.decode()
        except UnicodeDecodeError:
            bad[i] = line
            lines[i] = b""
    return b"\n".join(lines), bad


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    """One in-memory DuckDB for all files of a process: opening one costs more than reading a small file."""
    return duckdb.connect(config={"threads": settings().duckdb_threads})


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _usual_keys(data: bytes, known: set[str]) -> list[str]:
    """The keys of the first object, in its order, if the contract knows them all: most lines look like it."""
    for line in data[:100_000].split(b"\n", 20)[:20]:
        try:
            first = json.loads(line)
        except ValueError:
            continue
        if isinstance(first, dict) and set(first) <= known:
            return list(first)
    return []


def _query(table: TableContract, usual: list[str]) -> str:
    """Each line to its contract fields as text; what the contract does not know goes to ``_extra``.

    Parsing is what costs, so a line is parsed three times at most: is it JSON, its fields, its keys. Only a line
    whose keys are not the usual ones is looked at further.
    """
    shape = _quoted(json.dumps({f.physical_name: "VARCHAR" for f in table.fields}, ensure_ascii=False))
    fields = ", ".join(f'r."{f.physical_name}" AS "{f.name}"' for f in table.fields)
    known = "[" + ", ".join(_quoted(f.physical_name) for f in table.fields) + "]"
    expected = "[" + ", ".join(_quoted(k) for k in usual) + "]::VARCHAR[]"
    return f"""
        WITH typed AS (
            SELECT source_line, text, CASE
                WHEN json_valid(text) THEN CASE WHEN text[1] = '{{' THEN 'OBJECT' ELSE json_type(text) END
                WHEN regexp_full_match(text, '\\s*') THEN 'BLANK' ELSE 'BROKEN' END AS state
            FROM lines
        ), parsed AS (
            SELECT *, CASE WHEN state = 'OBJECT' THEN from_json(text, {shape}) END AS r,
                CASE WHEN state = 'OBJECT' AND json_keys(text) <> {expected}
                     THEN list_filter(json_keys(text), k -> NOT list_contains({known}, k)) END AS unknown
            FROM typed WHERE state <> 'BLANK'
        )
        SELECT source_line, state, {fields},
               CASE WHEN len(unknown) > 0 THEN CAST(to_json(map_from_entries(list_transform(unknown,
                    k -> struct_pack(k := k, v := json_extract(text, '$."' || k || '"'))))) AS VARCHAR) END AS _extra,
               CASE WHEN state <> 'OBJECT' THEN text END AS raw
        FROM parsed"""


def read(file: LandedFile, table: TableContract, sink: Sink, *, window: int = WINDOW) -> None:
    """Read one NDJSON file of one table."""
    base = 0
    query: str | None = None
    told = False
    connection = _connection()
    try:
        for piece in windows(file.path, window):
            data = piece[3:] if base == 0 and piece.startswith(b"\xef\xbb\xbf") else piece
            data, bad = utf8_lines(data)
            for i, raw in bad.items():
                context = {"encoding": "utf-8"}
                sink.reject(Reject(file, table.name, "E206", shown(raw), base + i + 1, context=context))
            query = query or _query(table, _usual_keys(data, {f.physical_name for f in table.fields}))
            text = lines_of(data)
            number = pa.array(np.arange(base + 1, base + 1 + len(text)), pa.int64())
            connection.register("lines", pa.table({"text": text, "source_line": number}))
            found = connection.execute(query).to_arrow_table()
            connection.unregister("lines")
            base += len(text)
            told = _hand_over(file, table, sink, found, told)
    except OSError as error:
        reject_file(sink, file, "E202", detail=why(error))


def _hand_over(file: LandedFile, table: TableContract, sink: Sink, found: pa.Table, told: bool) -> bool:
    is_object = pc.equal(found["state"], "OBJECT")
    for bad in found.filter(pc.invert(is_object)).select(["source_line", "state", "raw"]).to_pylist():
        code = "E216" if bad["state"] == "BROKEN" else "E217"
        sink.reject(Reject(file, table.name, code, bad["raw"].rstrip("\r\n"), bad["source_line"]))
    good = found.filter(is_object).drop_columns(["state", "raw"])
    if good["_extra"].null_count < good.num_rows and not told:
        first = json.loads(next(v for v in good["_extra"].to_pylist() if v))
        sink.notice(file, "E221", columns="、".join(first))
        told = True
    if good.num_rows:
        sink.rows(file, table.name, good)
    return told
