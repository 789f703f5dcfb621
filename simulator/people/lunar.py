"""The Chinese lunar calendar, as far as birthdays need it."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TABLE = Path(__file__).resolve().parents[1] / "names" / "lunar_months.csv"


@lru_cache(maxsize=1)
def _months() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    with _TABLE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    start = np.array([r["month_start"] for r in rows], dtype="datetime64[D]").astype(np.int64)
    return (
        start,
        np.array([int(r["lunar_year"]) for r in rows]),
        np.array([int(r["lunar_month"]) for r in rows]),
    )


def lunar_as_solar(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lunar date of each day, written down as if it were a solar one.

    Such a date lies 19 to 55 days before the true one (1920-2026). A 30th of the second month becomes the last
    day of February. Days before 1899-01-12 are returned unchanged.
    """
    start, year, month = _months()
    at = np.searchsorted(start, days, side="right") - 1
    inside = at >= 0
    at = np.maximum(at, 0)
    first = ((year[at] - 1970) * 12 + month[at] - 1).astype("datetime64[M]")
    length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
    day = np.minimum(days - start[at], length - 1)
    return np.asarray(np.where(inside, first.astype("datetime64[D]").astype(np.int64) + day, days))
