"""Yearly health examinations (健康体检表): everybody from 65, most managed patients, some others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.archive import Archives
from simulator.clinical.cohort import Cohort, blood_pressure
from simulator.clinical.draw import (
    DAY,
    age_on,
    before_weekend,
    codes,
    days,
    instants,
    numbers,
    pick,
    serial_ids,
    stream,
    weighted,
)
from simulator.clinical.followup import ELDER_AGE, systolic_goal
from simulator.clinical.physiology import Physiology
from simulator.clinical.window import Window

# Examination campaigns run from spring to autumn; clinics take stragglers in winter.
MONTHS = np.array([0.3, 0.2, 1.2, 1.5, 1.6, 1.5, 1.0, 0.9, 1.3, 1.4, 1.2, 0.5])
# exam column -> laboratory item, decimals
LAB_COLUMNS = {
    "hgb_g_l": ("HGB", 0), "wbc_10_9_l": ("WBC", 2), "plt_10_9_l": ("PLT", 0), "fbg_mmol_l": ("FPG", 2),
    "hba1c_pct": ("HBA1C", 1), "alt_u_l": ("ALT", 0), "ast_u_l": ("AST", 0), "tbil_umol_l": ("TBIL", 1),
    "scr_umol_l": ("CREA", 0), "bun_mmol_l": ("UREA", 1), "tc_mmol_l": ("TC", 2), "tg_mmol_l": ("TG", 2),
    "ldl_mmol_l": ("LDL", 2), "hdl_mmol_l": ("HDL", 2),
}  # fmt: skip
SELFCARE_STEPS = {
    "selfcare_eat": [0, 3, 5], "selfcare_wash": [0, 1, 3, 7], "selfcare_dress": [0, 3, 5],
    "selfcare_toilet": [0, 1, 5, 10], "selfcare_move": [0, 1, 5, 10],
}  # fmt: skip


def _who_when(
    rng: np.random.Generator, archives: Archives, cohort: Cohort, window: Window, rates: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Person and day, at most one examination per calendar year."""
    first, last = window.public_health_start, window.horizon
    people = np.flatnonzero(archives.of_resident >= 0)
    known = ~np.isnat(cohort.htn_on[people]) | ~np.isnat(cohort.dm_on[people])
    faithful = rng.random(len(people))
    all_who, all_day = [], []
    for year in range(first.year, last.year + 1):
        month = weighted(rng, MONTHS, len(people))
        start = np.datetime64(f"{year}-01-01").astype("datetime64[M]") + month
        day = before_weekend(start.astype(DAY) + rng.integers(2, 28, len(people)).astype("timedelta64[D]"))
        age = age_on(archives.birth[archives.of_resident[people]], day)
        share = np.where(
            age >= ELDER_AGE,
            rates["exam"]["elder"],
            np.where(known, rates["exam"]["managed"], rates["exam"]["other"]),
        )
        # the same people come every year, some stay away now and then
        comes = (faithful < share * 1.08) & (rng.random(len(people)) < 0.93)
        death = cohort.death[people]
        opened = archives.opened[archives.of_resident[people]]
        comes &= (
            (day >= opened) & (np.isnat(death) | (day < death)) & (day <= np.datetime64(last)) & (age >= 7)
        )
        all_who.append(people[comes])
        all_day.append(day[comes])
    who, day = np.concatenate(all_who), np.concatenate(all_day)
    order = np.lexsort((who, day))
    return who[order], day[order]


def _selfcare(rng: np.random.Generator, age: np.ndarray, elder: np.ndarray) -> dict[str, pa.Array]:
    size = len(age)
    frail = np.clip((age - 70) / 60.0, 0.01, 0.4)
    total, out = np.zeros(size), {}
    for name, steps in SELFCARE_STEPS.items():
        level = np.where(rng.random(size) < frail, rng.integers(1, len(steps), size), 0)
        score = np.asarray(steps)[level]
        total += score
        out[name] = numbers(score, 0, ~elder)
    grade = np.searchsorted([3, 8, 18], total, side="left") + 1
    out["selfcare_score"] = numbers(total, 0, ~elder)
    out["selfcare_grade_code"] = codes(grade, ~elder)
    return out


def make_exams(
    archives: Archives, cohort: Cohort, body: Physiology, window: Window, rates: Mapping[str, Any], seed: int
) -> pa.Table:
    """The examination table, laboratory columns drawn from the same body as the LIS results."""
    rng = stream(seed, "exam")
    who, day = _who_when(rng, archives, cohort, window, rates)
    archive, size = archives.of_resident[who], len(who)
    age = age_on(archives.birth[archive], day)
    elder = age >= ELDER_AGE
    sbp, dbp = blood_pressure(cohort, who, day, systolic_goal(age), rng.normal(size=(2, size)))
    right = np.clip(sbp + rng.integers(-4, 5, size), 88, 200)
    right_dbp = np.minimum(np.clip(dbp + rng.integers(-1, 2, size), 46, 112), right - 22)
    height = np.round(cohort.height_cm[who] + rng.normal(0, 0.3, size).clip(-0.8, 0.8), 1)
    height = np.where(age < 20, np.round(cohort.height_cm[who], 1), height)
    weight = np.round(cohort.weight_kg[who] + rng.normal(0, 1.1, size), 1)
    bmi = np.round(weight / (height / 100) ** 2, 1)
    lab = {column: body.values(item, who, day, rng) for column, (item, _) in LAB_COLUMNS.items()}
    lab["hba1c_pct"] = np.where(elder | cohort.has_dm[who], lab["hba1c_pct"], np.nan)
    protein = np.where(
        rng.random(size) < np.where(cohort.has_ckd[who], 0.5, 0.03), rng.integers(1, 4, size), 0
    )
    ecg = rng.random(size) < np.where(cohort.has_cvd[who], 0.5, 0.08 + (age > 65) * 0.1)
    ultrasound = rng.random(size) < 0.22
    chest = rng.random(size) < np.where(cohort.has_copd[who], 0.4, 0.06)
    no_imaging = ~elder & (rng.random(size) < 0.5)
    abnormal = (
        (np.maximum(sbp, right) >= 140) | (np.maximum(dbp, right_dbp) >= 90)
        | (lab["fbg_mmol_l"] >= 7.0) | (bmi >= 28) | (lab["hgb_g_l"] < 90)
        | (lab["scr_umol_l"] > 133) | ecg | (protein >= 2) | ultrasound | chest
    )  # fmt: skip
    smoking = np.where(
        cohort.smokes[who], 3, np.where((cohort.sex[who] == 1) & (who % 7 == 0) & (age > 40), 2, 1)
    )
    moves = 1 + (who + day.astype("datetime64[Y]").astype("int64")) % 4
    cog, mood = elder & (rng.random(size) < 0.07), elder & (rng.random(size) < 0.06)
    typed = day + rng.integers(0, 6, size).astype("timedelta64[D]")
    org = archives.org_code.take(pa.array(archive))
    columns: dict[str, Any] = {
        "exam_id": serial_ids("TJ", np.arange(1, size + 1), 8),
        "archive_id": archives.archive_id.take(pa.array(archive)), "exam_on": days(day),
        "exam_type_code": pick(["general", "elder"], elder.astype("int64")),
        "symptoms": pick(["无症状", "头晕", "胸闷", "关节疼痛", "咳嗽"], weighted(rng, np.array([7, 1, 0.6, 1.2, 0.7]), size)),
        "temp_c": numbers(rng.normal(36.4, 0.2, size), 1),
        "pulse_bpm": numbers(cohort.heart_rate[who] + rng.normal(0, 4, size)), "resp_bpm": numbers(rng.integers(15, 20, size)),
        "sbp_l_mmhg": numbers(sbp), "dbp_l_mmhg": numbers(dbp), "sbp_r_mmhg": numbers(right),
        "dbp_r_mmhg": numbers(right_dbp),
        "height_cm": numbers(height, 1), "weight_kg": numbers(weight, 1),
        "waist_cm": numbers(bmi * 3.1 + 8 + rng.normal(0, 3, size), 0), "bmi": numbers(bmi, 1),
        "smoke_status_code": codes(smoking), "smoke_per_day": numbers(np.where(smoking == 3, 5 + who % 4 * 5, 0)),
        "smoke_start_age": numbers(np.where(smoking > 1, 17 + who % 9, np.nan)),
        "smoke_quit_age": numbers(np.where(smoking == 2, 32 + who % 8, np.nan)),
        "exercise_freq_code": codes(moves), "exercise_min": numbers(np.where(moves == 4, 0, 20 + who % 4 * 10)),
        "exercise_kind": pick(["散步", "广场舞", "太极拳", "慢跑"], np.where(moves == 4, -1, who % 4)),
        "elder_health_self_code": codes(1 + weighted(rng, np.array([3, 4, 1, 1, 0.3]), size), ~elder),
    }  # fmt: skip
    columns |= _selfcare(rng, age, elder) | {
        "cog_screen_code": codes(1 + cog, ~elder), "cog_score": numbers(np.where(cog, 14 + who % 8, 25 + who % 6), 0, ~elder),
        "emo_screen_code": codes(1 + mood, ~elder), "emo_score": numbers(np.where(mood, 12 + who % 9, who % 8), 0, ~elder),
    }  # fmt: skip
    columns |= {column: numbers(lab[column], decimals) for column, (_, decimals) in LAB_COLUMNS.items()}
    columns |= {
        "urine_protein": pick(["-", "+-", "+", "++"], protein),
        "ecg_result_code": codes(1 + ecg), "abd_us_result_code": codes(1 + ultrasound, no_imaging),
        "chest_dr_result_code": codes(1 + chest, no_imaging),
        "eval_abnormal_code": codes(1 + abnormal),
        "eval_note": pick(["体检无异常", "有异常,详见各项结果"], abnormal.astype("int64")),
        "doctor_id": serial_ids(pc.binary_join_element_wise(org, "G", ""), 1 + archive % 11, 2),
        "recorded_at": instants(typed.astype("datetime64[s]") + rng.integers(9 * 3600, 17 * 3600, size).astype("timedelta64[s]")),
        "org_code": org, "deliver_on": days(window.deliver_on(typed)), "resident": pa.array(who),
    }  # fmt: skip
    return pa.table(columns)
