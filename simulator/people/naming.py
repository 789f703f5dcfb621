"""Names of residents: surname lines, village clans, given names by sex and year of birth."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.people.draw import Draw, Floats, Ints, choose
from simulator.people.families import Families
from simulator.people.text import Codes, matrix

NAMES = Path(__file__).resolve().parents[1] / "names"
COHORTS = np.array([1900, 1950, 1970, 1985, 2000, 2010])
# Share of one-character given names and of names from the list of frequent whole names, per cohort.
_SINGLE = np.array([0.08, 0.16, 0.30, 0.36, 0.22, 0.08])
_WHOLE = np.array([0.10, 0.11, 0.08, 0.08, 0.09, 0.12])
_RARE = 0.16
SURNAME_WIDTH, GIVEN_WIDTH = 2, 2


def _rows(name: str) -> list[dict[str, str]]:
    with (NAMES / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class NameLists:
    """Surnames with shares; characters and whole given names per (cohort year, sex, place)."""

    surnames: Codes
    surname_share: Floats
    characters: dict[tuple[int, int, str], NDArray[np.uint32]]
    whole: dict[tuple[int, int], Codes]
    rare: NDArray[np.uint32]


@lru_cache(maxsize=1)
def name_lists() -> NameLists:
    surnames = _rows("surnames.csv")
    characters: dict[tuple[int, int, str], NDArray[np.uint32]] = {}
    for row in _rows("given_chars.csv"):
        distinct = "".join(dict.fromkeys(row["characters"]))
        characters[int(row["cohort_from"]), int(row["sex"]), row["place"]] = matrix([distinct])[0]
    whole = {
        (int(r["cohort_from"]), int(r["sex"])): matrix(list(dict.fromkeys(r["names"].split())), GIVEN_WIDTH)
        for r in _rows("given_whole.csv")
    }
    return NameLists(
        matrix([r["surname"] for r in surnames], SURNAME_WIDTH),
        np.array([float(r["share_pct"]) for r in surnames]),
        characters,
        whole,
        characters.pop((1900, 0, "rare")),
    )


def _falling(size: int) -> Floats:
    """Weights of a list written in falling frequency."""
    return np.asarray(1.0 / (np.arange(size) + 14.0))


def surname_index(draw: Draw, fam: Families, station: Ints, clan_share: Floats) -> Ints:
    """Surname per resident: villages have clans, children take the father's name (4 % the mother's)."""
    every = np.arange(len(station))
    share = name_lists().surname_share
    surname = draw.weighted("name/surname", every, share)
    clan_rank = draw.weighted("name/clan-rank", every, np.array([5.0, 2.5, 1.5]))
    clan = draw.weighted("name/clan-of-station", station * 3 + clan_rank, share)
    # Wives marry in: fewer of them carry a name of the village.
    belongs = draw.chance("name/in-clan", every, clan_share * np.where(fam.female, 0.35, 1.0))
    surname = np.where(belongs, clan, surname)
    # The grandfather's name is his son's (or daughter's); only then do the children inherit.
    grown = np.flatnonzero((fam.father >= 0) & (fam.role != 2))
    surname[fam.father[grown]] = surname[grown]
    child = np.flatnonzero((fam.father >= 0) & (fam.role == 2))
    eldest = np.where(fam.twin[child] >= 0, np.minimum(child, fam.twin[child]), child)
    from_mother = draw.chance("name/from-mother", eldest, 0.04)
    surname[child] = np.where(from_mother, surname[fam.mother[child]], surname[fam.father[child]])
    return surname


def given_names(draw: Draw, topic: str, who: Ints, born_year: Ints, female: NDArray[np.bool_]) -> Codes:
    """Two code points per resident (the second 0 in one-character names)."""
    lists = name_lists()
    out = np.zeros((len(who), GIVEN_WIDTH), dtype=np.uint32)
    cohort = np.searchsorted(COHORTS, born_year, side="right") - 1
    kind, first, second = (draw.uniform(f"{topic}/{part}", who) for part in ("kind", "first", "second"))
    rare_first = draw.uniform(f"{topic}/rare-first", who)
    rare_second = draw.uniform(f"{topic}/rare-second", who)
    for number, year in enumerate(COHORTS.tolist()):  # twelve groups, not records
        for sex in (1, 2):
            at = np.flatnonzero((cohort == number) & (female == (sex == 2)))
            is_whole = kind[at] < _WHOLE[number]
            whole = lists.whole[year, sex]
            out[at[is_whole]] = whole[choose(first[at[is_whole]], _falling(len(whole)))]
            is_single = kind[at] >= 1 - _SINGLE[number]
            for place, mask, draws, rare in (
                ("single", is_single, first, rare_first),
                ("first", ~is_whole & ~is_single, first, rare_first),
                ("second", ~is_whole & ~is_single, second, rare_second),
            ):
                rows = at[mask]
                options = lists.characters[year, sex, place]
                picked = options[choose(draws[rows], _falling(len(options)))]
                share = _RARE * (1.8 if place == "single" else 1.0)
                unusual = rare[rows] < share
                picked[unusual] = lists.rare[(rare[rows][unusual] / share * len(lists.rare)).astype(np.int64)]
                out[rows, 1 if place == "second" else 0] = picked
    return out


def full_names(
    draw: Draw, fam: Families, station: Ints, clan_share: Floats, generation: float
) -> tuple[Ints, Codes]:
    """Surname index and given name of everyone, with generation characters of clans, siblings and twins."""
    every = np.arange(len(station))
    year = fam.born.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    surname = surname_index(draw, fam, station, clan_share)
    given = given_names(draw, "name/given", every, year, fam.female)
    long = given[:, 1] != 0
    # Men of one clan and generation share the first character.
    clan_key = (station * 1000 + surname) * 10 + np.clip((year - 1900) // 22, 0, 9)
    follows = (
        long & ~fam.female & (year < 1995) & (draw.uniform("name/follows", every) < generation * clan_share)
    )
    shared = name_lists().characters[1950, 1, "first"]
    given[follows, 0] = shared[draw.below("name/generation", clan_key[follows], len(shared))]
    # Siblings (by mother) often share it too, twins nearly always; twins never have one and the same name.
    has_mother = fam.mother >= 0
    sibling = has_mother & long & draw.chance("name/sibling", every, 0.22)
    mother = fam.mother[sibling]
    like = given_names(draw, "name/siblings", mother, year[sibling], fam.female[sibling])
    given[sibling, 0] = like[:, 0]
    second = np.flatnonzero((fam.twin >= 0) & (fam.twin < every))
    first = fam.twin[second]
    both = draw.chance("name/twin", second, 0.8) & long[first] & long[second]
    given[second[both], 0] = given[first[both], 0]
    same = second[(given[second] == given[first]).all(axis=1)]
    rare = name_lists().rare
    given[same, 1] = rare[draw.below("name/twin-other", same, len(rare))]
    return surname, given
