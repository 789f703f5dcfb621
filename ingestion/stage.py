"""Staging: rows that readers hand over become conformed Parquet parts, chunk by chunk, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion import codemaps, conform, odd_numbers
from ingestion.readers.base import PLACE, LandedFile, Reject
from lake import duck
from lake.contracts import FeedContract, contracts, table_contract
from lake.settings import settings

#: Rows of one table are conformed together up to this many bytes.
CHUNK_BYTES = 128 * 1024 * 1024
#: Values of one row group of a staged part.
_ROW_GROUP_VALUES = 4_000_000


@dataclass(frozen=True)
class Announcement:
    """A source's own count of what it put into a file; ``table`` None: of everything in it."""

    file_no: int
    table: str | None
    count: int
    what: str


class Stage:
    """The sink of one batch. Row ids follow the order of files and lines, so a later delivery has a higher one."""

    def __init__(
        self, contract: FeedContract, files: list[LandedFile], directory: Path, *, on: date | None = None
    ) -> None:
        self.contract = contract
        self.files = {f.number: f for f in files}
        self.directory = directory
        self.on = on  # day of delivery: what is valid by date (code maps, time zones) is taken as of it
        self.rejected: list[Reject] = []
        self.notices: list[dict[str, Any]] = []
        self.own_places: dict[int, dict[str, str]] = {}
        self.parts: dict[str, list[str]] = {}
        self.plain: dict[str, set[str]] = {}
        self.announced: list[Announcement] = []
        self.received: Counter[tuple[int, str]] = Counter()
        systems = {f.code_system for c in contracts().values() for t in c.tables.values() for f in t.fields}
        self.mapped = codemaps.mapped_systems(systems)
        self.default_org = settings().default_org_code
        self._waiting: dict[str, list[pa.Table]] = {}
        self._bytes: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self.connection = duck.connect()
        conform.register(self.connection, self.mapped, on)
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
        if "file_no" in given:
            columns["file_no"] = data["file_no"]
            for found in pc.value_counts(data["file_no"]).to_pylist():
                self.received[found["values"], table] += found["counts"]
        else:
            columns["file_no"] = pa.repeat(pa.scalar(file.number, pa.int32()), data.num_rows)
            self.received[file.number, table] += data.num_rows
        wanted = PLACE | {f.name: pa.string() for f in table_contract(table).fields}
        for name, kind in wanted.items():
            columns[name] = data[name] if name in given else pa.nulls(data.num_rows, kind)
        chunk = pa.table(columns)
        self._waiting.setdefault(table, []).append(chunk)
        self._bytes[table] = self._bytes.get(table, 0) + chunk.nbytes
        if self._bytes[table] > CHUNK_BYTES:
            self._flush(table)

    def reject(self, reject: Reject) -> None:
        self.rejected.append(reject)
        self.received[reject.file.number, reject.table] += 1

    def announce(self, file: LandedFile, table: str | None, count: int, what: str) -> None:
        self.announced.append(Announcement(file.number, table, count, what))

    def unkept(self) -> dict[int, tuple[Announcement, int]]:
        """Files that do not hold what their source announced: file number -> (announcement, received)."""
        return {a.file_no: (a, got) for a, got in self.compared() if got != a.count}

    def compared(self) -> list[tuple[Announcement, int]]:
        """Every announcement with the number of records received."""
        whole: Counter[int] = Counter()
        for (number, _), count in self.received.items():
            whole[number] += count
        return [
            (a, whole[a.file_no] if a.table is None else self.received[a.file_no, a.table])
            for a in self.announced
        ]

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
        contract = table_contract(table)
        plain = {f.name for f in contract.fields if is_plain(chunk[f.name])}
        self.plain[table] = self.plain.get(table, plain) & plain
        odd = odd_numbers.look(self.connection, contract, chunk, plain)
        absent = {f.name for f in contract.fields if chunk[f.name].null_count == chunk.num_rows}
        query = conform.statement(contract, self.mapped, plain, self.default_org, odd, self.on, absent)
        target = str(self.directory / name).replace("'", "''")
        # a wide table's row groups would outgrow the memory limit: they hold as many values, not as many rows
        rows = max(2_048, min(122_880, _ROW_GROUP_VALUES // (2 * len(contract.fields))) // 2_048 * 2_048)
        form = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {rows}"
        self.connection.execute(f"COPY ({query}) TO '{target}' ({form})")
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
        # an apostrophe in front is Excel's mark for text, which cleaning takes off
        if ((outer <= 0x20) | (outer >= 0x7F)).any() or (text[start[filled]] == 0x27).any():
            return False
    return True


def scan(directory: Path, parts: list[str]) -> str:
    """FROM clause over a table's staged parts."""
    listed = ", ".join("'" + str(directory / p).replace("'", "''") + "'" for p in parts)
    return f"read_parquet([{listed}])"
