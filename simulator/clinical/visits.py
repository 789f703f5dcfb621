"""`htn_visit` and `dm_visit` rows from the course of disease."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.archive import Archives
from simulator.clinical.cards import Care
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import codes, days, flags, instants, numbers, pick, serial_ids, stream, weighted
from simulator.clinical.followup import Course
from simulator.clinical.window import Window

# Drug texts by regimen and level of intensification: name|dose|frequency.
HTN_DRUGS = [
    ["苯磺酸氨氯地平|5mg|qd", "苯磺酸氨氯地平|5mg|qd、缬沙坦|80mg|qd", "苯磺酸氨氯地平|5mg|qd、缬沙坦|80mg|qd、氢氯噻嗪|12.5mg|qd"],
    ["缬沙坦|80mg|qd", "缬沙坦|80mg|qd、氢氯噻嗪|12.5mg|qd", "缬沙坦|160mg|qd、氢氯噻嗪|12.5mg|qd、苯磺酸氨氯地平|5mg|qd"],
    ["硝苯地平缓释片|20mg|bid", "硝苯地平缓释片|20mg|bid、依那普利|10mg|qd",
     "硝苯地平缓释片|20mg|bid、依那普利|10mg|bid、氢氯噻嗪|12.5mg|qd"],
    ["依那普利|10mg|qd", "依那普利|10mg|bid、苯磺酸氨氯地平|5mg|qd", "依那普利|10mg|bid、苯磺酸氨氯地平|5mg|qd、美托洛尔|25mg|bid"],
]  # fmt: skip
DM_DRUGS = [
    ["二甲双胍|0.5g|bid", "二甲双胍|0.5g|tid、格列美脲|2mg|qd", "二甲双胍|0.5g|tid、甘精胰岛素|14U|hs"],
    ["二甲双胍|0.5g|tid", "二甲双胍|0.5g|tid、达格列净|10mg|qd", "二甲双胍|0.5g|tid、达格列净|10mg|qd、甘精胰岛素|12U|hs"],
    ["格列齐特缓释片|30mg|qd", "格列齐特缓释片|60mg|qd、二甲双胍|0.5g|bid", "二甲双胍|0.5g|tid、门冬胰岛素30|16U|bid"],
    ["阿卡波糖|50mg|tid", "阿卡波糖|50mg|tid、二甲双胍|0.5g|bid", "二甲双胍|0.5g|tid、甘精胰岛素|16U|hs"],
]  # fmt: skip
HTN_SYMPTOMS = ["无症状", "头痛头晕", "头痛头晕、心悸胸闷", "恶心呕吐", "下肢水肿"]
DM_SYMPTOMS = ["无症状", "多饮", "多尿", "多食、多饮", "手脚麻木", "视力模糊"]
TWICE, ADVERSE, NEW_COMPLICATION = (
    "连续两次控制不满意",
    "药物不良反应难以控制",
    "出现新的并发症或原有并发症加重",
)


def even_odd(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Give neighbouring visits of a person values of different parity, so that two are never the same.

    Real readings almost never repeat in several fields at once; what does is the sign of a copied visit,
    which must be there only where it was injected. Rows must be sorted by person and day.
    """
    first = np.flatnonzero(np.r_[True, person[1:] != person[:-1]])
    ordinal = np.arange(len(person)) - np.repeat(first, np.diff(np.r_[first, len(person)]))
    whole: np.ndarray = 2 * (values.astype("int64") // 2) + ordinal % 2
    return whole


def _weight(rng: np.random.Generator, course: Course, care: Care, cohort: Cohort) -> np.ndarray:
    base = cohort.weight_kg[care.who[course.person]] * 10
    return even_odd(np.round(base + rng.normal(0, 7, len(base))), course.person) / 10


def make_visits(
    course: Course,
    care: Care,
    archives: Archives,
    cohort: Cohort,
    hospital_of: dict[str, str],
    window: Window,
    seed: int,
) -> dict[str, pa.Table]:
    """Both follow-up tables. `hospital_of`: the hospital that an institution refers to (its short name)."""
    rng = stream(seed, "visit")
    weight = _weight(rng, course, care, cohort)
    shared = _shared(rng, course, care, archives, cohort, weight, hospital_of, window)
    out = {}
    for name, classes in (("htn", course.htn_class), ("dm", course.dm_class)):
        rows = np.flatnonzero(classes > 0)
        own = _htn(rng, course, care, cohort, rows) if name == "htn" else _dm(rng, course, care, cohort, rows)
        ref = (course.htn_referred if name == "htn" else course.dm_referred)[rows]
        table = pa.table(
            {"visit_id": pa.nulls(len(rows), pa.string())}
            | {k: v.take(pa.array(rows)) for k, v in shared.items()}
        )
        cls = classes[rows]
        gap = np.where(cls == 1, rng.integers(80, 92, len(rows)), rng.integers(10, 15, len(rows)))
        extra: dict[str, Any] = own | {
            "visit_class_code": codes(cls), "is_referred": flags(ref),
            "referral_reason": pick([TWICE, ADVERSE, NEW_COMPLICATION], np.where(ref, np.clip(cls - 2, 0, 2), -1)),
            "next_visit_on": days(course.day[rows] + gap.astype("timedelta64[D]")),
        }  # fmt: skip
        for key, column in extra.items():
            table = table.append_column(key, column)
        target = table.column("_target")
        table = table.append_column("referral_org", pc.if_else(pa.array(ref), target, None)).drop_columns(
            ["_target"]
        )
        table = table.sort_by(
            [("deliver_on", "ascending"), ("visited_on", "ascending"), ("archive_id", "ascending")]
        )
        ids = serial_ids("GS" if name == "htn" else "TS", np.arange(1, len(rows) + 1), 8)
        out[f"{name}_visit"] = table.set_column(0, "visit_id", ids)
    return out


def _shared(
    rng: np.random.Generator, course: Course, care: Care, archives: Archives, cohort: Cohort, weight: np.ndarray,
    hospital_of: dict[str, str], window: Window,
) -> dict[str, pa.Array]:  # fmt: skip
    """What both forms ask for; a person seen for both diseases on one day has it measured once."""
    size, archive, who = len(course.day), care.archive[course.person], care.who[course.person]
    height = cohort.height_cm[who]
    way = np.where(
        course.stage == 1, np.where(rng.random(size) < 0.25, 3, 1), np.where(rng.random(size) < 0.3, 2, 1)
    )
    late = np.searchsorted(np.cumsum([0.7, 0.18, 0.08]), rng.random(size), side="right")
    typed = course.day + late.astype("timedelta64[D]")
    seconds = rng.integers(9 * 3600, 17 * 3600, size).astype("timedelta64[s]")
    org = archives.org_code.take(pa.array(archive))
    targets = [f"{hospital_of[code.as_py()]}内科" for code in org.unique()]
    return {
        "archive_id": archives.archive_id.take(pa.array(archive)), "visited_on": days(course.day),
        "visit_way_code": codes(way), "sbp_mmhg": numbers(course.sbp), "dbp_mmhg": numbers(course.dbp),
        "height_cm": numbers(height, 1), "weight_kg": numbers(weight, 1),
        "bmi": numbers(weight / (height / 100) ** 2, 1), "visit_effect_code": codes(np.ones(size)),
        "no_visit_reason_code": pa.nulls(size, pa.string()),
        "doctor_id": serial_ids(pc.binary_join_element_wise(org, "G", ""), 1 + archive % 11, 2),
        "recorded_at": instants(typed.astype("datetime64[s]") + seconds),
        "_target": pa.array(targets).take(pc.index_in(org, org.unique())),
        "org_code": org, "deliver_on": days(window.deliver_on(typed)), "resident": pa.array(who),
        "_stage": pa.array(course.stage),
    }  # fmt: skip


def _htn(
    rng: np.random.Generator, course: Course, care: Care, cohort: Cohort, rows: np.ndarray
) -> dict[str, pa.Array]:
    who, size, cls = care.who[course.person[rows]], len(rows), course.htn_class[rows]
    smokes = np.where(cohort.smokes[who], 5 + who % 4 * 5, 0)
    salt = 1 + who % 3
    bmi = cohort.weight_kg[who] / (cohort.height_cm[who] / 100) ** 2
    pulse = even_odd(np.round(cohort.heart_rate[who] + rng.normal(0, 4, size)), course.person[rows])
    symptom = np.where(cls == 1, 0, weighted(rng, np.array([0.3, 0.4, 0.1, 0.1, 0.1]), size))
    drugs = [text for levels in HTN_DRUGS for text in levels]
    return {
        "symptoms": pick(HTN_SYMPTOMS, symptom), "heart_rate_bpm": numbers(pulse),
        "target_weight_kg": numbers(cohort.weight_kg[who] - np.where(bmi >= 24, 3, 0), 1),
        "smoke_per_day": numbers(smokes), "target_smoke_per_day": numbers(smokes // 2),
        "drink_liang_per_day": numbers(np.where(who % 5 == 0, 1 + who % 3, 0)),
        "exercise_times_week": numbers(who % 8), "exercise_min": numbers(np.where(who % 8 == 0, 0, 20 + who % 3 * 10)),
        "salt_level_code": codes(salt), "target_salt_level_code": codes(np.maximum(salt - 1, 1)),
        "med_compliance_code": codes(np.where((cls == 2) & (rng.random(size) < 0.3), 2, 1)),
        "drugs": pick(drugs, cohort.htn_regimen[who] * 3 + course.htn_level[rows]),
        "is_adverse": flags(cls == 3), "adverse_text": pick(["干咳", "下肢水肿", "头晕"], np.where(cls == 3, who % 3, -1)),
    }  # fmt: skip


def _dm(
    rng: np.random.Generator, course: Course, care: Care, cohort: Cohort, rows: np.ndarray
) -> dict[str, pa.Array]:
    who, size, cls, fbg = care.who[course.person[rows]], len(rows), course.dm_class[rows], course.fbg[rows]
    drugs = [text for levels in DM_DRUGS for text in levels]
    regimen = cohort.dm_regimen[who] * 3 + course.dm_level[rows]
    insulin = np.array(["胰岛素" in text for text in drugs])[regimen]
    mixed = np.array(["门冬" in text for text in drugs])[regimen]
    symptom = np.where(cls == 1, 0, weighted(rng, np.array([0.4, 0.15, 0.15, 0.1, 0.1, 0.1]), size))
    foot = np.where(rng.random(size) < 0.03, 2 + who % 3, 1)
    hba1c = np.round(np.clip(0.62 * fbg + 2.45 + rng.normal(0, 0.25, size), 4.4, 15.5), 1)
    ppg = np.round(fbg + rng.uniform(0.8, 4.6, size), 1)
    low = course.low_sugar[rows]
    return {
        "symptoms": pick(DM_SYMPTOMS, symptom), "dorsalis_pedis_code": codes(foot), "fbg_mmol_l": numbers(fbg, 1),
        "ppg_mmol_l": numbers(ppg, 1, rng.random(size) < 0.45),
        "rbg_mmol_l": numbers(ppg, 1, np.full(size, True)),
        "hba1c_pct": numbers(hba1c, 1, rng.random(size) < 0.6),
        "staple_g_day": numbers(200 + who % 6 * 25),
        "med_compliance_code": codes(np.where((cls == 2) & (rng.random(size) < 0.3), 2, 1)),
        "drugs": pick(drugs, regimen), "is_insulin": flags(insulin),
        "insulin_name": pick(["甘精胰岛素", "门冬胰岛素30"], np.where(insulin, mixed.astype("int64"), -1)),
        "insulin_usage": pick(["14U 睡前皮下注射", "16U 早晚餐前皮下注射"], np.where(insulin, mixed.astype("int64"), -1)),
        "hypoglycemia_code": codes(np.where(low, 3, np.where(rng.random(size) < 0.06, 2, 1))),
        "is_adverse": flags(cls == 3),
    }  # fmt: skip
