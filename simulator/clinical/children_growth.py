"""Weight, length and head circumference by age: each child keeps its own distance from the median."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np

Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@cache
def _curves() -> dict[tuple[str, int], Curve]:
    """(measure, sex) -> age in days, L, M, S (``growth.csv``; WHO 2006, and 2007 beyond five years)."""
    with (Path(__file__).parent / "growth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    out = {}
    for key in {(r["measure"], int(r["sex_code"])) for r in rows}:
        mine = [r for r in rows if (r["measure"], int(r["sex_code"])) == key]
        age, lam, mu, sigma = (np.array([float(r[n]) for r in mine]) for n in ("age_days", "l", "m", "s"))
        out[key] = (age, lam, mu, sigma)
    return out


def measured(measure: str, sex: np.ndarray, age_days: np.ndarray, z: np.ndarray) -> np.ndarray:
    """kg or cm of children ``z`` standard deviations from the median of their age and sex (LMS method)."""
    out = np.zeros(len(age_days))
    for code in (1, 2):
        rows = np.flatnonzero(sex == code)
        age, lam, mu, sigma = _curves()[measure, code]
        at = age_days[rows].astype("float64")
        low, mid, wide = (np.interp(at, age, v) for v in (lam, mu, sigma))
        out[rows] = mid * np.power(1 + low * wide * z[rows], 1 / low)
    return out
