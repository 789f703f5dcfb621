"""Extracts of charging, pharmacy, insurance, control, machines and offices: a CSV file per table, institution and delivery.

Times are local without zone, those of machines with it (``+08:00``). What a HIS delivers is in its own codes and, from one
institution, in GB18030.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simulator.clinical.world import FEED_OF
from simulator.writers.base import Drop, aggregated, load, recoded, text_of
from simulator.writers.his_csv import GB18030_ORG

_ZONED = "%Y-%m-%dT%H:%M:%S+08:00"


def columns(table: str) -> dict[str, str | None]:
    """Column -> its code system in the source's own codes (None: as it is)."""
    listed: list[str | dict[str, str]] = load("operations.yaml")[table]
    return {
        name: system
        for entry in listed
        for name, system in (entry.items() if isinstance(entry, dict) else [(entry, None)])
    }


def write(con: duckdb.DuckDBPyConnection, drop: Drop, table: str, rows: pa.Table) -> None:
    """All files of one table, records in the order of the table."""
    feed, wanted = FEED_OF[table], columns(table)
    con.register("rows", rows.append_column("row_no", pa.array(range(rows.num_rows), pa.int64())))
    kinds = {f.name: f.type for f in rows.schema}
    booleans = [f.name for f in rows.schema if pa.types.is_boolean(f.type)] if feed == "his" else []
    source, expressions = recoded("rows", "his", wanted, booleans)
    form = _ZONED if feed == "iot" else "%Y-%m-%d %H:%M:%S"
    cells = []
    for (name, system), expression in zip(wanted.items(), expressions, strict=True):
        kind = pa.string() if system or name in booleans else kinds[name]
        if pa.types.is_boolean(kind):
            expression, kind = f"CAST({expression} AS VARCHAR)", pa.string()
        cells.append(f"csv_cell({text_of(expression, kind, time_format=form)})")
    head = ",".join(name.upper() for name in wanted)
    for org, data_date, _, text in aggregated(
        con, source, f"concat_ws(',', {', '.join(cells)})", "t.row_no", "\n"
    ):
        if not drop.wants(data_date, feed):
            continue
        content = f"{head}\n{text}\n"
        is_old = feed == "his" and org == GB18030_ORG
        encoded = content.encode("gb18030") if is_old else b"\xef\xbb\xbf" + content.encode()
        drop.write(data_date, feed, org, f"{table}_{data_date:%Y%m%d}.csv", encoded)
    con.unregister("rows")
