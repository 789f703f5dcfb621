"""HIS extracts: a CSV file per table, institution and delivery; one institution still exports GB18030.

Referrals come out of the same systems but under a feed of their own.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simulator.writers.base import Drop, aggregated, load, recoded, text_of

GB18030_ORG = "H103"
ADT_ORG = "H001"  # its patients travel as HL7 v2 messages
KEYS = {
    "patient": "t.patient_local_id, t.source_updated_at", "encounter": "t.started_at, t.encounter_id, t.source_updated_at",
    "diagnosis": "t.dx_at, t.encounter_id, t.seq", "prescription_item": "t.rx_at, t.rx_no, t.item_no",
    "referral": "t.applied_at, t.referral_id",
}  # fmt: skip


def feed_of(table: str) -> str:
    return "referral" if table == "referral" else "his"


def header(table: str) -> list[str]:
    return [name.upper() for name in load("his.yaml")[table]]


def with_damage(lines: str, extra: list[str]) -> str:
    """Put the damaged records in the middle of the good ones, so that reading must go on after them."""
    records = lines.split("\n")
    at = len(records) // 2
    return "\n".join(records[:at] + extra + records[at:])


def write(con: duckdb.DuckDBPyConnection, drop: Drop, table: str, rows: pa.Table) -> None:
    """All files of one HIS table. Times are local without zone."""
    con.register("rows", rows)
    columns: dict[str, str | None] = load("his.yaml")[table]
    booleans = [f.name for f in rows.schema if pa.types.is_boolean(f.type)]
    source, expressions = recoded("rows", "his", columns, booleans)
    kinds = {f.name: f.type for f in rows.schema}
    cells = [
        f"csv_cell({text_of(e, pa.string() if c in booleans or columns[c] else kinds[c])})"
        for c, e in zip(columns, expressions, strict=True)
    ]
    line = "concat_ws(',', " + ", ".join(cells) + ")"
    if table == "patient":
        source += f" WHERE t.org_code <> '{ADT_ORG}'"
    head = ",".join(header(table))
    for org, data_date, _, text in aggregated(con, source, line, KEYS[table], "\n"):
        if not drop.wants(data_date, feed_of(table)):
            continue
        extra = drop.damage.get((data_date, org, table), [])
        content = f"{head}\n{with_damage(text, extra) if extra else text}\n"
        encoded = content.encode("gb18030") if org == GB18030_ORG else b"\xef\xbb\xbf" + content.encode()
        drop.write(data_date, feed_of(table), org, f"{table}_{data_date:%Y%m%d}.csv", encoded)
    con.unregister("rows")
