"""A city of any size: planned as integers in memory, rendered and written in chunks."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake.settings import settings
from simulator.people.city import TRUTH_COLUMNS, plan, resident_table
from simulator.people.text import NO_DAY
from simulator.profile import Profile

CHUNK_ROWS = 400_000


def write_registrations(
    profile: Profile,
    residents: int,
    seed: int,
    out_dir: Path,
    as_of: date | None = None,
    with_residents: bool = False,
    chunk_rows: int = CHUNK_ROWS,
) -> dict[str, Any]:
    """Write ``registration.parquet`` (the systems' view, without the truth) and ``truth/registration.parquet``.

    The rows are those of :func:`simulator.people.make_city`, each in its newest version. ``with_residents``
    adds ``truth/resident.parquet``. Returns the counts. Memory grows with about 400 bytes per resident.
    """
    made = plan(profile, residents, seed, as_of or settings().demo_end_date)
    reg = made.registers
    truth_dir = out_dir / "truth"
    truth_dir.mkdir(parents=True, exist_ok=True)
    writers: dict[Path, pq.ParquetWriter] = {}

    def write(path: Path, table: pa.Table) -> None:
        if path not in writers:
            writers[path] = pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
        writers[path].write_table(table)

    try:
        for start in range(0, len(reg), chunk_rows):  # chunks bound the memory, not the records' logic
            rows = np.arange(start, min(start + chunk_rows, len(reg)))
            registered, updated = (
                reg.registered_on[rows].astype(np.int64),
                reg.updated_on[rows].astype(np.int64),
            )
            known = np.where(updated != NO_DAY, updated, registered)
            table = made.renderer.table(rows, known)
            write(truth_dir / "registration.parquet", table.select(list(TRUTH_COLUMNS)))
            write(
                out_dir / "registration.parquet", table.drop_columns(["resident_id", "is_duplicate_archive"])
            )
        for start in range(0, len(made.folk) if with_residents else 0, chunk_rows):
            who = np.arange(start, min(start + chunk_rows, len(made.folk)))
            write(truth_dir / "resident.parquet", resident_table(made.folk, made.attributes, made.draw, who))
    finally:
        for writer in writers.values():
            writer.close()
    return {"residents": len(made.folk), "registrations": len(reg), "path": str(out_dir)}
