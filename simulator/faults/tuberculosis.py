"""Faults of TB-001 to TB-006 and TB-008."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days, instants
from simulator.faults.copies import history_end, in_ids, settled
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World

NOTICE, FIRST, VISIT, CLOSE = "tb_notice", "tb_first_visit", "tb_visit", "tb_close"
LATE = 5  # days: more than the 72 hours, whatever the hour


def inject(world: World) -> None:
    nobody_came(world)
    late_first_visit(world)
    gap(world)
    known = world.array(VISIT, "deliver_on") <= history_end(world)
    rows = world.choose(VISIT, "TB-003", known)
    world.put(VISIT, rows, treat_month=world.array(VISIT, "treat_month")[rows] + 3)
    world.note(VISIT, rows, "TB-003", "rule", "treat_month")
    closes(world)
    usual = (world.array(FIRST, "regimen") == "2HRZE/4HR") & (
        world.array(FIRST, "deliver_on") <= history_end(world)
    )
    rows = world.choose(FIRST, "TB-008", usual)
    world.put(FIRST, rows, drug_resist_code="1")
    world.note(FIRST, rows, "TB-008", "rule", "drug_resist_code,regimen")


def _old(world: World) -> np.ndarray:
    """First visits of notices that history delivered, with their time well over."""
    at = world.array(FIRST, "visited_at").astype("datetime64[D]")
    single = set(
        world.tables[NOTICE].filter(pa.array(settled(world, NOTICE, "notice_id")))["notice_id"].to_pylist()
    )
    result: np.ndarray = (at + 20 < history_end(world)) & in_ids(world, FIRST, "notice_id", single)
    return result


def _notices_of(world: World, rows: np.ndarray) -> np.ndarray:
    wanted = set(world.tables[FIRST].take(pa.array(rows))["notice_id"].to_pylist())
    return np.flatnonzero(in_ids(world, NOTICE, "notice_id", wanted))


def nobody_came(world: World) -> None:
    """No visit to a notified patient: the notice is overdue (TB-001) and the report card has no follow-up (TB-006)."""
    rows = world.choose(FIRST, "TB-006", _old(world))
    if len(rows) == world.tables[FIRST].num_rows:
        return  # a hamlet with one patient: without any visit the programme itself is not known to be there
    notices = _notices_of(world, rows)
    world.note(NOTICE, notices, "TB-001", "rule", "notice_id")
    cards = set(world.tables[NOTICE].take(pa.array(notices))["idr_card_id"].to_pylist()) - {None}
    chosen = np.flatnonzero(in_ids(world, "idr_card", "card_id", cards))
    world.note("idr_card", chosen, "TB-006", "rule", "card_id")
    world.touched.setdefault("idr_card", set()).update(
        world.tables["idr_card"].take(pa.array(chosen))["archive_id"].to_pylist()
    )
    world.drop(FIRST, rows)


def late_first_visit(world: World) -> None:
    rows = world.choose(FIRST, "TB-001", _old(world))
    world.note(NOTICE, _notices_of(world, rows), "TB-001", "rule", "noticed_at")
    later = {
        name: instants(
            world.array(FIRST, name)[rows].astype("datetime64[s]") + np.timedelta64(LATE * 86400, "s")
        )
        for name in ("visited_at", "recorded_at")
    }
    world.put(FIRST, rows, **later)


def gap(world: World) -> None:
    """A visit between others that did not take place; the next one is too late (TB-002)."""
    near = neighbours(world, VISIT, "visited_on")
    own, phase = world.array(VISIT, "supervisor_code") == "2", world.array(VISIT, "phase_code")
    following = near.of(phase, "following", "") == phase
    rows = world.choose(
        VISIT, "TB-002", own & following & (near.previous >= 0) & (near.day + 45 < history_end(world))
    )
    world.note(VISIT, np.sort(near.following[rows]), "TB-002", "rule", "visited_on")
    world.drop(VISIT, rows)


def closes(world: World) -> None:
    """More doses taken than prescribed (TB-004); no reason, or a finished course after a quarter (TB-005)."""
    known = world.array(CLOSE, "deliver_on") <= history_end(world)
    rows = world.choose(CLOSE, "TB-004", known)
    doses = world.array(CLOSE, "expected_doses")[rows]
    world.put(CLOSE, rows, taken_doses=doses + 6)
    world.note(CLOSE, rows, "TB-004", "rule", "taken_doses,adherence_ratio")
    rows = world.choose(CLOSE, "TB-005", known)
    odd = np.arange(len(rows)) % 2 == 1
    stopped = np.where(
        odd, world.array(CLOSE, "treatment_started_on")[rows] + 90, world.array(CLOSE, "stopped_on")[rows]
    )
    world.put(CLOSE, rows, stop_reason_code=["1" if o else None for o in odd], stopped_on=days(stopped))
    world.note(CLOSE, rows, "TB-005", "rule", "stop_reason_code,stopped_on")
