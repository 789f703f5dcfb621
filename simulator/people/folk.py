"""Residents as columns of small integers: the truth that everything else is rendered from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.people import identity
from simulator.people.ages import YEAR, age_pyramid, yearly_mortality
from simulator.people.draw import Bools, Draw, Floats, Ints
from simulator.people.families import STRANGER, Families, assemble
from simulator.people.naming import full_names
from simulator.people.places import places
from simulator.people.text import NO_DAY, Codes
from simulator.profile import Profile

HISTORY_DAYS = 1096  # moves, new phones and deaths happen in the three years before `as_of`


@dataclass
class Folk:
    """One position per resident; days are days since 1970-01-01, :data:`NO_DAY` means never.

    ``county`` counts through the city's counties, then the outside ones. ``station`` is the present
    home, ``old_station`` the one before ``moved_on``.
    """

    fam: Families
    as_of: int
    surname: NDArray[np.int16]
    given: Codes
    county: NDArray[np.int8]
    hukou_outside: Bools
    serial: NDArray[np.int16]
    station: NDArray[np.int16]
    old_station: NDArray[np.int16]
    moved_on: NDArray[np.int32]
    house: NDArray[np.int32]
    old_house: NDArray[np.int32]
    phone_owner: NDArray[np.int32]
    phone_changed_on: NDArray[np.int32]
    died_on: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.surname)

    def age_years(self, day: Ints | int, who: Ints | None = None) -> Floats:
        born = self.fam.born if who is None else self.fam.born[who]
        return np.asarray((day - born) / YEAR)

    def id_numbers(self, who: Ints) -> Codes:
        """True id numbers, 18 characters each."""
        here = places()
        county = np.array([int(c) for c in (*here.county_codes, *here.outside_codes)])
        return identity.id_numbers(county[self.county[who]], self.fam.born[who], self.serial[who])

    def phone(self, draw: Draw, who: Ints, day: Ints | int) -> Ints:
        """The number under which a resident is reached on a day: their own or a relative's; 0 if none."""
        owner = self.phone_owner[who].astype(np.int64)
        safe = np.maximum(owner, 0)
        numbers = identity.phone_numbers(draw, safe, day >= self.phone_changed_on[safe], len(self))
        # A change that never happened must not look like one in the distant past.
        never = self.phone_changed_on[safe] == NO_DAY
        before = identity.phone_numbers(draw, safe, np.zeros(len(safe), dtype=bool), len(self))
        return np.asarray(np.where(owner < 0, 0, np.where(never, before, numbers)))


def _stations(draw: Draw, topic: str, key: Ints) -> Ints:
    """A station per key: the centre by its share of the population, then a station of it."""
    here = places()
    weight = 0.5 + draw.uniform("place/station-weight", np.arange(len(here.station_codes)))
    by_centre = np.bincount(here.station_centre, weights=weight)
    return draw.weighted(
        topic, key, weight / by_centre[here.station_centre] * here.centre_share[here.station_centre]
    )


def _counties(draw: Draw, fam: Families, station: Ints, elsewhere: float) -> tuple[Ints, Bools]:
    """County in the id number, and whether the household is registered outside the city."""
    here = places()
    every = np.arange(len(station))
    inside, outside = len(here.county_codes), len(here.outside_codes)
    rural = here.centre_rural[here.station_centre[station]]
    away = draw.uniform("hukou/outside", fam.household) < elsewhere * np.where(rural, 0.5, 1.6)
    away |= fam.role == STRANGER
    home = here.centre_county[here.station_centre[station]]
    family = np.where(away, inside + draw.below("hukou/county", fam.household, outside), home)
    # Adults may have been born, and numbered, in another county; twins always share theirs.
    moved = draw.chance("hukou/born-elsewhere", every, 0.12) & (fam.role != 2)
    born_in = draw.below("hukou/born-in", every, inside + outside)
    return np.where(moved, born_in, family), away


def _phone_owners(draw: Draw, fam: Families, age: Floats) -> Ints:
    """Whose phone a resident gives: children a parent's, some of the old a child's or the head's."""
    every = np.arange(len(age))
    own = draw.uniform("phone/own", every) < np.interp(
        age, [10, 16, 19, 65, 72, 85], [0.0, 0.55, 0.98, 0.93, 0.72, 0.38]
    )
    parent = np.where(draw.chance("phone/mother", every, 0.65), fam.mother, fam.father)
    other = np.where((parent >= 0) & (age < 30), parent, np.where(fam.head != every, fam.head, fam.spouse))
    owner = np.where(own, every, other)
    # The other one must have a phone; otherwise there is none in the family.
    has = (owner >= 0) & own[np.maximum(owner, 0)]
    return np.where(has, owner, np.where(draw.chance("phone/none", every, 0.5), -1, every))


def make_folk(profile: Profile, residents: int, draw: Draw, as_of: int) -> Folk:
    """Everyone. Memory is about 250 bytes per resident at the peak."""
    rates = profile.people.structure
    every = np.arange(residents)
    born, female = age_pyramid(draw, every, as_of)
    # People who only pass through: an unknown patient is nobody's second record.
    passing = draw.chance("stranger", every, profile.people.registering.unknown_patient)
    strangers = passing & (as_of - born > 16 * YEAR)
    fam = assemble(draw, born, female, as_of, rates.twin_birth, strangers)

    here = places()
    station = _stations(draw, "place/home", fam.household)
    rural = here.centre_rural[here.station_centre[station]]
    clan = np.where(rural, rates.clan_share_rural, rates.clan_share_urban)
    surname, given = full_names(draw, fam, station, clan, rates.generation_character)
    county, away = _counties(draw, fam, station, rates.hukou_elsewhere)
    age = (as_of - fam.born) / YEAR

    def some_day(topic: str, key: Ints, happens: Bools) -> Ints:
        day = as_of - draw.below(topic, key, HISTORY_DAYS)
        return np.where(happens, day, NO_DAY)

    moved = draw.chance("move/happens", fam.household, rates.moved) & ~strangers
    moved_on = some_day("move/day", fam.household, moved)
    stays = draw.chance("move/same-centre", fam.household, 0.4)
    other = np.flatnonzero(moved)
    old_station = station.copy()
    candidates = _stations(draw, "move/from", fam.household[other])
    # Within the same centre: the neighbouring station in the register.
    neighbour = np.minimum(station[other] + 1, len(here.station_codes) - 1)
    old_station[other] = np.where(stays[other], neighbour, candidates)
    died = draw.uniform("death/happens", every) < np.minimum(
        yearly_mortality(age, fam.female) * HISTORY_DAYS / YEAR, 0.7
    )
    died &= ~strangers & (fam.born < as_of - HISTORY_DAYS)
    owner = _phone_owners(draw, fam, age)
    changed = draw.chance("phone/changes", every, rates.phone_changed)
    return Folk(
        fam=fam,
        as_of=as_of,
        surname=surname.astype(np.int16),
        given=given,
        county=county.astype(np.int8),
        hukou_outside=away,
        serial=identity.serial_numbers(county, fam.born, fam.female, fam.twin).astype(np.int16),
        station=station.astype(np.int16),
        old_station=old_station.astype(np.int16),
        moved_on=moved_on.astype(np.int32),
        house=(draw.below("place/house", fam.household, 380) * 8 + draw.below("place/room", fam.household, 8)).astype(np.int32),
        old_house=(draw.below("move/house", fam.household, 380) * 8 + draw.below("move/room", fam.household, 8)).astype(np.int32),
        phone_owner=owner.astype(np.int32),
        phone_changed_on=some_day("phone/day", every, changed).astype(np.int32),
        died_on=some_day("death/day", every, died).astype(np.int32),
    )  # fmt: skip
