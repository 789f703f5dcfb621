"""Who is ill with what: the latent clinical state behind every record of a resident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import NO_DAY, age_on, stream, to_days
from simulator.clinical.window import Window

AGE_EDGES = np.array([0, 18, 35, 45, 55, 65, 75])


@dataclass(frozen=True)
class Cohort:
    """One entry per resident, in the order of the city's `residents` table.

    Diagnosis days are NaT where the disease is absent or unknown to the health service.
    `strain` is the person's own tendency (standard normal) to miss the blood-pressure goal,
    `sugar` the same for glucose; visits, exams, encounters and devices all lean on them.
    """

    birth: np.ndarray
    sex: np.ndarray
    death: np.ndarray
    age: np.ndarray
    has_htn: np.ndarray
    has_dm: np.ndarray
    has_ckd: np.ndarray
    has_cvd: np.ndarray
    has_copd: np.ndarray
    htn_on: np.ndarray
    dm_on: np.ndarray
    strain: np.ndarray
    sugar: np.ndarray
    height_cm: np.ndarray
    weight_kg: np.ndarray
    heart_rate: np.ndarray
    smokes: np.ndarray
    htn_regimen: np.ndarray
    dm_regimen: np.ndarray

    def __len__(self) -> int:
        return len(self.birth)


def _diagnosed(
    rng: np.random.Generator, ill: np.ndarray, birth: np.ndarray, aware: float, window: Window
) -> np.ndarray:
    """Day of diagnosis: some years back from the window's end, not before the 30th birthday."""
    size = len(ill)
    back = (rng.gamma(2.0, 3.2, size) * 365.25).astype("int64").astype("timedelta64[D]")
    day = np.datetime64(window.horizon) - back
    adult = birth + np.timedelta64(30 * 365 + 8, "D")
    day = np.maximum(day, adult)
    known = ill & (rng.random(size) < aware) & (day <= np.datetime64(window.horizon))
    return np.where(known, day, NO_DAY)


def make_cohort(residents: pa.Table, window: Window, rates: Mapping[str, Any], seed: int) -> Cohort:
    """`rates`: the `clinical` section of the profile (prevalence by age band, awareness)."""
    rng = stream(seed, "cohort")
    size = residents.num_rows
    birth = to_days(residents["birth_date"])
    death = to_days(residents["death_date"])
    sex = pc.cast(residents["sex_code"], pa.int8()).to_numpy(zero_copy_only=False).astype("int8")
    age = age_on(birth, np.full(size, np.datetime64(window.end)))
    band = np.clip(np.searchsorted(AGE_EDGES, age, side="right") - 1, 0, len(AGE_EDGES) - 1)

    def ill(name: str, factor: np.ndarray | float = 1.0) -> np.ndarray:
        share = np.asarray(rates["prevalence"][name])[band] * factor
        result: np.ndarray = rng.random(size) < share
        return result

    body = rng.normal(0.0, 1.0, size)
    htn = ill("htn", 1.0 + 0.15 * body)
    dm = ill("dm", np.where(htn, 1.5, 0.8) * (1.0 + 0.2 * body))
    cvd = ill("cvd", np.where(htn | dm, 1.6, 0.6))
    ckd = ill("ckd", np.where(htn | dm, 1.8, 0.5))
    smokes = rng.random(size) < np.where((sex == 1) & (age >= 18), 0.44, np.where(age >= 18, 0.02, 0.0))
    copd = ill("copd", np.where(smokes, 2.2, 0.6))
    grown = np.clip(age, 0, 18)
    height = np.where(sex == 1, 169.0, 157.5) + rng.normal(0, 5.2, size) - np.clip(age - 50, 0, 40) * 0.09
    height = np.where(age < 18, 52 + (height - 52) * (grown / 18.0) ** 0.75, height)
    index = (
        np.where(age < 18, 15.5 + grown * 0.3, 23.3)
        + 2.6 * body * np.where(age < 18, 0.5, 1.0)
        + 1.2 * (htn | dm)
    )
    index = np.clip(index, 14.0, 33.5)
    return Cohort(
        birth=birth, sex=sex, death=death, age=age,
        has_htn=htn, has_dm=dm, has_ckd=ckd, has_cvd=cvd, has_copd=copd,
        htn_on=_diagnosed(rng, htn, birth, rates["aware"]["htn"], window),
        dm_on=_diagnosed(rng, dm, birth, rates["aware"]["dm"], window),
        strain=rng.normal(0, 1, size), sugar=rng.normal(0, 1, size),
        height_cm=np.round(height, 1), weight_kg=np.round(index * (height / 100) ** 2, 1),
        heart_rate=np.clip(rng.normal(74, 7, size), 54, 98), smokes=smokes,
        htn_regimen=rng.integers(0, 4, size), dm_regimen=rng.integers(0, 4, size),
    )  # fmt: skip


def blood_pressure(
    cohort: Cohort,
    who: np.ndarray,
    day: np.ndarray,
    goal: np.ndarray,
    eps: np.ndarray,
    relief: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Systolic and diastolic pressure (mmHg, whole) of residents `who` on `day`.

    `goal` is the systolic goal that treatment aims at, `eps` two columns of standard normals,
    `relief` what intensified treatment takes off. Winter adds a few mmHg.
    """
    age, htn = cohort.age[who], cohort.has_htn[who]
    treated = htn & ~np.isnat(cohort.htn_on[who]) & (cohort.htn_on[who] <= day)
    month = day.astype("datetime64[M]").astype("int64") % 12
    season = 2.5 * np.cos(2 * np.pi * (month - 0.5) / 12.0)
    healthy = 108 + 0.22 * np.clip(age, 5, 90) + 4.5 * cohort.strain[who]
    ill = np.where(treated, goal - 8.5 + 7.0 * cohort.strain[who], 151 + 7.5 * cohort.strain[who])
    sbp = np.where(htn, ill, healthy) + season + 6.0 * eps[0] - relief
    low = (
        np.where(htn, 80.5, 70) + 0.28 * (sbp - np.where(htn, 136.0, 118.0)) - np.clip(age - 60, 0, 35) * 0.22
    )
    dbp = low + 4.5 * eps[1]
    sbp = np.clip(np.round(sbp), 86, 198)
    dbp = np.clip(np.round(dbp), np.maximum(46, sbp - 95), np.minimum(108, sbp - 24))
    return sbp, dbp
