"""``silver/link_run``: one row a run, with the model, thresholds and counts that made the persons of that day."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from empi import model
from lake import tables
from lake.runs import Run

TABLE = "silver/link_run"
SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string()),
        pa.field("data_date", pa.date32()),
        pa.field("mode", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("thresholds", pa.string()),  # JSON, bits
        pa.field("counts", pa.string()),  # JSON
        pa.field("linked_at", pa.timestamp("us", tz="UTC")),
    ]
)


def write(run: Run, told: dict[str, Any], at: int | None) -> int:
    """Add the run's row; a run that is done again keeps the row of its first time. Returns the table's version."""
    row = {
        "run_id": run.run_id,
        "data_date": run.data_date,
        "mode": told["mode"],
        "reason": told["reason"],
        "model_version": model.version(),
        "thresholds": json.dumps(model.thresholds()),
        "counts": json.dumps({k: v for k, v in told.items() if isinstance(v, int)}),
        "linked_at": datetime.now(UTC),
    }
    kept = tables.read(TABLE, at).to_table().cast(SCHEMA) if at is not None else SCHEMA.empty_table()
    if run.run_id in kept["run_id"].to_pylist() and at is not None:
        return at
    return tables.overwrite(TABLE, pa.concat_tables([kept, pa.Table.from_pylist([row], schema=SCHEMA)]))
