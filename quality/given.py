"""What rules read besides silver: the audit log, the ledger's counts, and records as they were received (bronze)."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import select

from lake import ledger, ops, tables
from lake.contracts import table_contract
from lake.local_time import SHANGHAI
from quality.access_log import delivered_events
from quality.compile import day, name, text
from quality.rule import RuleBook
from quality.shapes import BRONZE

_EVENT = pa.schema([
    ("event_id", pa.string()), ("org_code", pa.string()), ("happened_at", pa.timestamp("us", tz="UTC")),
    ("actor", pa.string()), ("actor_role", pa.string()), ("action", pa.string()), ("tables", pa.string()),
    ("purpose", pa.string()), ("result", pa.string()),
])  # fmt: skip
_DELIVERED = pa.schema(
    [("org_code", pa.string()), ("of_table", pa.string()), ("day_on", pa.date32()), ("records", pa.int64())]
)


def _events(until: date) -> list[dict[str, Any]]:
    """Audit entries up to the end of a local day. A small log: one row per access, not per record."""
    found = []
    with ops.engine().begin() as connection:
        for row in connection.execute(select(ops.audit_entry).order_by(ops.audit_entry.c.seq)):
            at = datetime.fromisoformat(row.at)
            if at.astimezone(SHANGHAI).date() > until:
                continue
            entry = json.loads(row.entry)
            found.append(
                {
                    "event_id": str(row.seq),
                    "org_code": str(entry.get("org_code", "")),
                    "happened_at": at,
                    "actor": entry.get("actor"),
                    "actor_role": entry.get("actor_role") or entry.get("role"),
                    "action": entry.get("action"),
                    "tables": "、".join(entry.get("tables") or []),
                    "purpose": entry.get("purpose"),
                    "result": entry.get("result"),
                }
            )
    return found


def _delivered(until: date) -> list[dict[str, Any]]:
    """Records received per institution, table and date, of committed batches."""
    found: dict[tuple[str, str, date], int] = {}
    for feed_day in ledger.by_feed():
        if feed_day["feed"] != "public_health" or feed_day["data_date"] > until:
            continue
        for batch in ledger.committed("public_health", feed_day["data_date"]):
            for line in ledger.lines_of(batch):
                key = (line.org_code, line.table_name, feed_day["data_date"])
                found[key] = found.get(key, 0) + line.received
    return [{"org_code": o, "of_table": t, "day_on": d, "records": n} for (o, t, d), n in found.items()]


def create_views(connection: duckdb.DuckDBPyConnection, book: RuleBook, until: date) -> None:
    """Make ``silver.audit_event``, ``silver.delivered`` and ``silver.bronze_<table>`` where the book reads them.

    All hold what was known on the date, so that checking it again says the same.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS silver")
    reads = set(book.reads)
    if "audit_event" in reads and (events := _events(until) + delivered_events(until)):
        connection.register("audit_given", pa.Table.from_pylist(events, schema=_EVENT))
        connection.execute("CREATE OR REPLACE VIEW silver.audit_event AS SELECT * FROM audit_given")
    if "feed_day" in reads and (lines := _delivered(until)):
        connection.register("delivered_given", pa.Table.from_pylist(lines, schema=_DELIVERED))
        connection.execute("CREATE OR REPLACE VIEW silver.delivered AS SELECT * FROM delivered_given")
    for view in sorted(t for t in reads if t.startswith(BRONZE)):
        contract = table_contract(view.removeprefix(BRONZE))
        full = f"bronze/{contract.feed}/{contract.name}"
        if not tables.exists(full):
            continue
        columns = tables.columns(full)
        newest = next((f for f in ("source_updated_at", "recorded_at") if f in columns), None)
        if newest is None or not set(contract.key) <= set(columns):
            continue
        keys = ", ".join(f"trim({name(k)}) AS {name(k)}" for k in contract.key)
        connection.execute(f"""
            CREATE OR REPLACE VIEW silver.{name(view)} AS
            SELECT org_code, {keys}, raw_hash, {name(newest)} AS newest_by, {text(contract.name)} AS of_table
            FROM {tables.scan_sql(full)} WHERE data_date <= {day(until)} AND NOT coalesce(is_deleted, false)
        """)
