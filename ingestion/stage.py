"""Staging: rows that readers hand over become conformed Parquet parts, chunk by chunk, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion import codemaps, conform
from ingestion.readers.base import PLACE, LandedFile, Reject
from lake import duck
from lake.contracts import FeedContract
from lake.settings import settings

#: Rows of one table are conformed together up to this many bytes.
CHUNK_BYTES = 128 * 1024 * 1024


class Stage:
    """The sink of one batch. Row ids follow the order of files and lines, so a later delivery has a higher one."""

    def __init__(self, contract: FeedContract, files: list[LandedFile], directory: Path) -> None:
        self.contract = contract
        self.files = {f.number: f for f in files}
        self.directory = directory
        self.rejected: list[Reject] = []
        self.notices: list[dict[str, Any]] = []
        self.own_places: dict[int, dict[str, str]] = {}
        self.parts: dict[str, list[str]] = {}
        self.plain: dict[str, set[str]] = {}
        systems = {f.code_system for t in contract.tables.values() for f in t.fields}
        self.mapped = codemaps.mapped_systems(systems)
        self.default_org = settings().default_org_code
        self._waiting: dict[str, list[pa.Table]] = {}
        self._bytes: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self.connection = duck.connect()
        self.connection.register("codemap", codemaps.as_table(self.mapped))
        numbers = pa.array(list(self.files), pa.int32())
        orgs = pa.array([f.org_code for f in files], pa.string())
        names = pa.array([f.source_file for f in files], pa.string())
        self.connection.register(
            "files", pa.table({"file_no": numbers, "org_code": orgs, "source_file": names})
        )

    def rows(self, file: LandedFile, table: str, data: pa.Table) -> None:
        """Take rows of one file (or of several, when they bring their own ``file_no``)."""
        first = self._next.get(table, 0)
        self._next[table] = first + data.num_rows
        columns: dict[str, Any] = {"rid": pa.array(range(first, first + data.num_rows), pa.int64())}
        given = data.column_names
        columns["file_no"] = (
            data["file_no"]
            if "file_no" in given
            else pa.repeat(pa.scalar(file.number, pa.int32()), data.num_rows)
        )
        wanted = PLACE | {f.name: pa.string() for f in self.contract.tables[table].fields}
        for name, kind in wanted.items():
            columns[name] = data[name] if name in given else pa.nulls(data.num_rows, kind)
        chunk = pa.table(columns)
        self._waiting.setdefault(table, []).append(chunk)
        self._bytes[table] = self._bytes.get(table, 0) + chunk.nbytes
        if self._bytes[table] > CHUNK_BYTES:
            self._flush(table)

    def reject(self, reject: Reject) -> None:
        self.rejected.append(reject)

    def notice(self, file: LandedFile, code: str, *, sheet: str | None = None, **context: Any) -> None:
        found = {
            "code": code,
            "file": file.source_file,
            "sheet": sheet,
            "org_code": file.org_code,
            "context": context,
        }
        self.notices.append(found)

    def places(self, file: LandedFile, names: Mapping[str, str]) -> None:
        self.own_places[file.number] = dict(names)

    def _flush(self, table: str) -> None:
        waiting = self._waiting.pop(table, [])
        if not waiting:
            return
        self._bytes[table] = 0
        chunk = pa.concat_tables(waiting)
        self.connection.register("chunk", chunk)
        name = f"{table}-{len(self.parts.get(table, [])):04d}.parquet"
        contract = self.contract.tables[table]
        plain = {f.name for f in contract.fields if is_plain(chunk[f.name])}
        self.plain[table] = self.plain.get(table, plain) & plain
        query = conform.statement(contract, self.mapped, plain, self.default_org)
        target = str(self.directory / name).replace("'", "''")
        self.connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION snappy)")
        self.connection.unregister("chunk")
        self.parts.setdefault(table, []).append(name)

    def finish(self) -> None:
        """Conform what still waits."""
        for table in list(self._waiting):
            self._flush(table)

    def close(self) -> None:
        self.connection.close()


def is_plain(column: pa.ChunkedArray) -> bool:
    """Whether no value begins or ends with anything but printable ASCII: then there is nothing to trim.

    Trimming Unicode blanks costs DuckDB more than all other work on a column; this test reads two bytes a value.
    """
    for chunk in column.chunks:
        _, ends, data = chunk.buffers()
        if data is None:
            continue
        offsets = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        text = np.frombuffer(data, np.uint8)
        start, stop = offsets[:-1], offsets[1:]
        filled = stop > start
        outer = np.concatenate((text[start[filled]], text[stop[filled] - 1]))
        if ((outer <= 0x20) | (outer >= 0x7F)).any():
            return False
    return True


def scan(directory: Path, parts: list[str]) -> str:
    """FROM clause over a table's staged parts."""
    listed = ", ".join("'" + str(directory / p).replace("'", "''") + "'" for p in parts)
    return f"read_parquet([{listed}])"
