"""The access log of the county platform: one CSV per institution and delivery, times of the local clock."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.compute as pc

from simulator.writers.base import Drop

FEED = "access_log"
COLUMNS = ("event_id", "happened_at", "actor", "actor_role", "action", "tables", "purpose", "result")


def write(drop: Drop, events: pa.Table) -> None:
    """All files of the events: few lines a day, so plain text is put together in memory."""
    events = events.sort_by(
        [("deliver_on", "ascending"), ("org_code", "ascending"), ("event_id", "ascending")]
    )
    groups = events.group_by(["deliver_on", "org_code"], use_threads=False).aggregate([]).to_pylist()
    for group in groups:  # one file each
        data_date, org = group["deliver_on"], group["org_code"]
        if not drop.wants(data_date, FEED):
            continue
        mine = pc.and_(pc.equal(events["deliver_on"], data_date), pc.equal(events["org_code"], org))
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(COLUMNS)
        rows = events.filter(mine).select(COLUMNS)
        rows = rows.set_column(1, "happened_at", pc.strftime(rows["happened_at"], "%Y-%m-%d %H:%M:%S"))
        lines.writerows(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        drop.write(data_date, FEED, org, f"audit_event_{data_date:%Y%m%d}.csv", text.getvalue().encode())
