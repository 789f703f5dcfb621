"""Which staged rows are duplicates, and which one of each key is current.

A duplicate has the full key and the content (``raw_hash``) of an earlier row of the batch or of the row that is
current in silver. Of the others all enter bronze; silver takes, per key, the newest (``conform.newest_by``, else
the later delivery; of equal ones the one that came last), unless silver holds a newer one already.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb

from ingestion import conform
from ingestion.conform import quoted
from ingestion.stage import scan
from lake import tables
from lake.contracts import Field, TableContract

#: Tables whose key is a digest of what a row says: whatever else comes along (when, in which cell), it is the same.
_SAME_BY_KEY = frozenset({"correction"})


def marks_name(table: str) -> str:
    """File in the staging folder that holds ``rid, duplicate, current`` of rows that are not simply new."""
    return f"{table}.marks.parquet"


def _key_columns(table: TableContract, mapped: list[str], plain: set[str]) -> list[tuple[Field, str]]:
    return [(f, conform.silver_value(f, mapped, plain)) for f in table.fields if f.is_key]


def _range(con: duckdb.DuckDBPyConnection, keys: list[Field]) -> str:
    """Bounds on instants and dates in the key: Parquet's statistics then skip what is older (vital readings)."""
    found = ""
    for f in keys:
        if f.type in ("timestamp", "date"):
            row = con.execute(f"SELECT min({quoted(f.name)}), max({quoted(f.name)}) FROM keyed").fetchone()
            if row and row[0] is not None:
                cast = "TIMESTAMPTZ" if f.type == "timestamp" else "DATE"
                found += f" AND t.{quoted(f.name)} BETWEEN {cast} '{row[0]}' AND {cast} '{row[1]}'"
    return found


def mark(
    con: duckdb.DuckDBPyConnection,
    table: TableContract,
    mapped: list[str],
    plain: set[str],
    directory: Path,
    parts: list[str],
    data_date: date,
) -> str:
    """Write the marks of one table; returns how its current rows enter silver: ``none``, ``append``, ``merge``."""
    keys = _key_columns(table, mapped, plain)
    names = ["org_code", *(f.name for f, _ in keys)]
    columns = ", ".join(quoted(n) for n in names)
    newest = conform.newest_by(table)
    newer = quoted("t_" + newest) if newest else "0"
    content = "''" if table.name in _SAME_BY_KEY else "raw_hash"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE keyed AS
        SELECT rid, org_code, {", ".join(f"{expr} AS {quoted(f.name)}" for f, expr in keys)}, {content} AS raw_hash,
               {newer} AS newer
        FROM {scan(directory, parts)} WHERE err IS NULL""")
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE ranked AS
        WITH suspect AS (
            SELECT hash({columns}) AS h FROM keyed GROUP BY h HAVING count(*) > 1
        ), again AS (
            SELECT rid, newer, {columns},
                   row_number() OVER (PARTITION BY {columns}, raw_hash ORDER BY rid) > 1 AS duplicate,
                   max(rid) OVER (PARTITION BY {columns}, raw_hash) AS came_last
            FROM keyed WHERE hash({columns}) IN (SELECT h FROM suspect)
        )
        SELECT rid, duplicate, NOT duplicate AND row_number() OVER (
            PARTITION BY {columns} ORDER BY newer DESC NULLS LAST, came_last DESC, rid) = 1 AS current
        FROM again""")
    silver = f"silver/{table.name}"
    present = "SELECT NULL::BIGINT AS rid, false AS same, false AS stale WHERE false"
    if tables.exists(silver):
        equal = " AND ".join(f"t.{quoted(n)} = k.{quoted(n)}" for n in names)
        # silver written before the contract had the field does not say which row is newer
        says = newest is not None and newest in tables.column_types(silver)
        stale = f"t.{quoted(newest)} > k.newer" if newest and says else f"t.data_date > DATE '{data_date}'"
        bounds = _range(con, [f for f, _ in keys])
        same = "true" if table.name in _SAME_BY_KEY else "t.raw_hash = k.raw_hash"
        present = f"""SELECT k.rid, {same} AS same, coalesce({stale}, false) AS stale
            FROM {tables.scan_sql(silver)} t JOIN keyed k ON {equal}{bounds}"""
    con.execute(f"CREATE OR REPLACE TEMP TABLE present AS {present}")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE marks AS
        SELECT coalesce(r.rid, p.rid) AS rid, p.rid IS NOT NULL AS known,
               coalesce(r.duplicate, false) OR coalesce(p.same, false) AS duplicate,
               coalesce(r.current, true) AND NOT coalesce(p.same, false) AND NOT coalesce(p.stale, false) AS current
        FROM ranked r FULL JOIN present p ON p.rid = r.rid""")
    target = str(directory / marks_name(table.name)).replace("'", "''")
    con.execute(f"COPY (SELECT rid, duplicate, current FROM marks) TO '{target}' (FORMAT parquet)")
    row = con.execute("""
        SELECT (SELECT count(*) FROM keyed) - (SELECT count(*) FILTER (NOT current) FROM marks),
               (SELECT count(*) FILTER (known AND current) FROM marks)""").fetchone()
    assert row is not None
    current, updates = row
    return "none" if not current else "merge" if updates else "append"
