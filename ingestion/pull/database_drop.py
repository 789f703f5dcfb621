"""Drop files of an extract: chunks of so many rows, columns as they are delivered, files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ingestion.pull.database_keys import quoted
from ingestion.pull.database_sql import Relation
from lake import duck


def durable(draft: Path, target: Path) -> None:
    """Sync, then rename: the drop sees the file whole or not at all."""
    handle = os.open(draft, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.chmod(0o600)
    draft.rename(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def visible(batch: pa.RecordBatch | pa.Table, relation: Relation, zone: str) -> pa.Table:
    """The columns for the drop; date-times without a zone get the source's, where that is not Asia/Shanghai."""
    table = pa.table(batch) if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    table = table.select(relation.output)
    if zone == "Asia/Shanghai" or not relation.zone_free:
        return table.replace_schema_metadata(None)
    picked = ", ".join(
        f"strftime(timezone('UTC', timezone('{zone}', TRY_CAST({quoted(c)} AS TIMESTAMP))), '%Y-%m-%dT%H:%M:%S.%fZ') AS {quoted(c)}"
        if c in relation.zone_free
        else quoted(c)
        for c in relation.output
    )
    with duck.connect() as con:
        con.register("batch", table)
        return con.execute(f"SELECT {picked} FROM batch").to_arrow_table()


def chunks(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Batches cut and put together to so many rows each; memory holds one chunk and one batch."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while batch.num_rows:
            part = batch.slice(0, rows - count)
            batch = batch.slice(part.num_rows)
            held.append(part)
            count += part.num_rows
            if count == rows:
                yield pa.Table.from_batches(held)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held)
