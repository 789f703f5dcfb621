"""Faults of DM-001, 002, 003, 004, 005, 006, 008, 010, 013, 015 (and HTN-009 on the diabetes form)."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from simulator.clinical.draw import numbers
from simulator.faults.hypertension import (
    next_visit,
    no_recheck,
    no_referral,
    too_few_face_to_face,
    too_young,
    wrong_class,
)
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World


def inject(world: World) -> None:
    table = "dm_visit"
    too_young(world, "dm_card", "DM-001")
    wrong_type(world)
    too_few_face_to_face(world, "dm_card", table, "DM-002")
    wrong_class(world, table, "DM-003")
    no_recheck(world, table, "DM-013")
    no_referral(world, table, "DM-013")
    next_visit(world, table, "HTN-009")
    crisis_ignored(world)
    impossible_glucose(world)
    after_meal_below(world)
    hba1c_in_other_unit(world)
    frequent_lows(world)
    unequal_same_day(world)


def wrong_type(world: World) -> None:
    rows = world.choose("dm_card", "DM-001", np.full(world.tables["dm_card"].num_rows, True))
    world.put("dm_card", rows, dm_type_code=["1" if i % 2 else "3" for i in range(len(rows))])
    world.note("dm_card", rows, "DM-001", "rule", "dm_type_code")


def _first_off_goal_with_recheck(world: World) -> np.ndarray:
    """First visits off goal that were followed up in time and are no crisis: they can bear another reading."""
    near = neighbours(world, "dm_visit", "visited_on")
    cls, stage = world.array("dm_visit", "visit_class_code"), world.array("dm_visit", "_stage")
    fbg = world.array("dm_visit", "fbg_mmol_l")
    followed = near.gap_after() <= 14
    result: np.ndarray = (
        (stage == 0)
        & (cls == "2")
        & (near.of(cls, "previous", "1") == "1")
        & followed
        & (fbg < 16.7)
        & ~world.array("dm_visit", "is_referred")
    )
    return result


def crisis_ignored(world: World) -> None:
    """Glucose of 17 and more without an urgent referral (DM-004)."""
    rows = world.choose("dm_visit", "DM-004", _first_off_goal_with_recheck(world))
    fbg = 17.0 + np.arange(len(rows)) % 4
    world.put("dm_visit", rows, fbg_mmol_l=numbers(fbg, 1), ppg_mmol_l=numbers(fbg + 3.2, 1))
    world.note("dm_visit", rows, "DM-004", "rule", "fbg_mmol_l,is_referred")


def impossible_glucose(world: World) -> None:
    """mg/dL typed into the mmol/L field (DM-005); treated as the crisis that it seems, so that DM-004 is kept."""
    rows = world.choose("dm_visit", "DM-005", _first_off_goal_with_recheck(world))
    fbg = np.round(world.array("dm_visit", "fbg_mmol_l")[rows] * 18)
    world.put(
        "dm_visit",
        rows,
        fbg_mmol_l=numbers(fbg, 0),
        ppg_mmol_l=None,
        is_referred=True,
        referral_reason="连续两次控制不满意",
    )
    world.note("dm_visit", rows, "DM-005", "rule", "fbg_mmol_l")


def after_meal_below(world: World) -> None:
    fbg, cls = world.array("dm_visit", "fbg_mmol_l"), world.array("dm_visit", "visit_class_code")
    rows = world.choose("dm_visit", "DM-006", (fbg > 5.5) & (cls == "1"))
    world.put("dm_visit", rows, ppg_mmol_l=numbers(fbg[rows] - 2.0, 1))
    world.note("dm_visit", rows, "DM-006", "rule", "ppg_mmol_l")


def hba1c_in_other_unit(world: World) -> None:
    """mmol/mol in the per-cent field (DM-008), on follow-ups and examinations."""
    for table in ("dm_visit", "ph_exam"):
        value = world.array(table, "hba1c_pct")
        rows = world.choose(table, "DM-008", ~np.isnan(value))
        world.put(table, rows, hba1c_pct=numbers((value[rows] - 2.15) / 0.0915, 0))
        world.note(table, rows, "DM-008", "rule", "hba1c_pct")


def frequent_lows(world: World) -> None:
    rows = world.choose("dm_visit", "DM-010", world.array("dm_visit", "visit_class_code") == "1")
    world.put("dm_visit", rows, hypoglycemia_code="3")
    world.note("dm_visit", rows, "DM-010", "rule", "hypoglycemia_code")


def unequal_same_day(world: World) -> None:
    """Another weight on the diabetes form than on the hypertension form of the same day (DM-015)."""
    htn = world.tables["htn_visit"]
    both = pc.binary_join_element_wise(htn["archive_id"], htn["visited_on"].cast("string"), " ")
    dm = world.tables["dm_visit"]
    mine = pc.binary_join_element_wise(dm["archive_id"], dm["visited_on"].cast("string"), " ")
    shared = pc.is_in(mine, both.combine_chunks()).to_numpy()
    rows = world.choose("dm_visit", "DM-015", shared)
    weight = np.round(world.array("dm_visit", "weight_kg")[rows] + 3.5, 1)
    height = world.array("dm_visit", "height_cm")[rows]
    world.put("dm_visit", rows, weight_kg=numbers(weight, 1), bmi=numbers(weight / (height / 100) ** 2, 1))
    world.note("dm_visit", rows, "DM-015", "rule", "weight_kg")
