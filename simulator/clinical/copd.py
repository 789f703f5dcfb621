"""Chronic obstructive lung disease (慢阻肺): who is screened, who has a card, and the visits with their spirometry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import age_on, codes, days, flags, numbers, pick
from simulator.clinical.rounds import carded, programme_card, rounds
from simulator.clinical.served import Served, numbered, same, span

MIN_AGE = 35
GRADES = np.array([30, 50, 80])  # GOLD: FEV1 in per cent of predicted
SYMPTOMS = "慢性咳嗽|咳痰|呼吸困难"
REFERRED = "肺功能检查"


def make_copd(
    served: Served, exams: pa.Table, hospital_of: dict[str, str], rates: Mapping[str, float], rng: np.random.Generator
) -> dict[str, pa.Table]:  # fmt: skip
    """``copd_screen``, ``copd_card``, ``copd_visit``. ``exams`` tell who is at risk."""
    cohort = served.cohort
    ill = cohort.has_copd & (served.archive >= 0) & (served.opened < served.horizon - 30)
    ill &= (served.birth + 366 * 40 <= served.begin) & (
        np.isnat(cohort.death) | (cohort.death > served.begin + 60)
    )
    who = np.flatnonzero(ill & (rng.random(len(ill)) < rates["copd_carded"]))
    opened, start, last, ended = carded(served, who, rng)
    keep = start <= last
    who, opened, start, last, ended = (a[keep] for a in (who, opened, start, last, ended))
    base = 35 + rng.random(len(who)) * 55
    card = programme_card(served, "MZF", who, opened, ended, {
        "confirmed_on": days(opened - rng.integers(1, 400, len(who))), "gold_grade_code": codes(_grade(base)),
    })  # fmt: skip
    person, day = rounds(rng, start, last, 78, 89)
    return {
        "copd_card": card, "copd_visit": _visits(served, hospital_of, who, person, day, base, rng),
        "copd_screen": _screens(served, exams, rng),
    }  # fmt: skip


def _grade(fev1_pct: np.ndarray) -> np.ndarray:
    grades: np.ndarray = 4 - np.searchsorted(GRADES, fev1_pct, side="right")
    return grades


def _visits(
    served: Served, hospital_of: dict[str, str], patients: np.ndarray, person: np.ndarray, day: np.ndarray,
    base: np.ndarray, rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    who, size = patients[person], len(person)
    pct = np.clip(np.round(base[person] + rng.normal(0, 2, size), 1), 20, 95)
    blows = rng.random(size) < 0.4  # a visit without spirometry states no grade
    worse = rng.random(size) < 0.04
    hidden = pa.array(~worse)
    smokes = served.cohort.smokes[who]
    target = pa.array([f"{hospital_of[c]}呼吸内科" for c in served.org(who).to_pylist()], pa.string())
    columns = {
        "archive_id": served.archive_id(who), "visited_on": days(day),
        "visit_way_code": codes(1 + (rng.random(size) < 0.3)),
        "symptoms": pick(["慢性咳嗽、咳痰", "活动后气促", "无症状"], person % 3),
        "icd10_code": same("J44.900", size), "fev1_fvc": numbers(0.45 + pct / 400, 2, ~blows),
        "fev1_pct": numbers(pct, 1, ~blows), "is_post_bronchodilator": flags(np.ones(size)),
        "gold_grade_code": codes(_grade(pct), ~blows), "mmrc_grade": pa.array(_grade(pct) - 1),
        "cat_score": pa.array(rng.integers(5, 25, size)), "spo2_pct": numbers(rng.integers(91, 98, size)),
        "exacerbation_count": pa.array(worse.astype("int64")), "smoke_status_code": codes(np.where(smokes, 3, 1)),
        "smoke_per_day": numbers(np.where(smokes, 10, 0)), "drugs": same("噻托溴铵粉吸入剂|18ug|每日一次", size),
        "med_compliance_code": codes(1 + (rng.random(size) < 0.1)), "visit_class_code": codes(1 + worse),
        "is_referred": flags(worse), "referral_reason": pc.if_else(hidden, None, same("急性加重", size)),
        "referral_org": pc.if_else(hidden, None, target), "next_visit_on": days(day + 85),
    }  # fmt: skip
    typed = day + span(rng, 0, 3, size)
    return numbered(columns | served.stamp(rng, who, typed), "visit_id", "MZS", "visited_on")


def _screens(served: Served, exams: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Everybody from 35 who smokes, smoked or coughs, by any examination, within every twelve months."""
    risk = pc.or_(
        pc.not_equal(exams["smoke_status_code"], "1"), pc.match_substring_regex(exams["symptoms"], SYMPTOMS)
    )
    who = np.unique(exams.filter(pc.fill_null(risk, False))["resident"].to_numpy())
    old = age_on(served.birth[who], np.full(len(who), served.horizon)) >= MIN_AGE
    death = served.cohort.death[who]
    old &= np.isnat(death) | (death > served.begin + 30)
    who = who[old & (served.archive[who] >= 0)]
    grown = served.birth[who] + 366 * MIN_AGE
    start = np.maximum(
        np.maximum(served.begin + rng.integers(3, 200, len(who)), served.opened[who] + 1), grown - 300
    )
    last = np.fmin(served.cohort.death[who] - 1, served.horizon)
    keep = start <= last
    who, start, last = who[keep], start[keep], last[keep]
    person, day = rounds(rng, start, last, 270, 345)
    people, size = who[person], len(person)
    score = rng.integers(5, 24, size) + 3 * served.cohort.has_copd[people]
    positive = score >= 16  # 慢阻肺筛查问卷 (COPD-SQ): 16 points
    target = pa.array([REFERRED] * size, pa.string())
    columns = {
        "archive_id": served.archive_id(people), "screened_on": days(day), "questionnaire_score": numbers(score),
        "result_code": codes(1 + positive), "is_referred": flags(positive),
        "referral_org": pc.if_else(pa.array(positive), target, None),
    }  # fmt: skip
    typed = day + span(rng, 0, 3, size)
    return numbered(columns | served.stamp(rng, people, typed), "screen_id", "MZW", "screened_on")
