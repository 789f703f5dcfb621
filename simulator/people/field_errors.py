"""Birth dates, sex and phones as registered."""

from __future__ import annotations

import numpy as np

from simulator.people.draw import Bools, Draw, Floats, Ints, choose
from simulator.people.id_errors import placeholders
from simulator.people.lunar import lunar_as_solar
from simulator.people.text import NO_DAY, Codes, digits
from simulator.profile import FieldErrors

PHONE_WIDTH = 21
BIRTH_KINDS = ("missing", "lunar", "year_only", "slip")


def _january_first(days: Ints) -> Ints:
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)


def _slipped(days: Ints, style: Ints) -> Ints:
    """A year or ten days too many or too few, or day and month exchanged where that is a date."""
    day = days.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    year_start = day.astype("datetime64[Y]").astype("datetime64[M]")
    of_month = (day - month.astype("datetime64[D]")).astype(np.int64)  # 0-based
    month_number = (month - year_start).astype(np.int64)  # 0-based
    exchanged = (year_start + of_month).astype("datetime64[D]").astype(np.int64) + month_number
    can = (of_month < 12) & (of_month != month_number)
    shift = np.array([365, -365, 10, -10, 1, 365])[style]
    return np.where((style >= 5) & can, exchanged, days + shift)


def birth_dates(
    draw: Draw, rates: FieldErrors, rows: Ints, born: Ints, age: Floats, unknown: Bools
) -> tuple[Ints, Ints]:
    """Registered day of birth (:data:`NO_DAY` missing) and kind of error (-1 none).

    Lunar dates come from people over 40, year-only dates from people over 60; the birth date of an
    unknown patient is a guessed year.
    """
    shares = np.array([rates.birth_missing, rates.birth_lunar, rates.birth_year_only, rates.birth_slip])
    kind = choose(draw.uniform("birth-error", rows), np.array([*shares, max(0.0, 1 - shares.sum())]))
    kind[kind == len(shares)] = -1
    kind[(kind == 1) & (age < 40)] = -1
    kind[(kind == 2) & (age < 60)] = -1
    style = draw.below("birth-error/style", rows, 8)
    out = born.copy()
    lunar = kind == 1
    out[lunar] = lunar_as_solar(born[lunar])
    out[kind == 2] = _january_first(born[kind == 2])
    slip = kind == 3
    out[slip] = _slipped(born[slip], np.minimum(style[slip], 5))
    guess = born + (draw.below("birth-error/guess", rows, 7) - 3) * 365
    out[unknown] = _january_first(guess[unknown])
    kind[unknown] = 2
    out[kind == 0] = NO_DAY
    return out, kind


def sex_codes(draw: Draw, rates: FieldErrors, rows: Ints, female: Bools) -> Ints:
    """GB/T 2261.1 code as registered: 1 male, 2 female, 0 unknown."""
    u = draw.uniform("sex-error", rows)
    seen = np.where(u < rates.sex_wrong, ~female, female)
    code = np.where(seen, 2, 1)
    return np.asarray(np.where((u >= rates.sex_wrong) & (u < rates.sex_wrong + rates.sex_unknown), 0, code))


def type_phones(draw: Draw, rates: FieldErrors, rows: Ints, number: Ints) -> Codes:
    """Phone matrix; a row of zeros where no number was given. ``number`` 0 means the person has none."""
    codes = digits(number, 11)
    out = np.zeros((len(rows), PHONE_WIDTH), dtype=np.uint32)
    u = draw.uniform("phone-error", rows)
    at = draw.below("phone-error/at", rows, 8) + 3
    slip = np.flatnonzero(u < rates.phone_slip)
    codes[slip, at[slip]] = (
        48 + (codes[slip, at[slip]] - 48 + 1 + draw.below("phone-error/digit", rows[slip], 9)) % 10
    )
    lost = slip[draw.chance("phone-error/lost", rows[slip], 0.2)]
    codes[lost, at[lost]] = 0
    out[:, :11] = codes
    filler = np.flatnonzero((u >= rates.phone_slip) & (u < rates.phone_slip + rates.phone_placeholder))
    values = placeholders("phone")
    out[filler] = values[draw.below("phone-error/filler", rows[filler], len(values))]
    gone = (number == 0) | draw.chance("phone-error/missing", rows, rates.phone_missing)
    gone[filler] = False
    out[gone] = 0
    return out
