"""A build's own books, kept in the candidate file: what it read, what became of each model, whose each table is."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import contracts, duck, ledger, runs
from lake.log import logger
from products import dbt_run

_log = logger("products")
_COUNTS = ("received", "loaded", "duplicate", "quarantined")

#: One row per model: the worst status among itself and its tests, and what those said that did not pass.
_WORST_OF_EACH_MODEL = """
CREATE OR REPLACE TABLE ops.build_result AS
SELECT
    product, model,
    arg_min(status, list_position(['error', 'runtime error', 'fail', 'skipped', 'warn', 'pass', 'success'], status))
        AS status,
    coalesce(string_agg(node || ': ' || message, '; ' ORDER BY node) FILTER (message <> ''), '') AS message
FROM ops.build_node
GROUP BY product, model
"""


def digest(*folders: str) -> str:
    """SHA-256 over this module, which writes the state, and the project's files in some folders."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for folder in folders:
        for path in sorted((dbt_run.DBT_DIR / folder).rglob("*")):
            if path.is_file():
                found.update(str(path.relative_to(dbt_run.DBT_DIR)).encode() + path.read_bytes())
    return found.hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """What the last build noted in its file; empty when there is none that can be opened and read."""
    if not path.exists():
        return {}
    try:
        with duck.connect(path, read_only=True) as con:
            return {
                k: json.loads(v) for k, v in con.execute("SELECT key, value FROM ops.build_state").fetchall()
            }
    except duckdb.Error:
        _log.warning("candidate_unreadable", reason="starting from an empty file")
        return {}


def fresh_reason(state: dict[str, Any], run: runs.Run, models: str, residents: int) -> str:
    """Why this build cannot go on from the last one; empty when it can."""
    if not state:
        return "no candidate yet"
    if state.get("models") != models:
        return "the models or the builder changed"
    if date.fromisoformat(state["data_date"]) > run.data_date:
        return "the candidate is of a later date"
    if state["residents"] != residents:
        return "another city"
    old: dict[str, int] = state["versions"]
    if any(run.versions.get(name, -1) < at for name, at in old.items()):
        return "a table went back to an older version"
    return ""


def deliveries() -> pa.Table:
    """One row per feed, delivering institution and delivery date of all committed batches, from the ledger:
    files, the four counts of their records, and the feed's grace in hours."""
    rows = ledger.deliveries()
    known = contracts.contracts()
    return pa.table(
        {
            "feed": pa.array([r.feed for r in rows], pa.string()),
            "feed_zh": pa.array(
                [known[r.feed].label_zh if r.feed in known else r.feed for r in rows], pa.string()
            ),
            "grace_hours": pa.array(
                [known[r.feed].grace_hours if r.feed in known else 0 for r in rows], pa.int64()
            ),
            "org_code": pa.array([r.org_code for r in rows], pa.string()),
            "data_date": pa.array([r.data_date for r in rows], pa.date32()),
            **{n: pa.array([int(getattr(r, n)) for r in rows], pa.int64()) for n in ("files", *_COUNTS)},
        }
    )


def note(
    con: duckdb.DuckDBPyConnection, run: runs.Run, results: list[dbt_run.NodeResult], state: dict[str, Any]
) -> None:
    """The build's own books: result per node, product per gold table, and what the next build must know."""
    products = {r.model: r.product for r in results if r.kind == "model" and r.product}
    con.execute(
        "CREATE OR REPLACE TABLE ops.build_node (product VARCHAR, model VARCHAR, node VARCHAR, kind VARCHAR,"
        " status VARCHAR, message VARCHAR, seconds DOUBLE)"
    )
    con.executemany(
        "INSERT INTO ops.build_node VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(r.product, r.model, r.node, r.kind, r.status, r.message, r.seconds) for r in results],
    )
    con.execute(_WORST_OF_EACH_MODEL)
    con.execute("CREATE OR REPLACE TABLE ops.asset_product (table_name VARCHAR, product VARCHAR)")
    gold = {
        name
        for (name,) in con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'"
        ).fetchall()
    }
    owned = {name: product for name, product in products.items() if name in gold}
    owned |= {"catalog_asset": "catalog", "catalog_field": "catalog"}
    con.executemany("INSERT INTO ops.asset_product VALUES (?, ?)", sorted(owned.items()))
    con.execute("CREATE OR REPLACE TABLE ops.build_info (data_date DATE, run_id VARCHAR)")
    con.execute("INSERT INTO ops.build_info VALUES (?, ?)", [run.data_date, run.run_id])
    con.execute("CREATE OR REPLACE TABLE ops.build_state (key VARCHAR, value VARCHAR)")
    con.executemany(
        "INSERT INTO ops.build_state VALUES (?, ?)", [(k, json.dumps(v)) for k, v in state.items()]
    )
