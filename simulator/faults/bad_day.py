"""A day that closes the gate: the county platform re-exports cards and visits after a failed upgrade."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days
from simulator.faults.hypertension import archive_birth
from simulator.faults.record import World, shifted


def resubmit(world: World, data_date: date, share: float) -> None:
    """Append, for delivery on `data_date`, a newer and broken version of `share` of all cards and visits.

    Visits: next visit before the visit (HTN-009) and typed in long after it (HTN-021). Hypertension cards: opened
    at 31 (HTN-001); diabetes cards: type 1 (DM-001). Cards of the last years come again unharmed: an earlier
    opening would make them owe visits that nobody planned.
    """
    for table in ("htn_visit", "dm_visit", "htn_card", "dm_card"):
        rows = _current(world, table, data_date)
        rows = np.sort(world.rng.permutation(rows)[: round(share * len(rows))])
        if not len(rows):
            continue
        again = world.tables[table].take(pa.array(rows))
        stamp = "recorded_at" if table.endswith("visit") else "source_updated_at"
        moment = np.datetime64(data_date).astype("datetime64[s]") + np.timedelta64(21, "h")
        broken = np.full(len(rows), True)
        changes = {
            stamp: pa.array([moment] * len(rows)).cast(pa.timestamp("s")),
            "deliver_on": pa.array([data_date] * len(rows), pa.date32()),
        }  # fmt: skip
        if table.endswith("visit"):
            changes["next_visit_on"] = shifted(world.array(table, "visited_on")[rows], -7)
        elif table == "htn_card":
            opened, birth = world.array(table, "carded_on")[rows], archive_birth(world, table)[rows]
            broken = (opened < np.datetime64(world.window.public_health_start)) & ~np.isnat(birth)
            young = birth + np.timedelta64(int(365.25 * 31), "D")
            for name in ("carded_on", "confirmed_on"):
                changes[name] = days(np.where(broken, young, world.array(table, name)[rows]))
        else:
            changes["dm_type_code"] = pa.array(["1"] * len(rows), pa.string())
        for name, column in changes.items():
            again = again.set_column(again.schema.get_field_index(name), name, column)
        added = world.add(table, again)
        _note(world, table, added[broken])


def _current(world: World, table: str, data_date: date) -> np.ndarray:
    """The newest delivered version of each record before the bad day."""
    key, stamp = ("visit_id", "recorded_at") if table.endswith("visit") else ("card_id", "source_updated_at")
    delivered = world.array(table, "deliver_on") < np.datetime64(data_date)
    order = np.lexsort((world.array(table, stamp), world.array(table, key).astype(str)))
    order = order[delivered[order]]
    keys = world.array(table, key).astype(str)[order]
    last = np.r_[keys[1:] != keys[:-1], True] if len(keys) else np.zeros(0, dtype=bool)
    return order[last]


def _note(world: World, table: str, rows: np.ndarray) -> None:
    if table.endswith("visit"):
        world.note(table, rows, "HTN-009", "bad_day", "next_visit_on")
        late = (
            world.array(table, "recorded_at")[rows].astype("datetime64[D]")
            - world.array(table, "visited_on")[rows]
        ).astype("int64") > 30
        world.note(table, rows[late], "HTN-021", "bad_day", "recorded_at")
    else:
        rule, fields = ("HTN-001", "carded_on") if table == "htn_card" else ("DM-001", "dm_type_code")
        world.note(table, rows, rule, "bad_day", fields)
