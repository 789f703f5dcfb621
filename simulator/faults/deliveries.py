"""What shows only over weeks of deliveries: GEN-003, GEN-008 and GEN-009.

One institution exports its last vaccinations every week; on the last day it sends many old ones anew without the
manufacturer, and some records of the weeks before name children whose archive never comes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.faults.copies import changed, settled
from simulator.faults.record import World

TABLE, KEY, EMPTIED = "vaccination_record", "vaccination_id", "manufacturer"
WEEKLY, AGAIN, ORPHANS = 24, 60, 3
LEAST = 2 * AGAIN  # records that the institution must have: what is new is compared with as many old ones
WEEKS = 5  # the first delivery of an institution does not count, four make a usual one


def source(world: World) -> tuple[str, np.ndarray] | None:
    """The institution with the most settled records, and those rows that were typed in before the first week."""
    weeks = world.window.early_dates
    if len(weeks) < WEEKS:
        return None
    typed = world.tables[TABLE]["recorded_at"].combine_chunks().to_numpy(zero_copy_only=False)
    old = settled(world, TABLE, KEY) & (typed.astype("datetime64[D]") < np.datetime64(weeks[0]))
    old &= pc.is_valid(world.tables[TABLE][EMPTIED]).to_numpy()
    names, counts = np.unique(world.array(TABLE, "org_code").astype(str)[old], return_counts=True)
    if not len(names) or counts.max() < LEAST:
        return None
    org = str(names[counts.argmax()])
    return org, np.flatnonzero(old & (world.array(TABLE, "org_code") == org))


def inject(world: World) -> None:
    """After all other faults: what is sent again is what was sent before."""
    found = source(world)
    if found is None:
        return
    org, rows = found
    weeks, end = world.window.early_dates, world.window.end
    weekly = world.tables[TABLE].take(pa.array(rows[:WEEKLY]))
    orphans = world.tables[TABLE].take(pa.array(rows[:ORPHANS]))
    later = world.tables[TABLE].take(pa.array(rows[-AGAIN:]))
    for day in weeks:
        world.add(TABLE, changed(weekly, deliver_on=[day] * WEEKLY))
    ids = {c: pc.binary_join_element_wise(orphans[c].combine_chunks(), "W", "") for c in (KEY, "archive_id")}
    added = world.add(TABLE, changed(orphans, deliver_on=[weeks[-2]] * ORPHANS, **ids))
    world.note(TABLE, added, "GEN-003", "rule", "archive_id")
    at = instants(np.full(AGAIN, np.datetime64(end, "s") + np.timedelta64(9 * 3600, "s")))
    world.add(TABLE, changed(later, recorded_at=at, deliver_on=[end] * AGAIN, **{EMPTIED: None}))
    for table, key, rule in (
        ("feed_day", f"{TABLE}|{end}", "GEN-008"),
        ("field_fill", f"{TABLE}|{EMPTIED}", "GEN-009"),
    ):
        world.note_group(table, org, key, rule, "records" if rule == "GEN-008" else "new_nulls", data_date=end)  # fmt: skip
