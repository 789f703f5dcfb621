"""Reads the published serving file: read-only, locked down, opened per request so that a swap shows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

import products


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    # the same lock-down as Superset's: no file, no network, no setting can be reached through a query
    con = duckdb.connect(
        str(path),
        read_only=True,
        config={
            "threads": 1,
            "memory_limit": "512MB",
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
        },
    )
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET lock_configuration = true")
    return con


def rows(sql: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
    """Rows of a query over the published file.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    con = _connect(products.serving_path())
    try:
        return con.execute(sql, values or []).to_arrow_table().to_pylist()
    finally:
        con.close()


def has(schema: str, table: str) -> bool:
    """Whether the published file holds a table."""
    sql = "SELECT count(*) AS n FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    return bool(rows(sql, [schema, table])[0]["n"])
