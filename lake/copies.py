"""A Delta table's content straight from DuckDB: it writes the files, with all its threads, and Delta commits them.

A stream through Arrow is written by one thread; for millions of rows that is most of a step's time.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import duckdb
from deltalake import Schema, write_deltalake
from deltalake.transaction import AddAction, RemoveAction

from lake import tables

#: A file's size. Smaller ones would be less to rewrite at a merge, and more to open for a reader.
_FILE_BYTES = 64 * 1024 * 1024
_ROW_GROUP = 128 * 1024
#: A column of more different values than this in a row group gets no dictionary: DuckDB otherwise tries one for every
#: column of numbers and names, which nearly doubles what the file costs and makes it no smaller.
_DICTIONARY_VALUES = 4_000

Mode = Literal["overwrite", "append"]


class Copy:
    """Files of rows on their way into a table: nobody sees them before :meth:`commit`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self._connection, self._name = connection, name
        self._actions: list[AddAction | RemoveAction] = []
        self._schema: Any = None

    def add(self, select: str, *, bounds: tuple[str, ...] = ()) -> int:
        """Write the rows of a SELECT as files; returns how many there are.

        ``bounds``: text columns whose smallest and largest value a file announces, so that a merge skips it.
        """
        if self._schema is None:
            self._schema = (
                self._connection.execute(f"SELECT * FROM ({select}) LIMIT 0").to_arrow_table().schema
            )
        root = _folder(self._name)
        folder = root / f"copy-{uuid.uuid4().hex}"
        written = self._connection.execute(
            f"COPY ({select}) TO '{folder}' (FORMAT parquet, FILE_SIZE_BYTES {_FILE_BYTES}, "
            f"ROW_GROUP_SIZE {_ROW_GROUP}, DICTIONARY_SIZE_LIMIT {_DICTIONARY_VALUES}, RETURN_STATS)"
        ).fetchall()
        rows = 0
        for file, count, size, _, statistics, *_ in written:
            if not count:  # the file of a SELECT without rows
                Path(file).unlink()
                continue
            rows += int(count)
            self._actions.append(
                AddAction(
                    str(Path(file).relative_to(root)),
                    int(size),
                    {},
                    int(time.time() * 1000),
                    True,
                    json.dumps(_stats(int(count), statistics, bounds), ensure_ascii=False),
                )
            )
        return rows

    def without(self, paths: Iterable[str]) -> None:
        """Take files of the table (their paths as the log has them) out in the same commit, one that appends."""
        for path in paths:
            self._actions.append(RemoveAction(path, True, int(time.time() * 1000)))

    def commit(self, mode: Mode) -> int:
        """Make the files the table's content, or part of it, in one commit. Returns the version.

        Raises:
            MedlakeError: E108, others came first too often.
        """
        if not tables.exists(self._name):
            write_deltalake(str(tables.path(self._name)), self._schema.empty_table())

        def write() -> None:
            tables.open_table(self._name).create_write_transaction(
                self._actions, mode, Schema.from_arrow(self._schema)
            )

        tables.storing(self._name, None, write, repeats=mode == "overwrite")
        return tables.version(self._name)


def _folder(name: str) -> Path:
    """A table's folder, made if it is not there yet."""
    tables.restrict()
    folder = tables.path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stats(count: int, statistics: dict[str, dict[str, str]], bounds: tuple[str, ...]) -> dict[str, Any]:
    """Delta's statistics of a file. A column without both bounds announces none."""
    of = {c: statistics.get(f'"{c}"', {}) for c in bounds}
    told = {c: s for c, s in of.items() if "min" in s and "max" in s}
    return {
        "numRecords": count,
        "minValues": {c: s["min"] for c, s in told.items()},
        "maxValues": {c: s["max"] for c, s in told.items()},
        "nullCount": {c: int(s["null_count"]) for c, s in told.items() if "null_count" in s},
    }


def write(connection: duckdb.DuckDBPyConnection, name: str, select: str, mode: Mode = "overwrite") -> int:
    """Write the rows of one SELECT. Returns the table's version."""
    copy = Copy(connection, name)
    copy.add(select)
    return copy.commit(mode)
