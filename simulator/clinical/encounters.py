"""Outpatient, emergency and inpatient encounters of the registered patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import CHRONIC, CLASSES, catalogue
from simulator.clinical.cohort import Cohort, blood_pressure
from simulator.clinical.draw import NO_DAY, age_on, days, instants, numbers, pick, serial_ids, stream
from simulator.clinical.followup import systolic_goal
from simulator.clinical.patients import Patients
from simulator.clinical.window import DayWeights, Window, clock

# Clinic hours: morning peak, lunch, afternoon; emergencies peak in the evening.
CLINIC_HOURS = np.array(
    [0, 0, 0, 0, 0, 0, 0.3, 4, 14, 18, 15, 8, 1.5, 3, 10, 10, 7, 3, 0.8, 0.5, 0.2, 0, 0, 0]
)
EMERGENCY_HOURS = np.array(
    [
        2.4,
        1.9,
        1.5,
        1.2,
        1.1,
        1.2,
        1.7,
        2.8,
        4,
        4.5,
        4.6,
        4.3,
        4,
        3.8,
        4.1,
        4.3,
        4.5,
        5,
        6,
        6.8,
        6.6,
        5.4,
        4.2,
        3.2,
    ]
)
VISIT_RATE = np.array([3.2, 1.1, 1.3, 2.2, 3.9])  # relative, by age band 0-6, 7-17, 18-44, 45-64, 65+
BANDS = np.array([7, 18, 45, 65])


@dataclass(frozen=True)
class Encounters:
    """One entry per encounter, sorted by institution and start."""

    table: pa.Table
    patient: np.ndarray
    who: np.ndarray
    org: np.ndarray
    level: np.ndarray
    klass: np.ndarray
    condition: np.ndarray
    start: np.ndarray
    end: np.ndarray
    encounter_id: pa.Array
    doctor_id: pa.Array
    patient_local_id: pa.Array


def _draw_contacts(
    rng: np.random.Generator, patients: Patients, cohort: Cohort, window: Window, rates: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which patient on which day in which class (0 AMB, 1 EMER, 2 IMP)."""
    weights = DayWeights.between(window.history_start, window.horizon)
    years = len(weights.cumulative) / 365.25
    band = np.searchsorted(BANDS, np.maximum(cohort.age, 0), side="right")
    ill = (
        1.0
        + 0.35 * (~np.isnat(cohort.htn_on) | ~np.isnat(cohort.dm_on))
        + 0.3 * (cohort.has_cvd | cohort.has_copd)
    )
    rate = np.where(patients.count > 0, VISIT_RATE[band] * ill, 0.0)
    # Registrations younger than the window see only part of it; the total must still come out.
    there = np.bincount(
        patients.resident, weights.share_from(patients.since), minlength=len(cohort)
    ) / np.maximum(patients.count, 1)
    scale = rates["encounters_per_year"] * len(cohort) / max((rate * there).sum(), 1.0)
    who = np.repeat(np.arange(len(cohort)), rng.poisson(rate * scale * years))
    klass = np.searchsorted(
        np.cumsum([1 - rates["emergency"] - rates["inpatient"], rates["emergency"]]),
        rng.random(len(who)),
        side="right",
    )
    # Sorted by level: the first registration is the nearest to home. Clinic visits go there mostly.
    near = rng.random(len(who)) < np.where(klass == 0, 0.62, 0.0)
    spread = patients.first[who] + (rng.random(len(who)) * patients.count[who]).astype("int64")
    top = patients.first[who] + patients.count[who] - 1
    patient = np.where(near, patients.first[who], np.where(klass == 0, spread, top))
    klass = np.where(
        (patients.level[patient] == 1) & (klass > 0), np.where(rng.random(len(who)) < 0.12, klass, 0), klass
    )
    day = weights.sample(rng, len(who))
    weekday = (day.astype("int64") + 3) % 7
    death = cohort.death[who]
    alive = np.isnat(death) | (day < death)
    # Health centres close most clinics on Sunday; who comes then goes to the duty room.
    open_ = (patients.level[patient] > 1) | (weekday < 6) | (rng.random(len(who)) < 0.5)
    keep = (day >= patients.since[patient]) & (day > cohort.birth[who]) & alive & open_
    return patient[keep], day[keep], klass[keep]


def _conditions(
    rng: np.random.Generator,
    cohort: Cohort,
    who: np.ndarray,
    day: np.ndarray,
    klass: np.ndarray,
    rates: Mapping[str, Any],
) -> np.ndarray:
    """Main condition: a chronic one that the person has, or one by age, sex, class and season."""
    cat = catalogue()
    band = np.searchsorted(BANDS, np.maximum(age_on(cohort.birth[who], day), 0), side="right")
    month = day.astype("datetime64[M]").astype("int64") % 12
    winter = np.isin(month, (10, 11, 0, 1, 2)).astype("int64")
    key = ((klass * 5 + band) * 2 + (cohort.sex[who] == 2)) * 2 + winter
    chosen = np.zeros(len(who), dtype="int64")
    draw = rng.random(len(who))
    for group in np.unique(key):  # at most 60 strata, each drawn at once
        rows = key == group
        is_winter, sex, at = group % 2, 1 + (group // 2) % 2, group // 4
        weight = cat.by_band[:, at % 5] * cat.by_class[:, at // 5] * np.where(is_winter, cat.season, 1.0)
        weight = np.where((cat.sex == 0) | (cat.sex == sex), weight, 0.0)
        total = np.cumsum(weight)
        chosen[rows] = np.searchsorted(total, draw[rows] * total[-1], side="right")
    known = np.stack([
        cohort.htn_on[who] <= day, cohort.dm_on[who] <= day, cohort.has_cvd[who], cohort.has_ckd[who], cohort.has_copd[who],
    ], axis=1)  # fmt: skip
    weight = known * np.array([1.0, 0.9, 0.7, 0.5, 0.7])
    total = np.cumsum(weight, axis=1)
    main = (total < (rng.random(len(who)) * total[:, -1])[:, None]).sum(axis=1)
    is_chronic = (total[:, -1] > 0) & (
        rng.random(len(who)) < np.where(klass == 0, rates["chronic_visit"], 0.3)
    )
    offsets = np.array([cat.chronic_at[name] for name in CHRONIC])
    result: np.ndarray = np.where(is_chronic, offsets[np.minimum(main, 4)], chosen)
    return result


def make_encounters(
    city: Any, patients: Patients, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int
) -> Encounters:
    """Encounters of the whole window; a stay that ends later than it is first delivered comes twice."""
    rng = stream(seed, "encounter")
    patient, day, klass = _draw_contacts(rng, patients, cohort, window, rates)
    who, size = patients.resident[patient], len(patient)
    condition = _conditions(rng, cohort, who, day, klass, rates)
    seconds = np.where(klass == 0, clock(rng, CLINIC_HOURS, size), clock(rng, EMERGENCY_HOURS, size))
    start = day.astype("datetime64[s]") + seconds.astype("timedelta64[s]")
    stay = np.select(
        [klass == 0, klass == 1], [rng.integers(300, 3000, size), rng.integers(2400, 21600, size)],
        (86400 * np.clip(rng.gamma(2.2, 3.4, size), 1.2, 40)).astype("int64"),
    )  # fmt: skip
    end = start + stay.astype("timedelta64[s]")
    # Nobody stays in hospital beyond their death.
    death = cohort.death[who].astype("datetime64[s]") + np.timedelta64(9, "h")
    dies = (klass == 2) & ~np.isnat(death) & (end > death)
    end = np.where(dies, np.maximum(death, start + np.timedelta64(1200, "s")), end)
    order = np.lexsort((seconds, day, patients.org[patient].astype(str)))
    patient, who, klass, condition = patient[order], who[order], klass[order], condition[order]
    day, start, end, dies = day[order], start[order], end[order], dies[order]

    org, level = patients.org[patient], patients.level[patient]
    starts = np.flatnonzero(np.r_[True, org[1:] != org[:-1]])
    serial = np.arange(size) - np.repeat(starts, np.diff(np.r_[starts, size])) + 1
    stamp = pc.replace_substring(pc.cast(days(day), pa.string()), "-", "")
    ids = serial_ids(pc.binary_join_element_wise(pick(["MZ", "JZ", "ZY"], klass), stamp, ""), serial, 7)
    cat = catalogue()
    local = patients.table["local_id"].combine_chunks().take(pa.array(patient))
    depts = pick(cat.dept, condition)
    doctor = serial_ids(
        pc.binary_join_element_wise(pa.array(org.tolist(), pa.string()), "D", ""),
        1 + (condition * 7 + serial % 3) % 97,
        3,
    )
    age = age_on(cohort.birth[who], day)
    sbp, dbp = blood_pressure(cohort, who, day, systolic_goal(age), rng.normal(size=(2, size)))
    no_bp = (age < 18) | (rng.random(size) < np.where(age >= 35, 0.25, 0.6))
    outcome = np.select(
        [dies, klass == 2],
        [4, 0],
        np.where(klass == 1, np.searchsorted([0.8, 0.93, 0.99], rng.random(size)), 0),
    )
    fee_log = np.select([klass == 0, klass == 1], [4.9 + 0.28 * level, 6.0 + 0.2 * level], 7.6 + 0.45 * level)
    fee = np.exp(rng.normal(fee_log, 0.55)) * np.where(
        klass == 2, np.clip((end - start).astype("int64") / 86400 / 7, 0.4, 4), 1
    )
    fee = np.round(fee, 2)
    paid = np.round(
        fee * np.clip(rng.normal(0.66 - 0.06 * level, 0.1, size), 0.1, 0.9) * (rng.random(size) < 0.94), 2
    )

    def version(rows: np.ndarray, finished: bool, known: np.ndarray) -> pa.Table:
        """The rows as known on a day: an unfinished stay has no end, outcome or charges yet."""
        hide = np.full(len(rows), not finished)
        return pa.table({
            "encounter_id": ids.take(pa.array(rows)), "patient_local_id": local.take(pa.array(rows)),
            "class_code": pick(CLASSES, klass[rows]), "dept_code": depts.take(pa.array(rows)),
            "doctor_id": doctor.take(pa.array(rows)), "started_at": instants(start[rows]),
            "ended_at": instants(np.where(hide, NO_DAY.astype("datetime64[s]"), end[rows])),
            "chief_complaint": pick(cat.complaint, condition[rows]),
            "sbp_mmhg": numbers(sbp[rows], 0, no_bp[rows]).cast(pa.int64()),
            "dbp_mmhg": numbers(dbp[rows], 0, no_bp[rows]).cast(pa.int64()),
            "disposition_code": pick(["home", "obs", "admit", "transfer", "dead"], np.where(hide, -1, outcome[rows])),
            "total_fee": numbers(fee[rows], 2, hide), "insurance_pay": numbers(paid[rows], 2, hide),
            "source_updated_at": instants(known), "org_code": pa.array(org[rows].tolist(), pa.string()),
            "deliver_on": days(window.deliver_on(known)), "resident": pa.array(who[rows]),
        })  # fmt: skip

    everything = np.arange(size)
    same_delivery = window.deliver_on(end) == window.deliver_on(start)
    now, split = everything[same_delivery], everything[~same_delivery]
    table = pa.concat_tables([
        version(now, True, end[now]), version(split, False, start[split] + np.timedelta64(600, "s")),
        version(split, True, end[split]),
    ])  # fmt: skip
    return Encounters(table, patient, who, org, level, klass, condition, start, end, ids, doctor, local)
