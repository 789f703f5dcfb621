"""Social attributes, blood groups and card numbers of residents (codes of ``dbt/seeds/codes``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simulator.people.draw import Draw, Floats, Ints, choose
from simulator.people.families import STRANGER
from simulator.people.folk import Folk
from simulator.people.identity import card_numbers
from simulator.people.places import places
from simulator.people.text import Codes, lookup

ETHNICITY = ("01", "15", "03", "06", "11", "02", "08", "12")
_ETHNIC_SHARE = np.array([0.948, 0.027, 0.009, 0.006, 0.004, 0.002, 0.002, 0.002])
EDUCATION = ("10", "20", "30", "40", "60", "70", "80", "90")
# Highest level reached, by year of birth of adults; rows are 1925, 1945, 1960, 1975, 1990, 2005.
_EDUCATION_YEARS = np.array([1925, 1945, 1960, 1975, 1990, 2005])
_EDUCATION_SHARE = np.array(
    [
        [0.00, 0.01, 0.01, 0.02, 0.04, 0.12, 0.40, 0.40],
        [0.00, 0.02, 0.03, 0.03, 0.08, 0.24, 0.44, 0.16],
        [0.00, 0.03, 0.05, 0.05, 0.17, 0.43, 0.23, 0.04],
        [0.01, 0.09, 0.11, 0.10, 0.14, 0.43, 0.11, 0.01],
        [0.04, 0.24, 0.22, 0.14, 0.12, 0.21, 0.03, 0.00],
        [0.06, 0.36, 0.24, 0.14, 0.13, 0.06, 0.01, 0.00],
    ]
)
OCCUPATION = ("11", "13", "17", "21", "24", "27", "31", "37", "51", "54", "70", "80", "90")
_WORK_URBAN = np.array([0.03, 0.14, 0.16, 0.05, 0.22, 0.03, 0, 0.002, 0.14, 0.13, 0.07, 0, 0.03])
_WORK_RURAL = np.array([0.01, 0.05, 0.05, 0.01, 0.22, 0.40, 0, 0.002, 0.11, 0.08, 0.04, 0, 0.03])
MARITAL = ("10", "21", "20", "22", "30", "40")
ABO = ("1", "2", "3", "4", "5", "6")  # A, B, O, AB, unknown, not tested
RH = ("1", "2", "3", "4")  # negative, positive, unknown, not tested
_LISTS = {
    "ethnicity": ETHNICITY,
    "education": EDUCATION,
    "occupation": OCCUPATION,
    "marital": MARITAL,
    "abo": ABO,
    "rh": RH,
}


@dataclass
class Attributes:
    """Positions in the code lists above, one byte per resident and attribute."""

    draw: Draw
    folk: Folk
    codes: dict[str, NDArray[np.int8]]

    def text(self, name: str, who: Ints) -> pa.Array:
        return lookup(_LISTS[name], self.codes[name][who])

    def card_texts(self, who: Ints) -> tuple[Codes, Codes]:
        """Health card (18 characters) and insurance number (14 digits)."""
        return (
            card_numbers(self.draw, "health", who, 14, "EHC4"),
            card_numbers(self.draw, "insurance", who, 10, "4297"),
        )

    def hukou_texts(self, who: Ints) -> pa.Array:
        """Village code of the household register, or the six-digit county outside the city."""
        here, folk = places(), self.folk
        inside, stations = len(here.county_codes), len(here.station_regions)
        family_county = folk.county[folk.fam.head[who]].astype(np.int64)
        outside = stations + np.maximum(family_county - inside, 0)
        return lookup(
            [*here.station_regions, *here.outside_codes],
            np.where(folk.hukou_outside[who], outside, folk.old_station[who]),
        )


def _education(draw: Draw, who: Ints, born_year: Ints, age: Floats, rural: NDArray[np.bool_]) -> Ints:
    """Adults by cohort (lower in the country), pupils what they have finished so far."""
    u = draw.uniform("education", who)
    u = np.where(rural, u**0.75, u)
    level = np.zeros(len(who), dtype=np.int64)
    group = np.clip(
        np.searchsorted(_EDUCATION_YEARS, born_year, side="right") - 1, 0, len(_EDUCATION_YEARS) - 1
    )
    for g in range(len(_EDUCATION_YEARS)):  # six groups
        at = np.flatnonzero(group == g)
        level[at] = choose(u[at], _EDUCATION_SHARE[g])
    finished = np.searchsorted(np.array([12, 15, 18, 22, 25]), age, side="right")
    at_best = np.array([7, 6, 5, 4, 1, 0])[finished]
    return np.maximum(level, at_best)


def _blood(draw: Draw, folk: Folk) -> tuple[Ints, Ints]:
    """ABO from two inherited alleles (0 O, 1 A, 2 B); Rh negative in 3 of 1,000; many archives do not know."""
    every, fam = np.arange(len(folk)), folk.fam
    share = np.array([0.56, 0.235, 0.205])
    alleles = np.stack([draw.weighted(f"blood/{k}", every, share) for k in (0, 1)])
    # Grandparents' alleles would have to be chosen first; children of couples inherit from both parents.
    child = np.flatnonzero((fam.role == 2) & (fam.mother >= 0) & (fam.father >= 0))
    for k, parent in ((0, fam.mother[child]), (1, fam.father[child])):
        alleles[k, child] = alleles[draw.below(f"blood/from-{k}", child, 2), parent]
    has_a, has_b = (alleles == 1).any(axis=0), (alleles == 2).any(axis=0)
    abo = np.where(has_a & has_b, 3, np.where(has_a, 0, np.where(has_b, 1, 2)))
    u = draw.uniform("blood/known", every)
    abo = np.where(u < 0.30, 4, np.where(u < 0.45, 5, abo))
    rh = np.where(draw.chance("blood/rh", every, 0.003), 0, 1)
    return abo, np.where(u < 0.35, 2, np.where(u < 0.50, 3, rh))


def make_attributes(folk: Folk, draw: Draw) -> Attributes:
    """Attributes of everyone as of ``folk.as_of``."""
    every, fam, here = np.arange(len(folk)), folk.fam, places()
    age = folk.age_years(folk.as_of)
    year = fam.born.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    rural = here.centre_rural[here.station_centre[folk.station]]
    # One ethnic group per household's male line, as far as the head goes.
    ethnicity = draw.weighted("ethnicity", fam.head, _ETHNIC_SHARE)
    ethnicity = np.where(fam.role == 1, draw.weighted("ethnicity", every, _ETHNIC_SHARE), ethnicity)
    education = _education(draw, every, year, age, rural)
    work = np.where(
        rural,
        draw.weighted("work/rural", every, _WORK_RURAL),
        draw.weighted("work/urban", every, _WORK_URBAN),
    )
    retired = np.where(rural & draw.chance("work/still", every, 0.75), 5, 11)
    pension_age = np.where(fam.female, 55, 60)
    occupation = np.where(age < 6.5, 12, np.where((age < 18) | ((age < 22) & (education <= 2)), 6, work))
    occupation = np.where(age >= pension_age, retired, occupation)
    married = fam.spouse >= 0
    again = draw.uniform("marital", every)
    alone = np.where(
        age > 55,
        np.where(again < 0.82, 4, np.where(again < 0.92, 5, 0)),
        np.where((age > 28) & (again < 0.22), 5, 0),
    )
    with_spouse = np.where(again < 0.55, 1, np.where(again < 0.96, 2, 3))
    marital = np.where(
        married, with_spouse, np.where(fam.role == 2, np.where((age > 30) & (again < 0.1), 5, 0), alone)
    )
    marital = np.where(fam.role == STRANGER, 0, marital)
    abo, rh = _blood(draw, folk)
    codes = {
        "ethnicity": ethnicity, "education": education, "occupation": occupation, "marital": marital, "abo": abo, "rh": rh,
    }  # fmt: skip
    return Attributes(draw, folk, {name: values.astype(np.int8) for name, values in codes.items()})
