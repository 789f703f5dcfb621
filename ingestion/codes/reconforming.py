"""Codes and canonical units of rows that are in silver already, by today's maps.

Each silver row is joined with the bronze row it came from (batch, institution, content), whose text is mapped again
as of the row's day of delivery; rows that come out differently are merged into silver as a batch of the ledger with
no records. Killed in the middle, the batch is undone by the feed's next one, as any other.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from ingestion import codemaps, conform, overlay, units
from ingestion.codes.backlog import coded_tables
from ingestion.conform import quoted
from ingestion.locking import writing
from ingestion.units import sql as quantities
from lake import duck, ledger, tables
from lake.contracts import TableContract, contract, contracts
from lake.log import logger

_log = logger("ingestion")


def _silver(table: TableContract) -> str:
    """The table in silver with all columns of today's contract, NULL where it was written by an older one."""
    name = f"silver/{table.name}"
    present = set(tables.columns(name))
    added = (f"NULL::{kind} AS {quoted(c)}" for c, kind in table.silver_columns.items() if c not in present)
    return f"(SELECT {', '.join(['*', *added])} FROM {tables.scan_sql(name)})"


def _columns(table: TableContract, replaced: list[str]) -> str:
    return ", ".join(
        f"n.{quoted('n_' + c)} AS {quoted(c)}" if c in replaced else f"n.{quoted(c)}"
        for c in table.silver_columns
    )


def _changed(replaced: list[str]) -> str:
    return " OR ".join(f"n.{quoted('n_' + c)} IS DISTINCT FROM n.{quoted(c)}" for c in replaced)


def _coded(table: TableContract, names: list[str]) -> str | None:
    """Rows whose codes come out differently; fields of the key stay, since they say which row it is."""
    wanted = [n for n in names if not table.field(n).is_key]
    bronze = f"bronze/{table.feed}/{table.name}"
    if not wanted or not tables.exists(bronze):
        return None
    systems = sorted({table.field(n).code_system for n in wanted})
    joins, found = conform.map_joins(table, systems, dated="s.data_date")
    texts = ", ".join(
        f"{conform.clean(table.field(n), 'b.' + quoted(n), False)} AS {quoted('c_' + n)}" for n in found
    )
    values = ", ".join(f"{found[n]} AS {quoted('n_' + n)}" for n in wanted)
    return f"""SELECT {_columns(table, wanted)} FROM (
        SELECT s.*, {values} FROM (
            SELECT t.*, {texts} FROM {_silver(table)} t
            JOIN {tables.scan_sql(bronze)} b USING (batch_id, org_code, raw_hash)) s
        {" ".join(joins)}) n WHERE {_changed(wanted)}"""


def _canonical(table: TableContract) -> str | None:
    """Rows whose canonical quantity comes out differently; silver itself has the value and the unit as sent."""
    values = quantities.derived_values(table)
    if not values:
        return None
    names = list(values)
    how = units.derived(table.name, [f.name for f in table.fields])
    assert how is not None
    needed = {"c_": (how.unit, how.loinc), "t_": (how.value,)}
    aliases = ", ".join(f"{quoted(n)} AS {quoted(p + n)}" for p, names_ in needed.items() for n in names_)
    picked = ", ".join(f"{v} AS {quoted('n_' + n)}" for n, v in values.items())
    return f"""SELECT {_columns(table, names)} FROM (
        SELECT s.*, {picked} FROM (SELECT *, {aliases} FROM {_silver(table)}) s
        {quantities.derived_join(table)}) n WHERE {_changed(names)}"""


def _apply(con: duckdb.DuckDBPyConnection, table: TableContract, query: str) -> tuple[int, str]:
    """Merge the rows that a query gives; returns their number and the batch."""
    name = f"silver/{table.name}"
    con.execute(f"CREATE OR REPLACE TEMP TABLE changed AS {query}")
    if tables.exists(overlay.name(table.name)):
        overlay.reapply(con, "changed", table)
        present = ", ".join(map(quoted, table.silver_columns))
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE changed AS FROM changed EXCEPT SELECT {present} FROM {_silver(table)}"
        )
    row = con.execute("SELECT count(*), max(data_date) FROM changed").fetchone()
    count, newest = row if row else (0, None)
    if not count:
        return 0, ""
    digest = hashlib.sha256(f"{name}@{tables.version(name)}".encode()).hexdigest()[:12]
    batch = ledger.begin(
        f"reconform-{table.name}-{digest}"[:60],
        table.feed,
        newest or date.min,
        contract_version=contract(table.feed).version,
        writes=[name],
        received_at=datetime.now(UTC),
    )
    try:
        schema = table.silver_schema()
        reader = con.execute("SELECT * FROM changed").to_arrow_reader(100_000)
        rows = pa.RecordBatchReader.from_batches(schema, (b.cast(schema) for b in reader))
        tables.merge(name, rows, key=table.full_key, txn=(batch.batch_id, 1))
    except BaseException as error:
        ledger.undo(batch, reason=type(error).__name__)
        raise
    ledger.commit(batch, [])
    return int(count), batch.batch_id


def reconform(code_system: str, table_name: str) -> dict[str, Any]:
    coded = {t.name: (t, names) for t, names in coded_tables(code_system)}
    if code_system in ("", "ucum"):
        for feed in contracts().values():
            for t in feed.tables.values():
                if quantities.derived_values(t) and f"silver/{t.name}" in ledger.visible():
                    coded.setdefault(t.name, (t, []))
    changed: dict[str, int] = {}
    batches: list[str] = []
    for t, names in coded.values():
        if table_name not in ("", t.name):
            continue
        with writing([f"silver/{t.name}"]), duck.connect() as con:
            systems = sorted({t.field(n).code_system for n in names})
            con.register("codemap", codemaps.as_table(systems, every=True))
            con.register("unit_rule", quantities.rule_table())
            for query in (_coded(t, names), _canonical(t) if code_system in ("", "ucum") else None):
                count, batch_id = _apply(con, t, query) if query else (0, "")
                if count:
                    changed[t.name] = changed.get(t.name, 0) + count
                    batches.append(batch_id)
    _log.info("reconformed", rows=sum(changed.values()), tables=sorted(changed), codes=code_system)
    return {"tables": changed, "rows": sum(changed.values()), "batches": batches}
