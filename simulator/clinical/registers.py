"""Registrations of one source system: as they stand when the history is delivered, and what changes afterwards."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.window import Window


def _of(rows: pa.Table, system: str) -> pa.Table:
    return rows.filter(pc.equal(rows["source_system"], system)).combine_chunks()


def current_and_later(city: Any, window: Window, system: str) -> tuple[pa.Table, pa.Table]:
    """(registrations, later versions of some of them).

    A registration that was edited before the history ends is given as edited: an extract holds one version.
    Later versions, up to the horizon, come in the delivery of their day.
    """
    rows, updates = _of(city.registrations, system), _of(city.updates, system)
    day = updates["source_updated_at"].cast(pa.date32())
    before = pc.less_equal(day, pa.scalar(window.history_end, pa.date32()))
    early = updates.filter(before)
    late = updates.filter(
        pc.and_(pc.invert(before), pc.less_equal(day, pa.scalar(window.horizon, pa.date32())))
    )
    edited = pc.index_in(rows["registration_id"], early["registration_id"].combine_chunks())
    own = pa.array(range(rows.num_rows), pa.int64())
    at = pc.if_else(pc.is_null(edited), own, pc.add(pc.fill_null(edited, 0).cast(pa.int64()), rows.num_rows))
    return pa.concat_tables([rows, early]).take(at).combine_chunks(), late.combine_chunks()


def residents_of(rows: pa.Table, city: Any) -> pa.Array:
    """Index of each registration's resident in the residents table."""
    found = pc.index_in(rows["resident_id"], city.residents["resident_id"].combine_chunks())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
