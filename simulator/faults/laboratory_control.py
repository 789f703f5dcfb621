"""Faults of LIS-012 to LIS-018: critical values and quality control."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY, days, instants
from simulator.clinical.laboratory_control import STEPS
from simulator.faults.copies import changed
from simulator.faults.his_rows import Hand, earliest, hours
from simulator.faults.laboratory import REPORT, RESULT, note_items

EVENT, CONTROL = "critical_value_event", "qc_result"


def inject(hand: Hand) -> None:
    critical(hand)
    control(hand)


def critical(hand: Hand) -> None:
    world, group = hand.world, hand.ids(EVENT, "org_code", "report_id")
    found = hand.time(EVENT, "detected_at")
    settled = hand.old(EVENT) & (found.astype(DAY) < hand.history_end - 3)
    rows = hand.pick(EVENT, "LIS-012", settled, group)
    world.put(EVENT, rows, **{c: instants(hand.time(EVENT, c)[rows] + hours(2)) for c in STEPS})
    hand.note(EVENT, rows, "LIS-012", "notified_at")
    rows = hand.pick(EVENT, "LIS-013", settled, group)
    world.put(
        EVENT,
        rows,
        action_at=None,
        action_text=None,
        emr_recorded_at=None,
        closed_at=None,
        status_code="notified",
    )
    hand.note(EVENT, rows, "LIS-013", "action_at")
    rows = hand.pick(EVENT, "LIS-014", settled, group)
    world.put(EVENT, rows, notified_at=instants(found[rows] - hours(0.2)))
    hand.note(EVENT, rows, "LIS-014", "notified_at")
    # The first event of all tells when the loop began: what came before it is not asked for.
    rows = hand.pick(EVENT, "LIS-015", settled & (found > earliest(found)), group)
    names = group.take(pa.array(rows))
    note_items(hand, "LIS-015", np.flatnonzero(hand.has(REPORT, names, "org_code", "report_id")), "report_id")
    world.drop(EVENT, np.flatnonzero(hand.has(EVENT, names, "org_code", "report_id")))


def _with_day(ids: pa.Array, at: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(ids, days(at).cast(pa.string()), "|")


def control(hand: Hand) -> None:
    """Lost control: without repetition before reports went out, or repeated at once but with nothing written."""
    world, at = hand.world, hand.time(CONTROL, "run_at")
    old = hand.old(CONTROL) & (at.astype(DAY) < hand.history_end)
    observed = hand.time(RESULT, "observed_at")
    day = observed.astype(DAY)
    seen = (observed - day > hours(7)) & (day >= earliest(at).astype(DAY))  # after the morning's control
    results = _with_day(hand.ids(RESULT, "org_code", "item_code").filter(pa.array(seen)), observed[seen])
    busy = pc.is_in(_with_day(hand.ids(CONTROL, "org_code", "item_code"), at), results).to_numpy(
        zero_copy_only=False
    )
    target, sd = world.array(CONTROL, "target"), world.array(CONTROL, "sd")

    def lose(rule: str, chosen: np.ndarray, text: str | None) -> np.ndarray:
        rows = hand.pick(CONTROL, rule, chosen)
        measured = np.round(target[rows] + 3.4 * sd[rows], 4)
        world.put(CONTROL, rows, measured=measured, z_score=np.round((measured - target[rows]) / sd[rows], 2),
                  is_in_control=False, corrective_text=text)  # fmt: skip
        hand.note(CONTROL, rows, rule, "is_in_control,corrective_text")
        return rows

    lost = lose("LIS-016", old & busy, "更换校准品，次日重做")
    rows = lose("LIS-017", old & ~np.isin(np.arange(len(old)), lost), None)
    again = changed(world.tables[CONTROL].take(pa.array(rows)), run_at=instants(at[rows] + np.timedelta64(30, "s")),
                    is_in_control=True, measured=target[rows].tolist(), z_score=0.0)  # fmt: skip
    world.add(CONTROL, again)
    z = world.array(CONTROL, "z_score")
    rows = hand.pick(CONTROL, "LIS-018", hand.old(CONTROL) & (np.abs(z) < 1.9))
    world.put(CONTROL, rows, z_score=np.round(z[rows] + 1.0, 2))
    hand.note(CONTROL, rows, "LIS-018", "z_score")
