"""Severe mental disorders (严重精神障碍): a card each, a visit a quarter, and the early ones that an unsettled state asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY, NO_DAY, before_weekend, codes, days, flags, instants, pick
from simulator.clinical.rounds import adults, carded, programme_card, rounds
from simulator.clinical.served import Served, numbered, same, span

QUARTER = (76, 89)  # with the weekend at most 91 days: four visits fall in any calendar year
DIAGNOSES = (("F20.900", "精神分裂症"), ("F31.900", "双相情感障碍"), ("F25.900", "分裂情感性障碍"),
             ("F79.900", "精神发育迟滞伴发精神障碍"), ("G40.900", "癫痫所致精神障碍"))  # fmt: skip
DRUGS = (
    "奥氮平片|10mg|每晚一次",
    "利培酮片|2mg|每日两次",
    "丙戊酸钠缓释片|0.5g|每日一次",
    "氯氮平片|50mg|每日两次",
)
STABLE, SETTLING, UNSTABLE = 0, 1, 2
RECHECK = {SETTLING: (14, 18), UNSTABLE: (9, 12)}  # days to the next visit (third edition: two weeks)


def closed_year(served: Served) -> int:
    """The last calendar year whose examinations can all have been entered on the last day."""
    end = served.window.end
    return end.year - (1 if end > end.replace(month=1, day=1) + timedelta(days=3) else 2)


def _visits(
    rng: np.random.Generator, start: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(person, day, state), by person and day; after every unsettled state comes the early visit."""
    person, day = rounds(rng, start, last, *QUARTER)
    state = np.searchsorted([0.82, 0.95], rng.random(len(person)), side="right")
    more_person, more_day = [], []
    for kind, (low, high) in RECHECK.items():
        again = before_weekend(day + span(rng, low, high, len(day)))
        # Whom the early visit cannot reach any more is settled.
        state = np.where((state == kind) & (again > last[person]), STABLE, state)
        due = state == kind
        more_person.append(person[due])
        more_day.append(again[due])
    person, day = np.concatenate([person, *more_person]), np.concatenate([day, *more_day])
    state = np.concatenate([state, np.full(len(person) - len(state), STABLE)])
    order = np.lexsort((day, person))
    return person[order], day[order].astype(DAY), state[order]


def make_mental(
    served: Served, names: pa.Array, exams: pa.Table, hospital_of: dict[str, str], rates: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, pa.Table]:  # fmt: skip
    """``smi_card`` and ``smi_visit``.

    Args:
        names: of the residents. exams: who was examined (the others refused). rates: profile ``clinical.programmes``.
    """
    who = adults(served, rng, rates["smi"])
    opened, start, last, ended = carded(served, who, rng)
    keep = start <= last
    who, opened, start, last, ended = (a[keep] for a in (who, opened, start, last, ended))
    size = len(who)
    kind = rng.integers(0, len(DIAGNOSES), size)
    onset = opened - rng.integers(100, 1200, size)
    confirmed = np.minimum(onset + rng.integers(5, 90, size), opened)
    in_year = exams.filter(pc.equal(pc.year(exams["exam_on"]), closed_year(served)))
    examined = np.isin(who, in_year["resident"].to_numpy())
    surname = pc.utf8_slice_codeunits(names.take(pa.array(who)), 0, 1)
    card = programme_card(served, "JZ", who, opened, ended, {
        "smi_icd10_code": pick([d[0] for d in DIAGNOSES], kind), "smi_dx_name": pick([d[1] for d in DIAGNOSES], kind),
        "dx_org": same("医湖市精神卫生中心", size), "confirmed_on": days(confirmed), "first_onset_on": days(onset),
        "is_consented": flags(np.ones(size)), "consented_on": days(opened),
        "guardian_name": pc.binary_join_element_wise(surname, pick(["建国", "秀英", "玉兰", "志强"], who % 4), ""),
        "guardian_relation_code": pick(["1", "5", "7"], who % 3), "is_exam_refused": flags(~examined),
    })  # fmt: skip
    person, day, state = _visits(rng, start, last)
    return {
        "smi_card": card,
        "smi_visit": _visit_rows(served, hospital_of, who, person, day, state, last, rng),
    }


def _visit_rows(
    served: Served, hospital_of: dict[str, str], patients: np.ndarray, person: np.ndarray, day: np.ndarray,
    state: np.ndarray, last: np.ndarray, rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    who, size = patients[person], len(person)
    severe, settling = state == UNSTABLE, state == SETTLING
    violent = severe & (rng.random(size) < 0.4)
    typed = day + span(rng, 0, 3, size)
    following = np.r_[np.where(person[1:] == person[:-1], day[1:], NO_DAY), NO_DAY][:size] if size else day
    planned = np.where(np.isnat(following), day + 80, following)
    reported = day.astype("datetime64[s]") + np.timedelta64(16 * 3600, "s")
    org = served.org(who)
    referral = pa.array([f"{hospital_of[c]}精神科" for c in org.to_pylist()], pa.string())
    hidden = pa.array(~severe)
    columns = {
        "archive_id": served.archive_id(who),
        "card_id": pc.binary_join_element_wise("JZ", pc.utf8_lpad(pa.array(person + 1).cast(pa.string()), 7, "0"), ""),
        "visited_on": days(day), "visit_way_code": pick(["1", "2", "3"], np.searchsorted([0.4, 0.85], rng.random(size))),
        "danger_level_code": codes(np.where(violent, 3, np.where(settling, 1, 0))),
        "symptoms": pick(["无", "幻听", "冲动毁物"], state), "symptom_grade_code": pick(["none", "mild", "marked"], state),
        "insight_code": codes(np.where(state == STABLE, 1, 2)), "sleep_code": codes(1 + (state > 0)),
        "appetite_code": codes(1 + (state > 1)), "social_function_code": codes(np.where(severe, 3, 1 + who % 2)),
        "locked_code": codes(np.ones(size)), "hospitalized_code": codes(np.zeros(size)),
        "trouble_count": pa.array(severe.astype("int64")), "accident_count": pa.array(violent.astype("int64")),
        "crime_count": pa.array(np.zeros(size, dtype="int64")), "self_harm_count": pa.array(np.zeros(size, dtype="int64")),
        "suicide_count": pa.array(np.zeros(size, dtype="int64")),
        "impact": pick(["无", "轻度滋事", "肇事"], severe.astype("int64") + violent),
        "med_compliance_code": codes(np.where(severe, 2, 1)), "drugs": pick(DRUGS, who % len(DRUGS)),
        "is_adverse": flags(np.zeros(size)), "adverse_grade_code": same("none", size),
        "physical_illness_code": same("none", size),
        "visit_class_code": codes(3 - state), "is_referred": flags(severe),
        "referral_reason": pc.if_else(hidden, None, same("病情不稳定,需专科处理", size)),
        "referral_org": pc.if_else(hidden, None, referral), "is_reported": flags(violent),
        "reported_at": pc.if_else(pa.array(violent), instants(reported), None),
        "guidance": same("生活劳动能力训练", size), "next_visit_on": days(planned),
    }  # fmt: skip
    return numbered(columns | served.stamp(rng, who, typed), "visit_id", "JZF", "visited_on")
