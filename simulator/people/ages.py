"""Age pyramid of the city."""

from __future__ import annotations

import numpy as np

from simulator.people.draw import Bools, Draw, Floats, Ints

YEAR = 365.2425

# Share of the population (per cent) per five-year band 0-4, 5-9, ... 100-104: the 2020 census profile of
# central China moved on by six years and rounded; 14.5 % are 65 or older.
BAND_SHARE = np.array(
    [
        3.9,
        5.6,
        6.6,
        5.8,
        5.2,
        5.4,
        7.0,
        8.4,
        7.0,
        6.8,
        8.3,
        8.6,
        6.9,
        5.0,
        4.3,
        2.6,
        1.5,
        0.75,
        0.25,
        0.05,
        0.005,
    ]
)
# Men per woman at the middle of some ages: a surplus of boys, then women outlive men.
_SEX_AGES = np.array([2.5, 12.5, 25.0, 40.0, 55.0, 65.0, 75.0, 85.0, 95.0])
_SEX_RATIO = np.array([1.10, 1.15, 1.10, 1.04, 1.01, 0.97, 0.88, 0.68, 0.45])


def age_pyramid(draw: Draw, who: Ints, as_of: int) -> tuple[Ints, Bools]:
    """Day of birth (days since 1970-01-01, never after ``as_of``) and whether female."""
    band = draw.weighted("age/band", who, BAND_SHARE)
    age_days = (band + draw.uniform("age/within", who)) * (5 * YEAR)
    born = as_of - np.floor(age_days).astype(np.int64)
    ratio = np.interp(age_days / YEAR, _SEX_AGES, _SEX_RATIO)
    female = draw.uniform("sex", who) >= ratio / (1.0 + ratio)
    return born, female


def yearly_mortality(age_years: Floats, female: Bools) -> Floats:
    """Gompertz hazard per year (doubling about every eight years), a small floor, women at 60 % of men's."""
    hazard = 0.0003 + 0.000045 * np.exp(0.089 * age_years)
    return np.asarray(np.minimum(hazard * np.where(female, 0.6, 1.0), 0.6))
