"""Writes one serving file: gold tables from where the plan says, and the ``ops`` tables that the wall reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import contracts, duck, ledger, registry, tables
from lake.errors import MedlakeError
from lake.runs import Run
from products import dbt_run
from products.plan import Source, Verdict

_PUBLICATION = (
    "product VARCHAR, label_zh VARCHAR, data_date DATE, gate VARCHAR, reason_zh VARCHAR, reason_en VARCHAR, "
    "published_at TIMESTAMPTZ, run_id VARCHAR"
)
_RUN_INFO = (
    "data_date DATE, run_id VARCHAR, received BIGINT, loaded BIGINT, duplicate BIGINT, quarantined BIGINT, "
    "open_findings BIGINT, persons BIGINT"
)
_LEDGER = pa.schema(
    [
        ("data_date", pa.date32()),
        ("feed", pa.string()),
        ("label_zh", pa.string()),
        *[(name, pa.int64()) for name in ("batches", "received", "loaded", "duplicate", "quarantined")],
    ]
)


def attach(con: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a DuckDB file read-only under a name."""
    quoted = str(path).replace("'", "''")
    con.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")


def _manifest_columns(table: str) -> dict[str, str]:
    """Columns of a model that never built, from dbt's enforced contract; empty when dbt does not know it."""
    path = dbt_run.target_dir() / "manifest.json"
    nodes = json.loads(path.read_text("utf-8"))["nodes"].values() if path.exists() else []
    model = next((n for n in nodes if n["resource_type"] == "model" and n["name"] == table), None)
    return (
        {c["name"]: c["data_type"] for c in model["columns"].values() if c.get("data_type")} if model else {}
    )


def _create_empty(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """A blocked product that never had a good version: its tables, with their columns and no row."""
    for database in ("cand", "last"):
        known = con.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'gold' AND table_name = ?",
            [database, table],
        ).fetchone()
        if known and known[0]:
            con.execute(f'CREATE TABLE gold."{table}" AS FROM {database}.gold."{table}" LIMIT 0')
            return
    columns = _manifest_columns(table)
    if not columns:
        raise MedlakeError("E603", tables=f"gold.{table}")
    listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    con.execute(f'CREATE TABLE gold."{table}" ({listed})')


def _copy(con: duckdb.DuckDBPyConnection, source: Source, open_products: list[str]) -> int:
    """Fill one gold table; returns the rows its source has, counted there."""
    target = f'gold."{source.table}"'
    if source.origin == "empty":
        _create_empty(con, source.table)
        return 0
    if source.origin == "rows":
        return _copy_rows(con, source, open_products)
    if not _columns(con, source.origin, source.table):
        raise MedlakeError("E603", tables=f"gold.{source.table}")
    con.execute(f"CREATE TABLE {target} AS FROM {source.origin}.{target}")
    return _rows(con, f"{source.origin}.{target}")


def _copy_rows(con: duckdb.DuckDBPyConnection, source: Source, open_products: list[str]) -> int:
    """Rows of open products from this run, rows of blocked ones from the published file."""
    target = f'gold."{source.table}"'
    owner = f"coalesce(nullif(product, ''), '{source.product}')"
    con.execute(f"CREATE TABLE {target} AS FROM cand.{target} WHERE {owner} IN ?", [open_products])
    planned = _rows(con, f"cand.{target}", f"{owner} IN ?", [open_products])
    have = _columns(con, "last", source.table)
    shared = [name for name in _columns(con, "cand", source.table) if name in have]
    if shared:
        listed = ", ".join(f'"{name}"' for name in shared)
        con.execute(
            f"INSERT INTO {target} BY NAME SELECT {listed} FROM last.{target} WHERE {owner} NOT IN ?",
            [open_products],
        )
        planned += _rows(con, f"last.{target}", f"{owner} NOT IN ?", [open_products])
    return planned


def _columns(con: duckdb.DuckDBPyConnection, database: str, table: str) -> list[str]:
    rows = con.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND schema_name = 'gold' "
        "AND table_name = ? ORDER BY column_index",
        [database, table],
    )
    return [row[0] for row in rows.fetchall()]


def _rows(
    con: duckdb.DuckDBPyConnection, table: str, where: str = "true", values: list[Any] | None = None
) -> int:
    found = con.execute(f"SELECT count(*) FROM {table} WHERE {where}", values or []).fetchone()
    return int(found[0]) if found else 0


def _count(name: str, run: Run, where: str = "true") -> int:
    """Rows of a lake table as this run sees it; 0 when the table does not exist yet."""
    if not tables.exists(name):
        return 0
    con = duck.connect()
    try:
        sql = tables.scan_sql(name, run.versions.get(name))
        found = con.execute(f"SELECT count(*) FROM {sql} WHERE {where}").fetchone()
    finally:
        con.close()
    return int(found[0]) if found else 0


def _ledger_table() -> pa.Table:
    labels = {name: contract.label_zh for name, contract in contracts.contracts().items()}
    rows: list[dict[str, Any]] = [
        row | {"label_zh": labels.get(row["feed"], row["feed"])}
        for row in ledger.by_feed()
        if row["state"] == "committed"
    ]
    columns = {f.name: [row[f.name] for row in rows] for f in _LEDGER}
    return pa.table(columns, schema=_LEDGER)


def _write_ops(
    con: duckdb.DuckDBPyConnection, run: Run, verdicts: list[Verdict], sources: list[Source]
) -> None:
    con.execute(f"CREATE TABLE ops.publication ({_PUBLICATION})")
    con.executemany(
        "INSERT INTO ops.publication VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            [v.product, v.label_zh, v.data_date, v.gate, v.reason_zh, v.reason_en, v.published_at, v.run_id]
            for v in verdicts
        ],
    )
    total = ledger.totals(run.data_date)
    con.execute(f"CREATE TABLE ops.run_info ({_RUN_INFO})")
    con.execute(
        "INSERT INTO ops.run_info VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            run.data_date,
            run.run_id,
            *[total[name] for name in ("received", "loaded", "duplicate", "quarantined")],
            _count("quality/finding", run, "state = 'open'"),
            _count("silver/person", run),
        ],
    )
    _insert_arrow(con, "ops.ledger", _ledger_table())
    owners = [s for s in sources if s.product]
    assets = pa.table(
        {
            "table_name": pa.array([s.table for s in owners], pa.string()),
            "product": pa.array([s.product for s in owners], pa.string()),
        }
    )
    _insert_arrow(con, "ops.asset_product", assets)
    _insert_arrow(con, "ops.org", registry.orgs())


def _insert_arrow(con: duckdb.DuckDBPyConnection, target: str, rows: pa.Table) -> None:
    con.register("incoming", rows)
    con.execute(f"CREATE TABLE {target} AS FROM incoming")
    con.unregister("incoming")


def write(
    path: Path,
    candidate: Path,
    last: Path | None,
    run: Run,
    verdicts: list[Verdict],
    sources: list[Source],
) -> dict[str, int]:
    """Write the file and close it (nothing is left in a write-ahead log).

    Returns:
        rows per gold table **of its source**, counted there: what the audit holds the file against.
    """
    con = duck.connect(path)
    try:
        attach(con, candidate, "cand")
        if last is not None:
            attach(con, last, "last")
        con.execute("CREATE SCHEMA gold; CREATE SCHEMA ops")
        opened = [v.product for v in verdicts if v.is_open]
        planned = {source.table: _copy(con, source, opened) for source in sources}
        _write_ops(con, run, verdicts, sources)
        con.execute("CHECKPOINT")
    finally:
        con.close()
    return planned
