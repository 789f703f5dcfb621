"""The truth's own reading of rules that the world breaks by itself: see ``natural_rules.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import yaml

from simulator.faults.natural import NARROW, WIDE
from simulator.faults.record import KEYS, World, record_keys
from simulator.faults.tcm import closed_year

STAMPS = ("source_updated_at", "recorded_at", "deliver_on")
SERVICES = ("htn_visit", "dm_visit", "copd_visit", "chronic_one_table", "child_visit", "newborn_visit", "prenatal_visit",
            "postpartum_visit", "smi_visit", "tb_visit")  # fmt: skip
LEAST_VISITS = 50


@cache
def rules() -> dict[str, list[dict[str, str]]]:
    """Rule -> statements with the table that they speak of."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "natural_rules.yaml").read_text("utf-8"))
    return loaded


def states(world: World, tables: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """The newest delivered version of each record, with its row number in the world's table."""
    con = duckdb.connect(config={"threads": 2})
    con.execute(
        f"CREATE MACRO last_day() AS DATE '{world.window.end}'; CREATE MACRO closed_year() AS {closed_year(world)}"
    )
    for name in sorted(tables):
        rows = world.tables[name]
        con.register("given", rows.append_column("row_no", pa.array(np.arange(rows.num_rows))))
        stamp = next(s for s in STAMPS if s in rows.column_names)
        keys = ", ".join(KEYS[name])
        mended = (
            f"* REPLACE (translate(id_no, '{WIDE}', '{NARROW}') AS id_no)" if name == "ph_archive" else "*"
        )
        con.execute(f"""
            CREATE TABLE {name} AS SELECT {mended} FROM given WHERE deliver_on <= last_day()
            QUALIFY row_number() OVER (PARTITION BY org_code, {keys} ORDER BY {stamp} DESC, deliver_on DESC, row_no) = 1""")
        con.unregister("given")
    return con


def note(world: World) -> None:
    """Log every record that breaks one of these rules and is not yet logged for it."""
    texts = " ".join(s["sql"] for statements in rules().values() for s in statements)
    words = set(re.findall(r"[a-z_]+", texts))
    con = states(world, (words & set(KEYS)) | set(SERVICES) | {"vital_reading"})
    known = {
        (r["rule_id"], r["table_name"], r["org_code"], r["record_key"])
        for r in world.truth().to_pylist()
        if r["rule_id"]
    }
    for rule, statements in rules().items():
        for statement in statements:
            table = statement["table"]
            rows = np.array(sorted(r for (r,) in con.execute(statement["sql"]).fetchall()), dtype="int64")
            keys = _keys(world, table, rows)
            new = np.array([(rule, table, *key) not in known for key in keys], dtype=bool)
            if len(rows):
                world.note(table, rows[new], rule, "rule", statement["fields"], "natural")
    _quarters(world, con, known)
    _clocks(world, con)


def _keys(world: World, table: str, rows: np.ndarray) -> list[tuple[str, str]]:
    chosen = world.tables[table].take(pa.array(rows))
    if not chosen.num_rows:
        return []
    return list(zip(chosen["org_code"].to_pylist(), record_keys(table, chosen).to_pylist(), strict=True))


def _quarters(world: World, con: duckdb.DuckDBPyConnection, known: set[tuple[str, str, str, str]]) -> None:
    """Institutions whose visits gather at the end of a quarter or on holidays fixed by law (HTN-020)."""
    union = " UNION ALL ".join(f"SELECT org_code, visited_on AS day FROM {table}" for table in SERVICES)
    found = con.execute(f"""
        WITH visit AS (SELECT *, date_trunc('quarter', day)::DATE AS quarter_on FROM ({union})
                       WHERE day < date_trunc('quarter', last_day()) AND day >= date_trunc('quarter', last_day()) - INTERVAL 1 YEAR)
        SELECT org_code, quarter_on FROM visit GROUP BY ALL HAVING count(*) >= {LEAST_VISITS} AND (
            count(*) FILTER (day >= (quarter_on + INTERVAL 3 MONTH)::DATE - 3) > 0.4 * count(*)
            OR count(*) FILTER (strftime(day, '%m-%d') IN ('01-01', '05-01', '10-01', '10-02', '10-03')) > 0.1 * count(*))
        ORDER BY ALL""").fetchall()
    for org, quarter in found:
        if ("HTN-020", "org_quarter", org, str(quarter)) not in known:
            world.note_group("org_quarter", org, str(quarter), "HTN-020", "visits", "natural")


def _clocks(world: World, con: duckdb.DuckDBPyConnection) -> None:
    """Devices whose clock is off by more than ten minutes on a day of the last thirty (GEN-007)."""
    found = con.execute("""
        SELECT org_code, device_id, device_at::DATE AS day FROM vital_reading
        WHERE device_at::DATE <= last_day() AND device_at::DATE > last_day() - 30
        GROUP BY ALL HAVING abs(round(median(epoch(device_at) - epoch(gateway_at)) / 60, 1)) > 10 ORDER BY ALL""").fetchall()
    for org, device, day in found:
        world.note_group("device_day", org, f"{device}|{day}", "GEN-007", "device_at", "natural")
