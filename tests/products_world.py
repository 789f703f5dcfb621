"""A scratch home for tests of products and portal: real Delta tables, a real ledger, a real candidate file.

The rows are few and made by hand; the schemas are those that build, quality and linking write.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from catalog.gold import both, short
from lake import ledger, registry, runs, tables
from lake.settings import PROJECT_ROOT, settings

DAY_1 = date(2026, 11, 18)
DAY_2 = date(2026, 11, 19)


def deliver(
    day: date, feed: str = "his", received: int = 120, duplicate: int = 7, quarantined: int = 3
) -> None:
    """One committed batch of a feed in the ledger."""
    batch = ledger.begin(f"{feed}-{day:%Y%m%d}", feed, day, contract_version="1.0.0", writes=[])
    loaded = received - duplicate - quarantined
    ledger.commit(
        batch, [ledger.Line("encounter", "H001", "e.csv", received, loaded, duplicate, quarantined)]
    )


def people(count: int = 400) -> pa.Table:
    """silver/person: one resident per row, the first with a text that a spreadsheet would take for a formula."""
    index = range(count)
    names = ["=cmd|'/c calc'!A1", "王小东", "欧阳娜娜", "李雷", "@SUM(A1)", "赵四"]
    return pa.table(
        {
            "empi_id": [f"E{i:05d}" for i in index],
            "person_token": [f"TOKEN{i:05d}" for i in index],
            "name": [names[i % len(names)] for i in index],
            "sex_code": [str(1 + i % 2) for i in index],
            "birth_date": pa.array([date(1950 + i % 40, 3, 4) for i in index]),
            "id_no": [f"42970119{50 + i % 40:02d}0304{i % 1000:03d}X" for i in index],
            "phone": [f"139{i:08d}" for i in index],
            "addr_detail": [f"湖东区湖滨街道{i}号" for i in index],
            "region_code": ["429701001001"] * count,
            "is_deceased": [False] * count,
            "death_date": pa.nulls(count, pa.date32()),
            "record_count": [2] * count,
            "has_trusted_id": [True] * count,
        }
    )


def link(day: date, persons: pa.Table | None = None) -> runs.Run:
    """A run of a date with its person table written and pinned."""
    run = runs.open_run(day)
    version = tables.overwrite("silver/person", persons if persons is not None else people())
    return runs.record_output(run, {"silver/person": version})


def judge(day: date, closed: dict[str, str] | None = None, omit: tuple[str, ...] = ()) -> None:
    """quality/gate and quality/finding of a date; ``closed`` maps a product to its reason."""
    closed = closed or {}
    named = [p for p in registry.products() if p.product not in omit]
    gate = pa.table(
        {
            "data_date": pa.array([day] * len(named), pa.date32()),
            "product": [p.product for p in named],
            "gate": ["closed" if p.product in closed else "open" for p in named],
            "reason_zh": [closed.get(p.product, "") for p in named],
            "reason_en": [closed.get(p.product, "") for p in named],
            "excluded": pa.array([0] * len(named), pa.int64()),
            "eligible": pa.array([100] * len(named), pa.int64()),
            "excluded_pct": pa.array([0.0] * len(named)),
        }
    )
    # a date judged again replaces its rows, as quality.check does
    if tables.exists("quality/gate"):
        import pyarrow.dataset as ds

        kept = tables.read("quality/gate").to_table(filter=ds.field("data_date") != pa.scalar(day))
        gate = pa.concat_tables([kept.cast(gate.schema), gate])
    tables.overwrite("quality/gate", gate)
    tables.overwrite(
        "quality/finding", pa.table({"finding_id": ["a", "b", "c"], "state": ["open", "open", "closed"]})
    )


GOLD = Path(__file__).with_name("products_gold.sql").read_text("utf-8")
ASSETS = {
    "daily_encounter": "operations",
    "wall_alert": "operations",
    "wall_kpi": "operations",
    "chronic_management": "chronic_disease",
    "htn_management": "chronic_disease",
    "dm_management": "chronic_disease",
    "dim_person": "health_archive",
    "fct_lab_result": "laboratory",
    "fct_encounter": "operations",
    "catalog_asset": "catalog",
    "catalog_field": "catalog",
}
PERSONS = 400


@lru_cache(maxsize=1)
def _described() -> list[dict[str, Any]]:
    """catalog_field's rows of the gold models, from their YAML, as catalog.build takes them from dbt's manifest."""
    rows: list[dict[str, Any]] = []
    for path in sorted((PROJECT_ROOT / "dbt" / "models" / "marts").rglob("*.yml")):
        for model in yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader).get("models", []):
            for number, column in enumerate(model.get("columns", []), start=1):
                meta = column.get("config", {}).get("meta", {})
                rows.append(
                    {
                        "asset_id": f"gold.{model['name']}",
                        "ord": number,
                        "field": column["name"],
                        "label_zh": short(both(column["description"])[0]),
                        "description": column["description"],
                        "type": column["data_type"],
                        "unit": str(meta.get("unit", "")),
                        "code_system": meta.get("code_system", ""),
                        "level": meta.get("level", 2),
                    }
                )
    return rows


def build(
    day: date,
    salt: int = 0,
    failed: dict[str, str] | None = None,
    extra_sql: str = "",
    assets: dict[str, str] | None = None,
) -> Path:
    """The candidate file of a date as build leaves it; ``failed`` maps a model to its product."""
    from products.paths import candidate_path

    path = candidate_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    owners = assets if assets is not None else ASSETS
    results: list[Any] = [(p, m, "success", "") for m, p in owners.items() if m not in (failed or {})]
    results += [(p, m, "error", "boom") for m, p in (failed or {}).items()]
    run = runs.get_run(day)
    con = duckdb.connect(str(path))
    try:
        con.execute("CREATE SCHEMA IF NOT EXISTS gold; CREATE SCHEMA IF NOT EXISTS ops")
        con.execute("CREATE SCHEMA IF NOT EXISTS staging; CREATE OR REPLACE VIEW staging.v AS SELECT 1 AS x")
        con.execute(GOLD.format(day=day, salt=salt, persons=PERSONS, seeds=settings().seeds_dir))
        con.register("described", pa.Table.from_pylist(_described()))
        con.execute("INSERT INTO gold.catalog_field BY NAME FROM described")
        con.unregister("described")
        con.execute("CREATE OR REPLACE TABLE ops.asset_product (table_name VARCHAR, product VARCHAR)")
        con.executemany("INSERT INTO ops.asset_product VALUES (?, ?)", list(owners.items()))
        con.execute(
            "CREATE OR REPLACE TABLE ops.build_result (product VARCHAR, model VARCHAR, status VARCHAR, message VARCHAR)"
        )
        con.executemany("INSERT INTO ops.build_result VALUES (?, ?, ?, ?)", results)
        con.execute("CREATE OR REPLACE TABLE ops.build_info (data_date DATE, run_id VARCHAR)")
        con.execute("INSERT INTO ops.build_info VALUES (?, ?)", [run.data_date, run.run_id])
        if extra_sql:
            con.execute(extra_sql)
    finally:
        con.close()
    return path


def day(day_: date, salt: int = 0, closed: dict[str, str] | None = None) -> None:
    """Everything before publishing: delivered, linked, judged, built."""
    deliver(day_)
    link(day_)
    judge(day_, closed)
    build(day_, salt)


def snapshot(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables of a serving file, without the instants at which it was published."""
    con = duckdb.connect(str(path), read_only=True)
    try:
        names = con.execute("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
        return {
            f"{s}.{t}": con.execute(
                f'SELECT COLUMNS(c -> c <> \'published_at\') FROM "{s}"."{t}" ORDER BY ALL'
            ).fetchall()
            for s, t in names
        }
    finally:
        con.close()
