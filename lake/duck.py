"""DuckDB connections with the platform's limits, and views on pinned Delta versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import duckdb

from lake import tables
from lake.settings import settings


def connect(
    database: Path | str | None = None,
    *,
    threads: int | None = None,
    memory: str | None = None,
    read_only: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open DuckDB (in memory without ``database``): UTC, bounded memory, spill folder under home."""
    s = settings()
    spill = s.folder("tmp", "duckdb")
    connection = duckdb.connect(
        str(database) if database else ":memory:",
        read_only=read_only,
        config={
            "threads": threads or s.duckdb_threads,
            "memory_limit": memory or s.duckdb_memory,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def literal(value: str | date | Sequence[str]) -> str:
    """A value as it stands in SQL. For work that must stay small: DuckDB loads pandas (36 MB) with the first parameter."""
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(map(literal, value))}]::VARCHAR[]"


def create_views(connection: duckdb.DuckDBPyConnection, versions: Mapping[str, int]) -> None:
    """Make the view ``silver.patient`` for ``silver/patient`` and so on, each at exactly the given version.

    A view over a two-part name only: bronze and quarantine tables (three parts) are not for building. Records that
    their source deleted are not in it: whoever wants them reads the table.
    """
    for name, at in sorted(versions.items()):
        schema, _, table = name.partition("/")
        if not table or "/" in table:
            continue
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        present = " WHERE NOT coalesce(is_deleted, false)" if "is_deleted" in tables.columns(name, at) else ""
        connection.execute(
            f'CREATE OR REPLACE VIEW "{schema}"."{table}" AS SELECT * FROM {tables.scan_sql(name, at)}{present}'
        )
