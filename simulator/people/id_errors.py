"""Identity numbers as typed: missing, another person's, placeholders, old 15-digit ones, slips, masks, widths."""

from __future__ import annotations

import csv
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.people.draw import Bools, Draw, Ints, choose
from simulator.people.naming import NAMES
from simulator.people.text import Codes, matrix, to_full_width
from simulator.profile import IdErrors

# Layout of a typed id: 6 digits, blank, 8 digits, blank, 4 characters, blank.
WIDTH = 21
_AT = np.array([0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19])
CHILD_YEARS = 14

KINDS = (
    "missing", "relative", "placeholder", "fifteen", "swapped", "wrong_digit", "lost", "masked", "borrowed_card",
    "missing_child", "guardian_child",
)  # fmt: skip
(
    _MISSING,
    _RELATIVE,
    _PLACEHOLDER,
    _FIFTEEN,
    _SWAPPED,
    _WRONG,
    _LOST,
    _MASKED,
    _BORROWED,
    _NO_CHILD,
    _GUARDIAN,
) = range(11)
TYPED_NOTHING = (_MISSING, _NO_CHILD)


@lru_cache(maxsize=4)
def placeholders(kind: str) -> Codes:
    """Committed list of what registrars type when there is nothing to type."""
    with (NAMES / "placeholders.csv").open(encoding="utf-8") as file:
        return matrix([r["value"] for r in csv.DictReader(file) if r["kind"] == kind], WIDTH)


def id_error_kinds(
    draw: Draw,
    rates: IdErrors,
    rows: Ints,
    archive: Bools,
    age: NDArray[np.float64],
    born_1900s: Bools,
    has_relative: Bools,
) -> Ints:
    """One kind of error per registration (-1 none). Children add missing ids and a guardian's; a 15-digit id
    needs a birth in the 1900s and a relative's id a relative, else the id is right."""
    child = age < CHILD_YEARS
    u = draw.uniform("id-error", rows)
    kind = np.full(len(rows), -1, dtype=np.int64)
    for is_archive in (False, True):
        for is_child in (False, True):
            missing = rates.missing_archive if is_archive else rates.missing_his
            shares = [
                missing, rates.relative, rates.placeholder, rates.fifteen, rates.swapped, rates.wrong_digit, rates.lost,
                rates.masked, rates.borrowed_card, rates.missing_child * is_child, rates.guardian_child * is_child,
            ]  # fmt: skip
            at = np.flatnonzero((archive == is_archive) & (child == is_child))
            drawn = choose(u[at], np.array([*shares, max(0.0, 1 - sum(shares))]))
            kind[at] = np.where(drawn == len(shares), -1, drawn)
    kind[(kind == _FIFTEEN) & ~born_1900s] = -1
    needs = (kind == _RELATIVE) | (kind == _BORROWED) | (kind == _GUARDIAN)
    kind[needs & ~has_relative] = -1
    return kind


def uses_relative(kind: Ints) -> Bools:
    """Rows whose id number is another person's."""
    return np.asarray((kind == _RELATIVE) | (kind == _BORROWED) | (kind == _GUARDIAN))


def uses_relatives_card(kind: Ints) -> Bools:
    """Rows on which insurance and health card are another person's too."""
    return np.asarray(kind == _BORROWED)


def type_ids(draw: Draw, rates: IdErrors, rows: Ints, true_ids: Codes, kind: Ints) -> Codes:
    """Id matrix as typed; ``true_ids`` already are a relative's where the kind says so."""
    typed = true_ids.copy()
    position = np.minimum(3 + draw.below("id-error/at", rows, 14), 16)
    u = draw.uniform("id-error/digit", rows)
    r = np.flatnonzero(kind == _SWAPPED)
    # Two equal neighbours cannot be seen to be swapped: go on to the next pair that differs, if there is one.
    for _ in range(6):  # retries, not records
        at = position[r]
        same = typed[r, at] == typed[r, at + 1]
        position[r[same]] = 3 + (position[r[same]] - 3 + 5) % 13
    at = position[r]
    typed[r, at], typed[r, at + 1] = typed[r, at + 1].copy(), typed[r, at].copy()
    r = np.flatnonzero(kind == _WRONG)
    typed[r, position[r]] = 48 + (typed[r, position[r]] - 48 + 1 + (u[r] * 9).astype(np.uint32)) % 10
    r = np.flatnonzero(kind == _LOST)
    typed[r, position[r]] = 0
    r = np.flatnonzero(kind == _MASKED)
    typed[r[:, None], np.arange(10, 14)] = ord("*")
    r = np.flatnonzero(kind == _FIFTEEN)
    typed[r[:, None], np.array([6, 7, 17])] = 0
    r = np.flatnonzero((typed[:, 17] == ord("X")) & draw.chance("id-error/lower", rows, rates.lower_x))
    typed[r, 17] = ord("x")

    out = np.zeros((len(rows), WIDTH), dtype=np.uint32)
    out[:, _AT] = typed
    r = np.flatnonzero(kind == _PLACEHOLDER)
    values = placeholders("id_no")
    out[r] = values[(u[r] * len(values)).astype(np.int64)]
    ok = kind != _PLACEHOLDER
    r = np.flatnonzero(ok & draw.chance("id-error/blank", rows, rates.blanks))
    style = draw.below("id-error/blank-kind", rows[r], 3)
    out[r[style == 0], 6] = 0x20
    out[r[style == 0], 15] = 0x20
    out[r[style == 1], 20] = 0x20
    out[r[style == 2], 20] = 0x3000
    r = np.flatnonzero(ok & draw.chance("id-error/width", rows, rates.full_width))
    out[r] = to_full_width(out[r])
    return out
