"""Writing the catalogue into the candidate file: descriptions, sizes, lineage, quality; a row per asset and field."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from catalog import gold
from catalog.model import TableInfo, own_tables, source_tables
from catalog.quality import Quality, quality_of
from lake import tables
from lake.runs import Run

_BLOCK_BYTES = 262_144

_ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
}


def _schema(table: TableInfo) -> pa.Schema:
    return pa.schema([(f.name, _ARROW[f.type]) for f in table.fields])


def _counts(con: duckdb.DuckDBPyConnection, assets: list[str]) -> dict[str, int]:
    """Rows of each table, in one statement."""
    if not assets:
        return {}
    query = " UNION ALL ".join(f"SELECT '{asset}', count(*) FROM {asset}" for asset in assets)
    return {str(asset): int(rows) for asset, rows in con.execute(query).fetchall()}


def _freshness(con: duckdb.DuckDBPyConnection, infos: list[TableInfo]) -> dict[str, Any]:
    """Newest delivery date of each table that carries one."""
    dated = [t.asset_id for t in infos if any(f.name == "data_date" for f in t.fields)]
    if not dated:
        return {}
    query = " UNION ALL ".join(f"SELECT '{asset}', max(data_date) FROM {asset}" for asset in dated)
    return dict(con.execute(query).fetchall())


def _gold_bytes(con: duckdb.DuckDBPyConnection, name: str) -> int:
    """Storage of a native table: its blocks times their size (tables of less than a block share one)."""
    query = f"SELECT count(DISTINCT block_id) FROM pragma_storage_info('gold.{name}') WHERE block_id >= 0"
    found = con.execute(query).fetchone()
    return int(found[0]) * _BLOCK_BYTES if found else 0


def _lake_bytes(run: Run, name: str) -> int:
    return sum(int(f["size_bytes"]) for f in tables.files(name, run.versions[name]))


def _asset_rows(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    infos: dict[str, TableInfo],
    edges: dict[str, set[str]],
    quality: Quality,
) -> list[dict[str, Any]]:
    down: dict[str, set[str]] = {}
    for asset, parents in edges.items():
        for parent in parents:
            down.setdefault(parent, set()).add(asset)
    counts = _counts(con, list(infos))
    fresh = _freshness(con, [t for t in infos.values() if t.schema != "gold"])
    rows = []
    for asset, info in sorted(infos.items()):  # some dozens
        is_gold = info.schema == "gold"
        judged = quality.of(asset, edges)
        rows.append(
            {
                "asset_id": asset,
                "name_zh": info.label_zh,
                "name_en": gold.short(gold.both(info.description)[1])
                if is_gold
                else info.name.replace("_", " "),
                "layer": info.schema,
                "domain": info.domain,
                "product": info.domain if is_gold else "",
                "grain_zh": info.grain_zh,
                "owner": info.owner,
                "level": info.level,
                "national_grade": info.national_grade,
                "row_count": counts[asset],
                "bytes": _gold_bytes(con, info.name) if is_gold else _lake_bytes(run, info.lake_name),
                "freshness": run.data_date if is_gold else fresh.get(asset),
                "upstream": ", ".join(sorted(edges.get(asset, set()))),
                "downstream": ", ".join(sorted(down.get(asset, set()))),
                "quality_score": judged.score,
                "open_findings": judged.open_findings,
                "description": info.description,
            }
        )
    return rows


def _field_rows(infos: dict[str, TableInfo]) -> list[dict[str, Any]]:
    return [
        {
            "asset_id": asset,
            "ord": place,
            "field": f.name,
            "label_zh": f.label_zh,
            "description": f.description,
            "type": f.type,
            "unit": f.unit,
            "code_system": f.code_system,
            "level": f.level,
            "required": f.required,
            "is_key": f.is_key,
            "fhir_path": f.fhir_path,
            "source_standard": f.source_standard,
        }
        for asset, info in sorted(infos.items())
        for place, f in enumerate(info.fields, start=1)
    ]


def _replace(con: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    con.register("rows_", rows)
    con.execute(f"CREATE OR REPLACE TABLE gold.{table} AS SELECT * FROM rows_")
    con.unregister("rows_")


def write(con: duckdb.DuckDBPyConnection, run: Run, manifest: dict[str, Any]) -> dict[str, int]:
    """Replace both catalogue tables. Only assets that exist are listed: a silver table nobody delivered is not.

    Returns:
        ``{"assets": rows, "fields": rows}``
    """
    con.execute("CREATE SCHEMA IF NOT EXISTS gold")
    names = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'").fetchall()
    present = {str(name) for (name,) in names}
    infos = {a: t for a, t in source_tables().items() if t.lake_name in run.versions}
    infos |= {a: t for a, t in gold.gold_tables(manifest).items() if t.name in present}
    own = own_tables()
    asset_schema, field_schema = (_schema(own[f"gold.catalog_{kind}"]) for kind in ("asset", "field"))
    described = pa.Table.from_pylist(_field_rows(infos | own), schema=field_schema)
    _replace(con, "catalog_field", described)
    _replace(con, "catalog_asset", asset_schema.empty_table())  # both exist before they are counted
    con.execute("CHECKPOINT")  # sizes are of what is on disk
    edges = gold.upstream(manifest) | {asset: set() for asset in own}
    rows = _asset_rows(con, run, infos | own, edges, quality_of(con, infos))
    for row in rows:
        if row["asset_id"] == "gold.catalog_asset":
            row["row_count"] = len(rows)
    _replace(con, "catalog_asset", pa.Table.from_pylist(rows, schema=asset_schema))
    return {"assets": len(rows), "fields": described.num_rows}
