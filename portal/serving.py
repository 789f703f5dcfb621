"""Reads the published serving file: read-only, locked down, looked up per request so that a swap shows at once."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

import products

_opening = threading.Lock()


@lru_cache(maxsize=2)
def _database(path: Path) -> duckdb.DuckDBPyConnection:
    """One database a published file for all requests: they take cursors of it. A new publication is another file.

    Locked down as Superset's: no file, no network, no setting can be reached through a query. Opened once, since a second
    connection could set nothing any more, and requests come side by side.
    """
    database = duckdb.connect(
        str(path),
        read_only=True,
        config={
            "threads": 2,
            "memory_limit": "512MB",
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
        },
    )
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    database.execute("SET lock_configuration = true")
    return database


def rows(sql: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
    """Rows of a query over the published file.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    path = products.serving_path().resolve()
    with _opening:
        con = _database(path).cursor()
    try:
        return con.execute(sql, values or []).to_arrow_table().to_pylist()
    finally:
        con.close()


def has(schema: str, table: str) -> bool:
    """Whether the published file holds a table."""
    sql = "SELECT count(*) AS n FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    return bool(rows(sql, [schema, table])[0]["n"])
