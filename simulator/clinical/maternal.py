"""Pregnancies: those that ended in a birth within the window, and those that still last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.children import Births, Children
from simulator.clinical.draw import NO_DAY, age_on, to_days
from simulator.clinical.served import Served, after_weekend, family, span

BOOKED_BY = 75  # days after the last period on which a woman has an archive if she is to be booked in time
APART = 30  # least days between a birth and the next last period


@dataclass(frozen=True)
class Pregnancies:
    """One entry per pregnancy. ``leader``: first child of the birth (-1 and ``born`` NaT while it lasts)."""

    mother: np.ndarray
    lmp: np.ndarray
    born: np.ndarray
    leader: np.ndarray
    carded: np.ndarray

    def __len__(self) -> int:
        return len(self.mother)


def _delivered(kids: Children, births: Births, served: Served) -> np.ndarray:
    """Residents who led a birth that the programme has on record.

    Their card is there by the last delivery, or they are so young that none is due: every other birth took place
    elsewhere. The programme keeps no record of it.
    """
    birth = served.cohort.birth
    on_card = np.zeros(len(birth), dtype=bool)
    on_card[kids.who] = (kids.carded <= np.datetime64(served.window.end)) & (births.mother[kids.who] >= 0)
    led = np.zeros(len(birth), dtype=bool)
    led[births.leader[on_card]] = True
    newborn = (birth >= served.horizon - 45) & (birth <= served.horizon) & np.isnat(served.cohort.death)
    who = np.flatnonzero((led | (newborn & (births.leader == np.arange(len(birth))))) & (births.mother >= 0))
    mother = births.mother[who]
    lmp = birth[who] - births.gest_days[who].astype("timedelta64[D]")
    fits = (birth[who] >= served.begin) & (served.opened[mother] <= lmp + BOOKED_BY)
    fits &= np.isnat(served.cohort.death[mother])
    who, mother, lmp = who[fits], mother[fits], lmp[fits]
    order = np.lexsort((birth[who], mother))
    who, mother, lmp = who[order], mother[order], lmp[order]
    # A pregnancy that began before the one before it could have ended is not on record.
    close = (
        np.r_[False, (mother[1:] == mother[:-1]) & (lmp[1:] < birth[who[:-1]] + APART)]
        if len(who)
        else fits[:0]
    )
    result: np.ndarray = who[~close]
    return result


def _prescribed(world: Mapping[str, pa.Table], served: Served, size: int) -> np.ndarray:
    """Per resident the last day, long enough ago for a booking, of a drug that is forbidden in pregnancy (NaT: none)."""
    rows = world["prescription_item"]
    pattern = "^(" + "|".join(family()["maternal"]["forbidden"]) + ")"
    rows = rows.filter(pc.match_substring_regex(rows["drug_code"], pattern))
    who = rows["resident"].to_numpy()
    day = to_days(rows["rx_at"].cast(pa.date32()))
    fits = (day <= served.history_end - 70) & (day > served.history_end - 190)
    last = np.full(size, np.datetime64("1900-01-01"))
    np.maximum.at(last, who[fits], day[fits])
    result: np.ndarray = np.where(last > np.datetime64("1900-01-01"), last, NO_DAY)
    return result


def make_pregnancies(
    kids: Children, births: Births, served: Served, world: Mapping[str, pa.Table], rng: np.random.Generator
) -> Pregnancies:
    """Births on record, and as many lasting pregnancies as the birth rate asks for.

    Some of the women who expect a child were prescribed a drug that is forbidden in pregnancy a few weeks after
    their last period: nobody had asked.
    """
    leader = _delivered(kids, births, served)
    mother, born = births.mother[leader], served.cohort.birth[leader]
    lmp = born - births.gest_days[leader].astype("timedelta64[D]")

    end = np.datetime64(served.window.end)
    years = max((served.history_end - served.begin).astype("int64") / 365.25, 0.5)
    wanted = max(round(len(leader) / years * 0.6), 4)
    size = len(served.birth)
    last_birth = np.full(size, np.datetime64("1900-01-01"))
    np.maximum.at(last_birth, births.mother[births.mother >= 0], served.cohort.birth[births.mother >= 0])
    age = age_on(served.birth, np.full(size, end))
    able = served.sound & (served.cohort.sex == 2) & (age >= 20) & (age < 40) & np.isnat(served.cohort.death)
    able &= (last_birth < end - 420) & (served.opened <= end - 270)
    rx = _prescribed(world, served, size)
    asked = rng.permutation(np.flatnonzero(able & ~np.isnat(rx)))[: max(wanted // 8, 2)]
    others = rng.permutation(np.setdiff1d(np.flatnonzero(able), asked))[: max(wanted - len(asked), 0)]
    expecting = np.concatenate([asked, others])
    since = np.concatenate([rx[asked] - span(rng, 14, 40, len(asked)), end - span(rng, 60, 250, len(others))])

    every, began = np.concatenate([mother, expecting]), np.concatenate([lmp, since])
    # Booked from the seventh to the twelfth week, so in the first trimester as the norm asks.
    carded = after_weekend(np.maximum(began + span(rng, 43, 80, len(every)), served.opened[every]))
    return Pregnancies(
        every, began, np.concatenate([born, np.full(len(expecting), NO_DAY)]),
        np.concatenate([leader, np.full(len(expecting), -1)]), carded,
    )  # fmt: skip


def describe(preg: Pregnancies, births: Births) -> dict[str, Any]:
    """Children of each birth and weeks at its end; zero and NaN while the pregnancy lasts."""
    at = np.maximum(preg.leader, 0)
    done = preg.leader >= 0
    return {
        "fetuses": np.where(done, 1 + births.twin[at], 1), "stay": births.stay[at].astype("timedelta64[D]"),
        "weeks": np.where(done, births.weeks[at], np.nan), "second": births.second[at].astype("timedelta64[s]"),
    }  # fmt: skip
