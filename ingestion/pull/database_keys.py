"""What we know the source to hold: key and hash of every row delivered, as Parquet files beside the extract.

A snapshot writes a base (``keys-<run>.parquet``), an increment adds a piece (``keys-<run>-<chunk>.parquet``); a base
stands for everything before it. Comparing a snapshot with them finds new, changed and deleted rows, by DuckDB and
within its memory limit. Keys identify persons: the folder is the service account's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from lake.settings import settings

#: Name of the row's hash in the files of this module.
HASH = "_hash"
#: What happened to a row, for the reader of the drop file.
OP = "_op"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def hash_of(columns: Sequence[str]) -> str:
    """MD5 over all values of a row; a null is no empty text."""
    values = ", ".join(f"coalesce({quoted(c)}, chr(30))" for c in columns)
    return f"md5(concat_ws(chr(31), {values}))"


def folder(source: str, table: str) -> Path:
    made = settings().folder("extract") / source / table
    made.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings().folder("extract").chmod(0o700)
    return made


def _run_of(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _files(directory: Path) -> list[Path]:
    """The newest base and the pieces after it, oldest first."""
    found = sorted(directory.glob("keys-*.parquet"))
    bases = [p for p in found if p.stem.count("-") == 1]
    first = _run_of(bases[-1]) if bases else -1
    return (
        [p for p in found if _run_of(p) > first]
        if not bases
        else [bases[-1], *(p for p in found if _run_of(p) > first)]
    )


def known(directory: Path, keys: Sequence[str]) -> str:
    """SQL of what is known: the key columns and ``HASH``; of a key the newest file speaks."""
    files = _files(directory)
    columns = ", ".join(map(quoted, keys))
    if not files:
        empty = ", ".join(f"NULL::VARCHAR AS {quoted(k)}" for k in (*keys, HASH))
        return f"(SELECT {empty} WHERE false)"
    parts = " UNION ALL ".join(
        f"SELECT {columns}, {HASH}, {n} AS seq FROM read_parquet({literal(p)})" for n, p in enumerate(files)
    )
    return f"(SELECT {columns}, {HASH} FROM ({parts}) QUALIFY rank() OVER (PARTITION BY {columns} ORDER BY seq DESC) = 1)"


def write(con: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    """Write a query to a Parquet file, whole or not at all."""
    draft = target.with_name(f".{target.name}.part")
    con.execute(
        f"COPY ({query}) TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"
    )
    draft.chmod(0o600)
    draft.rename(target)


def sweep(directory: Path) -> None:
    """Remove what a newer base stands for, and drafts of killed runs."""
    kept = set(_files(directory))
    for path in [*directory.glob("keys-*.parquet"), *directory.glob(".*.part")]:
        if path not in kept:
            path.unlink()


def compare(
    con: duckdb.DuckDBPyConnection, snapshot: str, directory: Path, keys: Sequence[str]
) -> tuple[int, int]:
    """Make the tables ``changed`` (keys and hash of new and changed rows) and ``gone`` (keys of deleted ones).

    Returns:
        rows that are gone, and rows that were known.
    """
    same = " AND ".join(f"a.{quoted(k)} IS NOT DISTINCT FROM b.{quoted(k)}" for k in keys)
    columns = ", ".join(map(quoted, keys))
    con.execute(f"CREATE OR REPLACE TEMP TABLE old AS FROM {known(directory, keys)}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE new AS SELECT DISTINCT {columns}, {HASH} FROM {snapshot}")
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE changed AS FROM new a ANTI JOIN old b ON {same} AND a.{HASH} = b.{HASH}"
    )
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE gone AS SELECT DISTINCT {columns} FROM old a ANTI JOIN new b ON {same}"
    )
    row = con.execute(
        f"SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM (SELECT DISTINCT {columns} FROM old))"
    )
    found = row.fetchone()
    assert found is not None
    return int(found[0]), int(found[1])
