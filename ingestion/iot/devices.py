"""Devices of a day, judged set-wise from silver: clocks, gaps in their sequences, order, and who wears them.

The day is the delivery date of the readings. Each table is written whole for its day, so a report that is run again
says the same; a gap that is filled later is gone from the next report.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.iot.rules import Rules, rules
from lake import duck, tables
from lake.contracts import table_contract
from lake.local_time import SHANGHAI

CLOCK, GAP, ORDER = "ops/device_clock", "ops/device_gap", "ops/device_order"

#: Tables with a device, its sequence and its time: name -> the device's field.
_READINGS = {"vital_reading": "device_id", "cold_chain_reading": "sensor_id", "equipment_reading": "asset_id"}

_CLOCK_SQL = """
    SELECT org_code, device_id, source_table, count(*) AS readings,
           round(max(epoch(device_at) - epoch(server_at)), 1) AS offset_s,
           min(epoch(server_at) - epoch(device_at)) < -{flag} AS is_ahead,
           count(*) >= {least} AND min(epoch(server_at) - epoch(device_at)) > {flag} AS is_behind
    FROM readings WHERE data_date = DATE '{day}' AND server_at IS NOT NULL
    GROUP BY ALL HAVING count(*) >= {least} OR is_ahead"""

#: Sequences restart at a device's restart: a number that falls while time goes on begins a new one.
_GAP_SQL = """
    WITH numbered AS (
        SELECT DISTINCT org_code, device_id, source_table, seq, device_at,
               max(device_at) OVER (PARTITION BY org_code, device_id, source_table) AS newest
        FROM readings WHERE seq IS NOT NULL
    ), runs AS (
        SELECT *, count_if(fell) OVER (PARTITION BY org_code, device_id, source_table ORDER BY device_at, seq) AS run
        FROM (SELECT *, coalesce(seq < lag(seq) OVER (
                PARTITION BY org_code, device_id, source_table ORDER BY device_at, seq), false) AS fell FROM numbered)
    ), steps AS (
        SELECT *, lag(seq) OVER w AS before, lag(device_at) OVER w AS before_at
        FROM (SELECT DISTINCT ON (org_code, device_id, source_table, run, seq) * FROM runs ORDER BY device_at)
        WINDOW w AS (PARTITION BY org_code, device_id, source_table, run ORDER BY seq)
    )
    SELECT org_code, device_id, source_table, before + 1 AS first_seq, seq - 1 AS last_seq, seq - before - 1 AS missing,
           before_at AS after_at, device_at AS before_at,
           device_at < TIMESTAMPTZ '{settled}' AS is_final
    FROM steps WHERE seq - before > 1 AND device_at >= TIMESTAMPTZ '{since}' ORDER BY missing DESC LIMIT {most}"""

_ORDER_SQL = """
    SELECT org_code, device_id, source_table, count(*) AS readings,
           count_if(late_s > 0) AS out_of_order, count_if(late_s > {window}) AS beyond_window,
           coalesce(max(late_s), 0) AS latest_by_s
    FROM (SELECT *, epoch(max(device_at) OVER (
            PARTITION BY org_code, device_id, source_table ORDER BY server_at, device_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) - epoch(device_at) AS late_s
          FROM readings WHERE data_date = DATE '{day}' AND server_at IS NOT NULL)
    GROUP BY ALL HAVING out_of_order > 0"""

_UNBOUND_SQL = """
    SELECT count(*) FROM silver_vital r WHERE data_date = DATE '{day}' AND NOT EXISTS (
        SELECT 1 FROM bindings b WHERE b.device_id = r.device_id AND b.org_code = r.org_code
            AND r.device_at >= b.valid_from AND (b.valid_to IS NULL OR r.device_at < b.valid_to))"""


def _views(con: duckdb.DuckDBPyConnection, since: str) -> bool:
    """``readings`` over the tables that exist; whether there is any."""
    parts = []
    for name, device in _READINGS.items():
        if not tables.exists(f"silver/{name}"):
            continue
        known = {f.name for f in table_contract(name).fields}
        server = (
            "server_at"
            if "server_at" in known and "server_at" in _columns(name)
            else "NULL::TIMESTAMPTZ AS server_at"
        )
        parts.append(
            f"SELECT org_code, {device} AS device_id, '{name}' AS source_table, seq, device_at, {server}, data_date "
            f"FROM {tables.scan_sql(f'silver/{name}')} WHERE device_at >= TIMESTAMPTZ '{since}'"
        )
    if parts:
        con.execute(f"CREATE TEMP VIEW readings AS {' UNION ALL '.join(parts)}")
    return bool(parts)


def _columns(name: str) -> set[str]:
    return {f.name for f in tables.open_table(f"silver/{name}").schema().fields}


def _unbound(con: duckdb.DuckDBPyConnection, day: date) -> int:
    if not tables.exists("silver/vital_reading"):
        return 0
    con.execute(f"CREATE TEMP VIEW silver_vital AS FROM {tables.scan_sql('silver/vital_reading')}")
    fields = {
        "device_id": "VARCHAR",
        "org_code": "VARCHAR",
        "valid_from": "TIMESTAMPTZ",
        "valid_to": "TIMESTAMPTZ",
    }
    empty = f"(SELECT {', '.join(f'NULL::{t} AS {n}' for n, t in fields.items())} WHERE false)"
    bound = tables.scan_sql("silver/device_binding") if tables.exists("silver/device_binding") else empty
    con.execute(f"CREATE TEMP VIEW bindings AS FROM {bound}")
    row = con.execute(_UNBOUND_SQL.format(day=day)).fetchone()
    assert row is not None
    return int(row[0])


def _write(con: duckdb.DuckDBPyConnection, name: str, query: str, day: date, version: str) -> pa.Table:
    """Replace the day's rows of one report."""
    found = con.execute(
        f"SELECT DATE '{day}' AS data_date, *, '{version}' AS rules_version FROM ({query})"
    ).to_arrow_table()
    if tables.exists(name):
        kept = con.execute(f"FROM {tables.scan_sql(name)} WHERE data_date <> DATE '{day}'").to_arrow_table()
        tables.overwrite(name, pa.concat_tables([kept.cast(found.schema), found]))
    elif found.num_rows:
        tables.overwrite(name, found)
    return found


def report(data_date: date) -> dict[str, Any]:
    """Judge the devices of a day; see ``ingestion.iot.report``."""
    given: Rules = rules()
    midnight = datetime(data_date.year, data_date.month, data_date.day, tzinfo=SHANGHAI) + timedelta(days=1)
    settled = midnight - timedelta(hours=given.gap_settle_hours)
    since = settled - timedelta(hours=given.gap_settle_hours)
    with duck.connect() as con:
        if not _views(con, since.isoformat()):
            return {"data_date": data_date.isoformat(), "devices": 0}
        day = data_date.isoformat()
        clock = _CLOCK_SQL.format(day=day, flag=given.clock_flag_seconds, least=given.clock_readings_at_least)
        gap = _GAP_SQL.format(
            settled=settled.isoformat(), since=since.isoformat(), most=given.gap_report_at_most
        )
        order = _ORDER_SQL.format(day=day, window=given.order_window_seconds)
        clocks = _write(con, CLOCK, clock, data_date, given.version)
        gaps = _write(con, GAP, gap, data_date, given.version)
        orders = _write(con, ORDER, order, data_date, given.version)
        counted = con.execute(
            f"SELECT count(DISTINCT (org_code, device_id)), count(*) FROM readings WHERE data_date = DATE '{day}'"
        ).fetchone()
        assert counted is not None
        return {
            "data_date": day,
            "devices": counted[0],
            "readings": counted[1],
            "clocks_ahead": sum(clocks["is_ahead"].to_pylist()),
            "clocks_behind": sum(clocks["is_behind"].to_pylist()),
            "gaps": gaps.num_rows,
            "missing": sum(gaps["missing"].to_pylist()),
            "gaps_final": sum(gaps["is_final"].to_pylist()),
            "out_of_order": sum(orders["out_of_order"].to_pylist()),
            "beyond_window": sum(orders["beyond_window"].to_pylist()),
            "readings_without_person": _unbound(con, data_date),
        }
