"""Quarterly follow-ups of managed persons as a course of disease: readings, class, referral, recheck.

The rules are those of the national public-health service norm, third edition (2017): goal <140/90, from 65
<150/90; fasting glucose <7.0; first time off goal: seen again within 2 weeks; twice in a row or a complication:
referral; on goal: next visit within 3 months.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.clinical.cards import Care, age_at
from simulator.clinical.cohort import Cohort, blood_pressure
from simulator.clinical.draw import before_weekend, stream
from simulator.clinical.window import Window

ELDER_AGE = 65
RECHECK_DAYS = (9, 14)


@dataclass
class Course:
    """One entry per contact (person and day); `*_class` 0 means that disease was not followed up then."""

    person: np.ndarray
    day: np.ndarray
    stage: np.ndarray
    sbp: np.ndarray
    dbp: np.ndarray
    fbg: np.ndarray
    htn_class: np.ndarray
    dm_class: np.ndarray
    htn_referred: np.ndarray
    dm_referred: np.ndarray
    htn_level: np.ndarray
    dm_level: np.ndarray
    low_sugar: np.ndarray


@dataclass
class _State:
    htn_class: np.ndarray
    dm_class: np.ndarray
    htn_level: np.ndarray
    dm_level: np.ndarray


def systolic_goal(age: np.ndarray) -> np.ndarray:
    return np.where(age >= ELDER_AGE, 150, 140)


def make_course(care: Care, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int) -> Course:
    """Walk the quarters in order (a loop over time, vectors over persons)."""
    rng = stream(seed, "course")
    size = len(care.who)
    state = _State(*(np.zeros(size, dtype="int8") for _ in range(4)))
    parts: list[Course] = []
    for quarter in range(care.anchors.shape[1]):
        day = care.anchors[:, quarter]
        at = np.flatnonzero(~np.isnat(day))
        if len(at) == 0:
            break
        due_htn = ~np.isnat(care.htn_from[at]) & (care.htn_from[at] <= day[at])
        due_dm = ~np.isnat(care.dm_from[at]) & (care.dm_from[at] <= day[at])
        on = day[at]
        for stage in range(3):
            part = _contact(rng, care, cohort, state, at, on, stage, due_htn, due_dm, rates, window)
            parts.append(part)
            off_htn, off_dm = part.htn_class >= 2, part.dm_class >= 2
            later = before_weekend(
                on + rng.integers(*RECHECK_DAYS, len(at), endpoint=True).astype("timedelta64[D]")
            )
            again = (off_htn | off_dm) & (later <= care.last[at])
            at, on, due_htn, due_dm = at[again], later[again], off_htn[again], off_dm[again]
    merged = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Course.__dataclass_fields__}
    keep = (merged["htn_class"] > 0) | (merged["dm_class"] > 0)
    order = np.lexsort((merged["day"], merged["person"]))
    order = order[keep[order]]
    return Course(**{name: column[order] for name, column in merged.items()})


def _contact(
    rng: np.random.Generator, care: Care, cohort: Cohort, state: _State, at: np.ndarray, on: np.ndarray, stage: int,
    due_htn: np.ndarray, due_dm: np.ndarray, rates: Mapping[str, Any], window: Window,
) -> Course:  # fmt: skip
    """Readings and judgement of one contact; `state` (last class, drug level) is moved on in place."""
    size, who = len(at), care.who[at]
    goal = systolic_goal(age_at(care, at, on))
    relief = 4.0 * state.htn_level[at] + (0.0, 6.0, 10.0)[stage]
    sbp, dbp = blood_pressure(cohort, who, on, goal, rng.normal(size=(2, size)), relief)
    # Above 180 a diabetic is an emergency of its own rule; those are kept to hypertension alone here.
    sbp = np.where(np.isnat(care.dm_from[at]), sbp, np.minimum(sbp, 178))
    fbg = 6.25 + 0.95 * cohort.sugar[who] - 0.5 * state.dm_level[at] - (0.0, 0.6, 1.0)[stage]
    fbg = np.round(np.clip(fbg + rng.normal(0, 0.5, size), 4.2, 15.8), 1)
    # No recheck can follow before the end: whoever is about to leave is seen on goal.
    calm = ~(on + np.timedelta64(RECHECK_DAYS[1], "D") <= care.last[at]) & (
        care.last[at] < np.datetime64(window.horizon)
    )
    sbp = np.where(calm, np.minimum(sbp, goal - 3), sbp)
    dbp = np.where(calm, np.minimum(dbp, 88), dbp)
    fbg = np.where(calm, np.minimum(fbg, 6.7), fbg)
    extreme = rng.random(size)
    first_look = (stage == 0) & ~calm & due_dm
    very_high = first_look & (extreme < rates["dm_crisis"])
    low = first_look & ~very_high & (extreme < 2 * rates["dm_crisis"])
    fbg = np.where(very_high, np.round(rng.uniform(16.8, 22.0, size), 1), fbg)
    fbg = np.where(low, np.round(rng.uniform(3.0, 3.8, size), 1), fbg)

    event = rng.random((2, size))
    may = (stage == 0) & ~calm
    htn_class = np.where((sbp < goal) & (dbp < 90), 1, 2)
    htn_class = np.where(may & (event[0] < 0.012), 3, np.where(may & (event[0] > 0.996), 4, htn_class))
    dm_class = np.where(fbg < 7.0, 1, 2)
    dm_class = np.where(
        may & (event[1] < 0.008) & ~very_high, 3, np.where(may & (event[1] > 0.997), 4, dm_class)
    )
    dm_class = np.where(low, 3, dm_class)
    htn_class, dm_class = np.where(due_htn, htn_class, 0), np.where(due_dm, dm_class, 0)

    def referred(now: np.ndarray, before: np.ndarray) -> np.ndarray:
        twice = np.isin(now, (2, 3)) & np.isin(before, (2, 3))
        return twice | (now == 4)

    htn_ref = referred(htn_class, state.htn_class[at])
    dm_ref = referred(dm_class, state.dm_class[at]) | very_high | low
    part = Course(
        at, on, np.full(size, stage, dtype="int8"), sbp, dbp, fbg, htn_class, dm_class, htn_ref, dm_ref,
        state.htn_level[at], state.dm_level[at], low,
    )  # fmt: skip
    for due, now, ref, last, level in (
        (due_htn, htn_class, htn_ref, state.htn_class, state.htn_level),
        (due_dm, dm_class, dm_ref, state.dm_class, state.dm_level),
    ):
        last[at] = np.where(due, now, last[at])
        level[at] = np.where(due & ref, np.minimum(level[at] + 1, 2), level[at])
    return part
