"""Faults of EXM-001, 003, 006, 007, 014, 018, 019, 022, 025, 026."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import numbers
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World

TABLE = "ph_exam"
VECTOR = [
    "sbp_l_mmhg", "dbp_l_mmhg", "weight_kg", "waist_cm", "fbg_mmol_l", "tc_mmol_l", "tg_mmol_l", "alt_u_l", "scr_umol_l", "hgb_g_l",
]  # fmt: skip
ABNORMAL = {"eval_abnormal_code": "2", "eval_note": "有异常,详见各项结果"}


def inject(world: World) -> None:
    unbelievable_pressure(world)
    swapped_pressure(world)
    wrong_bmi(world)
    weight_in_jin(world)
    wrong_selfcare(world)
    missing_elder_items(world)
    called_normal(world)
    grown(world)
    copied(world)


def _elder(world: World) -> np.ndarray:
    result: np.ndarray = world.array(TABLE, "exam_type_code") == "elder"
    return result


def unbelievable_pressure(world: World) -> None:
    """45/28: a digit lost (EXM-001)."""
    rows = world.choose(TABLE, "EXM-001", np.full(world.tables[TABLE].num_rows, True))
    world.put(TABLE, rows, sbp_l_mmhg=45.0, dbp_l_mmhg=28.0, sbp_r_mmhg=46.0, dbp_r_mmhg=28.0)
    world.note(TABLE, rows, "EXM-001", "rule", "sbp_l_mmhg")


def swapped_pressure(world: World) -> None:
    """Systolic and diastolic in each other's field (EXM-003); the evaluation says abnormal, as it then must."""
    sbp, dbp = world.array(TABLE, "sbp_l_mmhg"), world.array(TABLE, "dbp_l_mmhg")
    rows = world.choose(TABLE, "EXM-003", (dbp >= 82) & (sbp <= 200))
    world.put(TABLE, rows, sbp_l_mmhg=numbers(dbp[rows]), dbp_l_mmhg=numbers(sbp[rows]), **ABNORMAL)
    world.note(TABLE, rows, "EXM-003", "rule", "sbp_l_mmhg,dbp_l_mmhg")


def wrong_bmi(world: World) -> None:
    """A body-mass index that was typed, not computed (EXM-006), on all three forms."""
    for table in (TABLE, "htn_visit", "dm_visit"):
        bmi = world.array(table, "bmi")
        rows = world.choose(table, "EXM-006", bmi < 25)
        world.put(table, rows, bmi=numbers(bmi[rows] + 1.7, 1))
        world.note(table, rows, "EXM-006", "rule", "bmi")


def weight_in_jin(world: World) -> None:
    """Weight in jin (EXM-007); the form computed the index from it."""
    bmi, weight, height = (world.array(TABLE, name) for name in ("bmi", "weight_kg", "height_cm"))
    rows = world.choose(TABLE, "EXM-007", (bmi > 21) & (bmi < 31))
    jin = np.round(weight[rows] * 2, 1)
    world.put(
        TABLE, rows, weight_kg=numbers(jin, 1), bmi=numbers(jin / (height[rows] / 100) ** 2, 1), **ABNORMAL
    )
    world.note(TABLE, rows, "EXM-007", "rule", "weight_kg")


def wrong_selfcare(world: World) -> None:
    score = world.array(TABLE, "selfcare_score")
    rows = world.choose(TABLE, "EXM-014", ~np.isnan(score))
    world.put(TABLE, rows, selfcare_score=numbers(score[rows] + 4, 0))
    world.note(TABLE, rows, "EXM-014", "rule", "selfcare_score,selfcare_grade_code")


def missing_elder_items(world: World) -> None:
    """An assessment (EXM-018) or a test (EXM-019) of the elderly examination that was not done."""
    rows = world.choose(TABLE, "EXM-018", _elder(world))
    world.put(TABLE, rows, emo_screen_code=None, emo_score=None)
    world.note(TABLE, rows, "EXM-018", "rule", "emo_screen_code")
    rows = world.choose(TABLE, "EXM-019", _elder(world))
    world.put(TABLE, rows, tbil_umol_l=None, bun_mmol_l=None)
    world.note(TABLE, rows, "EXM-019", "rule", "tbil_umol_l,bun_mmol_l")


def called_normal(world: World) -> None:
    """Pressure off the limit, evaluation without a finding (EXM-022)."""
    off = (world.array(TABLE, "sbp_l_mmhg") >= 142) & (world.array(TABLE, "eval_abnormal_code") == "2")
    rows = world.choose(TABLE, "EXM-022", off)
    world.put(TABLE, rows, eval_abnormal_code="1", eval_note="体检无异常")
    world.note(TABLE, rows, "EXM-022", "rule", "eval_abnormal_code")


def _last_of_two(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Last examinations of adults with one in the year and a half before; and the row of that."""
    near = neighbours(world, TABLE, "exam_on")
    gap = (near.day - near.day[np.maximum(near.previous, 0)]).astype("int64")
    archive = world.tables["ph_archive"]
    birth_of = dict(
        zip(archive["archive_id"].to_pylist(), world.array("ph_archive", "birth_date"), strict=True)
    )
    birth = np.array(
        [birth_of[a] for a in world.tables[TABLE]["archive_id"].to_pylist()], dtype="datetime64[D]"
    )
    adult = (near.day - birth).astype("int64") > 21 * 366 + 550
    return (near.previous >= 0) & (near.following < 0) & (gap < 540) & adult, near.previous


def grown(world: World) -> None:
    """Five centimetres taller than a year ago (EXM-025): probably someone else."""
    eligible, _ = _last_of_two(world)
    rows = world.choose(TABLE, "EXM-025", eligible)
    height = np.round(world.array(TABLE, "height_cm")[rows] + 5.5, 1)
    weight = world.array(TABLE, "weight_kg")[rows]
    world.put(TABLE, rows, height_cm=numbers(height, 1), bmi=numbers(weight / (height / 100) ** 2, 1))
    world.note(TABLE, rows, "EXM-025", "rule", "height_cm")


def copied(world: World) -> None:
    """The readings of last year again (EXM-026); the evaluation calls them abnormal, so nothing else is wrong."""
    eligible, previous = _last_of_two(world)
    rows = world.choose(TABLE, "EXM-026", eligible & ~np.isnan(world.array(TABLE, "fbg_mmol_l")))
    source = world.tables[TABLE].take(pa.array(previous[rows]))
    height = world.array(TABLE, "height_cm")[rows]
    weight = source["weight_kg"].to_numpy()
    values = {name: source[name].combine_chunks() for name in VECTOR}
    world.put(TABLE, rows, **values, **ABNORMAL, bmi=numbers(weight / (height / 100) ** 2, 1))
    world.note(TABLE, rows, "EXM-026", "rule", ",".join(VECTOR))
