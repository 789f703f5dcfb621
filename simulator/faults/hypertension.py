"""Faults of HTN-001, 002, 003, 004, 006, 007, 009, 016, 021, 022."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, instants
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World, shifted

COPIED = [
    "sbp_mmhg",
    "dbp_mmhg",
    "heart_rate_bpm",
    "weight_kg",
    "bmi",
    "salt_level_code",
    "exercise_times_week",
    "exercise_min",
    "drugs",
]


def inject(world: World) -> None:
    """Each step re-reads the table, since rows may have been added or removed by the one before."""
    too_young(world, "htn_card", "HTN-001")
    too_few_face_to_face(world, "htn_card", "htn_visit", "HTN-002")
    wrong_class(world, "htn_visit", "HTN-004")
    no_recheck(world, "htn_visit", "HTN-006")
    no_referral(world, "htn_visit", "HTN-007")
    next_visit(world, "htn_visit", "HTN-009")
    copied(world)
    typed_late(world)
    same_day(world)
    gap(world)


def archive_birth(world: World, table: str) -> np.ndarray:
    """Birth date of each row's archive."""
    archive = world.tables["ph_archive"]
    at = (
        pc.index_in(world.tables[table]["archive_id"], archive["archive_id"].combine_chunks())
        .combine_chunks()
        .to_numpy()
    )
    return world.array("ph_archive", "birth_date")[at]


def too_young(world: World, table: str, rule: str) -> None:
    """Card dated before the 35th birthday; only cards older than the records, so that no visit is owed."""
    opened, birth = world.array(table, "carded_on"), archive_birth(world, table)
    begin = np.datetime64(world.window.public_health_start)
    rows = world.choose(table, rule, (opened < begin) & ~np.isnat(birth))
    young = birth[rows] + np.timedelta64(int(365.25 * 31), "D")
    world.put(table, rows, carded_on=days(young), confirmed_on=days(young))
    world.note(table, rows, rule, "rule", "carded_on")


def last_closed_year(world: World) -> int:
    """The last calendar year that is over for good at the first daily delivery, or 0 when the history has none whole."""
    year = world.window.history_end.year - 1
    return year if world.window.public_health_start <= date(year, 1, 1) else 0


def too_few_face_to_face(world: World, card: str, visit: str, rule: str) -> None:
    """Turn visits of the last closed year into telephone calls until fewer than four are left."""
    year = last_closed_year(world)
    if not year:
        return
    first, last = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year}-12-31")
    active = (world.array(card, "status_code") == "active") & (world.array(card, "carded_on") < first)
    twice = pc.value_counts(world.tables[card]["card_id"])
    again = set(twice.filter(pc.greater(twice.field("counts"), 1)).field("values").to_pylist())
    active &= ~np.isin(world.array(card, "card_id").astype(str), list(again))
    rows = world.choose(card, rule, active)
    chosen = set(world.array(card, "archive_id")[rows].tolist())
    world.touched.setdefault(visit, set()).update(chosen)
    archive, day = world.array(visit, "archive_id"), world.array(visit, "visited_on")
    mine = np.flatnonzero(np.isin(archive.astype(str), list(chosen)) & (day >= first) & (day <= last))
    order = mine[np.lexsort((day[mine], archive[mine].astype(str)))]
    start = np.searchsorted(archive[order].astype(str), archive[order].astype(str), side="left")
    by_phone = np.sort(order[np.arange(len(order)) - start >= 2])  # two visits stay
    world.put(visit, by_phone, visit_way_code="3")
    world.note(card, rows, rule, "rule", "visit_way_code")


def wrong_class(world: World, table: str, rule: str) -> None:
    """Class against reading: a recheck on goal called off goal (and referred, as that needs), or the reverse."""
    near = neighbours(world, table, "visited_on")
    cls, stage = world.array(table, "visit_class_code"), world.array(table, "_stage")
    before, after = near.of(cls, "previous", "1"), near.of(cls, "following", "1")
    critical = _critical(world, table)
    off = world.choose(table, rule, (cls == "1") & (stage > 0) & (before == "2") & (after == "1"))
    world.put(table, off, visit_class_code="2", is_referred=True, referral_reason="连续两次控制不满意",
              next_visit_on=shifted(near.day[off], 14))  # fmt: skip
    world.note(table, off, rule, "rule", "visit_class_code")
    on = world.choose(table, rule, (cls == "2") & (stage == 2) & ~critical)
    world.put(table, on, visit_class_code="1")
    world.note(table, on, rule, "rule", "visit_class_code")


def _critical(world: World, table: str) -> np.ndarray:
    """Diabetes readings with a rule of their own (DM-004)."""
    if table != "dm_visit":
        return np.zeros(world.tables[table].num_rows, dtype=bool)
    fbg = world.array(table, "fbg_mmol_l")
    result: np.ndarray = (fbg >= 16.7) | (fbg <= 3.9)
    return result


def no_recheck(world: World, table: str, rule: str) -> None:
    """First time off goal, and nobody comes back within two weeks: the rechecks are taken out."""
    near = neighbours(world, table, "visited_on")
    cls, stage = world.array(table, "visit_class_code"), world.array(table, "_stage")
    before = near.of(cls, "previous", "1")
    first = near.following
    second = np.where(first >= 0, near.following[np.maximum(first, 0)], -1)
    stages = np.append(stage, 0)
    last = np.where(stages[second] == 2, second, first)  # the last recheck of this quarter
    then = np.where(last >= 0, near.following[np.maximum(last, 0)], -1)
    calm_after = (then >= 0) & (cls[np.maximum(then, 0)] == "1")
    due = near.day + np.timedelta64(30, "D") < np.datetime64(world.window.history_end)
    rows = world.choose(
        table,
        rule,
        (stage == 0)
        & (cls == "2")
        & (before == "1")
        & (stages[first] == 1)
        & calm_after
        & due
        & ~_critical(world, table),
    )
    world.note(table, rows, rule, "rule", "visited_on")
    gone = np.unique(np.concatenate([first[rows], last[rows]]))
    world.drop(table, gone)


def no_referral(world: World, table: str, rule: str) -> None:
    """Twice off goal without a referral."""
    near = neighbours(world, table, "visited_on")
    cls = world.array(table, "visit_class_code")
    before = near.of(cls, "previous", "1")
    rows = world.choose(
        table,
        rule,
        np.isin(cls, ["2", "3"])
        & np.isin(before, ["2", "3"])
        & world.array(table, "is_referred")
        & ~_critical(world, table),
    )
    world.put(table, rows, is_referred=False, referral_reason=None, referral_org=None)
    world.note(table, rows, rule, "rule", "is_referred")


def next_visit(world: World, table: str, rule: str) -> None:
    """Next visit before this one, or much too late."""
    day = world.array(table, "visited_on")
    rows = world.choose(table, rule, np.full(len(day), True))
    move = np.where(np.arange(len(rows)) % 2 == 0, -3, 130).astype("timedelta64[D]")
    world.put(table, rows, next_visit_on=days(day[rows] + move))
    world.note(table, rows, rule, "rule", "next_visit_on")


def copied(world: World) -> None:
    """A visit whose readings are those of the one before (HTN-016). Only where no diabetes form shows the same day."""
    table = "htn_visit"
    near = neighbours(world, table, "visited_on")
    cls, drugs = world.array(table, "visit_class_code"), world.array(table, "drugs")
    alone = ~np.isin(
        world.array(table, "archive_id").astype(str), world.tables["dm_visit"]["archive_id"].to_pylist()
    )
    same = (
        (near.previous >= 0)
        & (cls == "1")
        & (near.of(cls, "previous", "") == "1")
        & (near.of(drugs, "previous", "") == drugs)
    )
    rows = world.choose(table, "HTN-016", same & alone)
    source = world.tables[table].take(pa.array(near.previous[rows]))
    world.put(table, rows, **{name: source[name].combine_chunks() for name in COPIED})
    world.note(
        table, rows, "HTN-016", "rule", ",".join(["sbp_mmhg", "dbp_mmhg", "heart_rate_bpm", "weight_kg"])
    )


def typed_late(world: World) -> None:
    """Typed in more than 30 days late, or dated after it was typed in (HTN-021)."""
    for table in ("htn_visit", "dm_visit"):
        day = world.array(table, "visited_on")
        old = day < np.datetime64(world.window.history_end) - np.timedelta64(90, "D")
        rows = world.choose(table, "HTN-021", old)
        move = np.where(np.arange(len(rows)) % 3 == 0, -2, 31 + np.arange(len(rows)) % 25).astype(
            "timedelta64[D]"
        )
        at = (day[rows] + move).astype("datetime64[s]") + np.timedelta64(10, "h")
        world.put(table, rows, recorded_at=instants(at))
        world.note(table, rows, "HTN-021", "rule", "recorded_at")


def same_day(world: World) -> None:
    """The same visit a second time under another id with other readings (HTN-022)."""
    table = "htn_visit"
    near = neighbours(world, table, "visited_on")
    cls, stage = world.array(table, "visit_class_code"), world.array(table, "_stage")
    before, stages = near.of(cls, "previous", "1"), np.append(stage, 0)
    alone = ~np.isin(
        world.array(table, "archive_id").astype(str), world.tables["dm_visit"]["archive_id"].to_pylist()
    )
    rows = world.choose(
        table,
        "HTN-022",
        (stage == 0) & (cls == "2") & (before == "1") & (stages[near.following] == 1) & alone,
    )
    # Two in a row off goal: both carry the referral that this asks for.
    world.put(table, rows, is_referred=True, referral_reason="连续两次控制不满意")
    copy = world.tables[table].take(pa.array(rows))
    for name, change in (("sbp_mmhg", 2), ("heart_rate_bpm", 3), ("weight_kg", 0.4)):
        copy = copy.set_column(copy.schema.get_field_index(name), name, pc.add(copy[name], change))
    bmi = pc.round(pc.divide(copy["weight_kg"], pc.power(pc.divide(copy["height_cm"], 100.0), 2)), 1)
    copy = copy.set_column(copy.schema.get_field_index("bmi"), "bmi", bmi)
    copy = copy.set_column(
        0, "visit_id", pc.binary_join_element_wise(copy["visit_id"].combine_chunks(), "R", "")
    )
    added = world.add(table, copy)
    world.note(table, np.concatenate([rows, added]), "HTN-022", "rule", "visited_on")


def gap(world: World) -> None:
    """A quarter without a visit (HTN-003), in the year that is not yet over so that no yearly count is short."""
    table = "htn_visit"
    near = neighbours(world, table, "visited_on")
    cls, delivered = world.array(table, "visit_class_code"), world.array(table, "deliver_on")
    before = near.of(cls, "previous", "")
    first = near.day[np.maximum(near.previous, 0)]
    this_year = np.datetime64(f"{world.window.history_end.year}-01-01")
    after = near.following
    seen = (after >= 0) & (delivered[np.maximum(after, 0)] <= world.end)
    wide = (near.day[np.maximum(after, 0)] - first).astype("int64") > 100
    rows = world.choose(table, "HTN-003", (cls == "1") & (before == "1") & (first >= this_year) & seen & wide)
    world.note(table, np.sort(after[rows]), "HTN-003", "rule", "visited_on")
    world.drop(table, rows)
