"""Names as registrars type them: homophones, look-alikes, swapped, lost and masked characters."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.people.draw import Bools, Draw, Ints, choose
from simulator.people.naming import NAMES, given_names, name_lists
from simulator.people.text import Codes, matrix
from simulator.profile import NameErrors

# surname 0-1, blank 2, given 3-4, tail 5-7
WIDTH = 8
_GIVEN = 3
_BLANKS = np.array([0x20, 0x3000, 0x20, 0x00B7], dtype=np.uint32)
_SUFFIXES = matrix(["1", "2", "A", "(小)", "01"], 3)
_BABY = matrix(["之子", "之女", "之婴"], 2)


class Confusions:
    """For every known character the characters it may be taken for."""

    def __init__(self, groups: dict[str, list[str]]) -> None:
        known = sorted(groups)
        self._known = np.array([ord(c) for c in known], dtype=np.uint32)
        self._count = np.array([len(groups[c]) for c in known], dtype=np.int64)
        self._start = np.cumsum(self._count) - self._count
        self._other = np.array([ord(o) for c in known for o in groups[c]], dtype=np.uint32)

    def replace(self, codes: NDArray[np.uint32], u: NDArray[np.float64]) -> NDArray[np.uint32]:
        """Another character where one is known, else the same."""
        at = np.minimum(np.searchsorted(self._known, codes), len(self._known) - 1)
        hit = self._known[at] == codes
        pick = np.minimum(self._start[at] + (u * self._count[at]).astype(np.int64), len(self._other) - 1)
        return np.where(hit, self._other[pick], codes).astype(np.uint32)


@lru_cache(maxsize=1)
def homophones() -> Confusions:
    """Characters of the name lists that sound alike without tones; read with pypinyin, once per character."""
    from pypinyin import lazy_pinyin

    lists = name_lists()
    blocks = [
        lists.surnames.ravel(),
        lists.rare,
        *lists.characters.values(),
        *(w.ravel() for w in lists.whole.values()),
    ]
    universe = [chr(c) for c in np.unique(np.concatenate(blocks)) if c]
    by_sound: dict[str, list[str]] = {}
    for character in universe:
        by_sound.setdefault(lazy_pinyin(character)[0], []).append(character)
    return Confusions({c: [o for o in g if o != c] for g in by_sound.values() if len(g) > 1 for c in g})


@lru_cache(maxsize=1)
def look_alikes() -> Confusions:
    """Groups of the committed list ``names/lookalikes.txt``."""
    groups: dict[str, list[str]] = {}
    lines = (NAMES / "lookalikes.txt").read_text(encoding="utf-8").splitlines()
    for group in (g for line in lines if not line.startswith("#") for g in line.split()):
        for c in group:
            groups.setdefault(c, []).extend(o for o in group if o != c and o not in groups.get(c, []))
    return Confusions({c: others for c, others in groups.items() if others})


def clean_names(surname: NDArray[np.integer], given: Codes) -> Codes:
    """Name matrix without errors."""
    out = np.zeros((len(surname), WIDTH), dtype=np.uint32)
    out[:, 0:2] = name_lists().surnames[surname]
    out[:, _GIVEN : _GIVEN + 2] = given
    return out


def baby_names(mother: Codes, female: Bools, unsure: Bools) -> Codes:
    """A newborn without a name: the mother's name with 之子, 之女 or 之婴."""
    out = mother.copy()
    out[:, 5:7] = _BABY[np.where(unsure, 2, female.astype(np.int64))]
    return out


def spoil_names(
    draw: Draw, rates: NameErrors, rows: Ints, names: Codes, born_year: Ints, female: Bools, who: Ints
) -> NDArray[np.int64]:
    """Make errors in place; returns the kind per row (-1 none, else position in the order of the profile).

    ``rows`` are registration numbers: one registration keeps its error through all its versions.
    """
    shares = [
        rates.homophone,
        rates.lookalike,
        rates.swapped,
        rates.lost,
        rates.masked,
        rates.suffixed,
        rates.former_given,
    ]
    kind = choose(draw.uniform("name-error", rows), np.array([*shares, max(0.0, 1 - sum(shares))]))
    kind[kind == len(shares)] = -1
    # Mostly a given-name character, sometimes the surname.
    in_surname = draw.chance("name-error/surname", rows, 0.18)
    second = (names[:, _GIVEN + 1] != 0) & draw.chance("name-error/second", rows, 0.5)
    at = np.where(in_surname, 0, np.where(second, _GIVEN + 1, _GIVEN))
    u = draw.uniform("name-error/which", rows)
    for number, table in ((0, homophones), (1, look_alikes)):
        r = np.flatnonzero(kind == number)
        # The drawn place may have no such neighbour: then another character of the name, if any has.
        for place in (at, np.full_like(at, _GIVEN), np.full_like(at, _GIVEN + 1), np.zeros_like(at)):
            before = names[r, place[r]]
            after = table().replace(before, u[r])
            names[r, place[r]] = after
            r = r[after == before]
    long = names[:, _GIVEN + 1] != 0
    r = np.flatnonzero((kind == 2) & long)
    names[r, _GIVEN], names[r, _GIVEN + 1] = names[r, _GIVEN + 1].copy(), names[r, _GIVEN].copy()
    r = np.flatnonzero((kind == 3) & long)
    names[r, np.where(second[r], _GIVEN + 1, _GIVEN)] = 0
    r = np.flatnonzero(kind == 4)
    names[r, _GIVEN] = ord("*")
    r = np.flatnonzero(kind == 5)
    names[r, 5:8] = _SUFFIXES[(u[r] * len(_SUFFIXES)).astype(np.int64)]
    r = np.flatnonzero(kind == 6)
    if len(r):
        names[r, _GIVEN : _GIVEN + 2] = given_names(draw, "name/former", who[r], born_year[r], female[r])
    r = np.flatnonzero(draw.chance("name-error/blank", rows, rates.blanks))
    names[r, 2] = _BLANKS[draw.below("name-error/blank-kind", rows[r], len(_BLANKS))]
    return kind
