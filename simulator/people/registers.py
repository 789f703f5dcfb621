"""Which systems and institutions know which resident, since when, and under which local number."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lake.errors import MedlakeError
from simulator.people.ages import YEAR
from simulator.people.draw import Bools, Draw, Floats, Ints
from simulator.people.families import STRANGER
from simulator.people.folk import Folk
from simulator.people.places import places
from simulator.people.text import NO_DAY
from simulator.profile import Profile

HIS, PUBLIC_HEALTH, LIS, PACS = range(4)
SYSTEMS = ("his", "public_health", "lis", "pacs")
ARCHIVES_BEGIN = int(np.datetime64("2010-01-01").astype(np.int64))
HIS_DAYS = 4 * 365
MAX_SERIAL = 99_999  # five digits of the archive number
RECENT_DAYS = 1096
_CARE_AGES = np.array([0, 4, 8, 18, 30, 45, 60, 70, 85])
_CARE = np.array([1.5, 1.3, 0.8, 0.6, 0.8, 0.9, 1.2, 1.45, 1.35])


@dataclass
class Registers:
    """One position per registration, ordered by resident. ``number`` counts within the institution.

    ``updated_on`` is :data:`NO_DAY` where the row was never touched again. ``station`` is the archive's
    village (-1 elsewhere), ``mother_row`` the position of the mother's registration (newborns, else -1).
    """

    resident: NDArray[np.int32]
    system: NDArray[np.int8]
    org: NDArray[np.int8]
    station: NDArray[np.int16]
    registered_on: NDArray[np.int32]
    updated_on: NDArray[np.int32]
    duplicate: Bools
    number: NDArray[np.int32]
    archive_serial: NDArray[np.int32]
    mother_row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.resident)

    def at(self, rows: Ints) -> Registers:
        """These registrations (``mother_row`` keeps counting in the whole)."""
        return Registers(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass
class _Batch:
    """Registrations of one origin before they are numbered."""

    who: Ints
    system: int
    org: Ints
    day: Ints
    station: Ints | None = None
    duplicate: Bools | None = None


def _chosen(draw: Draw, topic: str, folk: Folk, rate: Floats | float, eligible: Bools) -> Ints:
    every = np.arange(len(folk))
    return np.flatnonzero(eligible & (draw.uniform(topic, every) < rate))


def _archives(draw: Draw, folk: Folk, profile: Profile, settled: Bools) -> list[_Batch]:
    """Health archives: most from the campaign years, the rest recent; some residents have a second one."""
    rates, here = profile.people.registering, places()

    def opened(topic: str, who: Ints) -> Ints:
        recent = draw.chance(f"{topic}/recent", who, 0.14)
        u = draw.uniform(f"{topic}/day", who)
        split = folk.as_of - RECENT_DAYS
        day = np.where(recent, split + u * RECENT_DAYS, ARCHIVES_BEGIN + u * (split - ARCHIVES_BEGIN))
        # Never before the child is a month old.
        after_birth = folk.fam.born[who] + 28 + 90 * draw.uniform(f"{topic}/after-birth", who)
        return np.maximum(day, after_birth).astype(np.int64)

    who = _chosen(draw, "archive/has", folk, rates.archive, settled)
    day = opened("archive", who)
    # A family that moved later often leaves its archive where it was.
    left_behind = (folk.moved_on[who] > day) & draw.chance("archive/left", folk.fam.household[who], 0.5)
    station = np.where(left_behind, folk.old_station[who], folk.station[who]).astype(np.int64)
    first = _Batch(who, PUBLIC_HEALTH, here.centre_org[here.station_centre[station]], day, station)

    twice = who[draw.chance("archive/second", who, rates.archive_second)]
    before = folk.old_station[twice].astype(np.int64)
    away = draw.below("archive/second-station", twice, len(here.station_codes))
    main = station[np.searchsorted(who, twice)]
    centre = here.station_centre
    other = np.where(centre[before] != centre[main], before, away)
    other = np.where(centre[other] == centre[main], (other + 25) % len(centre), other)
    second = _Batch(
        twice,
        PUBLIC_HEALTH,
        here.centre_org[centre[other]],
        opened("archive/second", twice),
        other,
        np.ones(len(twice), dtype=bool),
    )
    return [first, second]


def _hospitals(draw: Draw, folk: Folk, profile: Profile, settled: Bools) -> list[_Batch]:
    """Hospital and centre registrations, weighted by home and age; newborns and their mothers; strays."""
    rates, here = profile.people.registering, places()
    centre = here.station_centre[folk.station]
    age = folk.age_years(folk.as_of)
    care = np.interp(age, _CARE_AGES, _CARE)
    hospitals = len(here.orgs) - len(here.centre_codes)
    own, parent = here.centre_org[centre], here.centre_hospital[centre]

    def some_day(topic: str, who: Ints) -> Ints:
        day = folk.as_of - draw.below(f"{topic}/day", who, HIS_DAYS)
        return np.maximum(day, folk.fam.born[who])

    def batch(topic: str, rate: float, org: Ints | None, system: int = HIS, by_age: bool = True) -> _Batch:
        who = _chosen(draw, topic, folk, rate * care if by_age else rate, settled)
        if org is None:
            low, high = (1, hospitals) if "hospital" in topic else (hospitals, len(here.orgs))
            at = low + draw.below(f"{topic}/org", who, high - low)
        else:
            at = org[who]
        return _Batch(who, system, at, some_day(topic, who))

    lead = np.zeros(len(folk), dtype=np.int64)
    out = [
        batch("his/lead", rates.lead_hospital, lead),
        batch("his/county", rates.county_hospital, parent),
        batch("his/other-hospital", rates.other_hospital, None),
        batch("his/centre", rates.own_centre, own),
        batch("his/other-centre", rates.other_centre, None),
        batch(
            "lis/stray", rates.lis_stray, np.where(age.astype(np.int64) % 3 == 0, lead, parent), LIS, False
        ),
        batch(
            "pacs/stray", rates.pacs_stray, np.where(age.astype(np.int64) % 2 == 0, lead, parent), PACS, False
        ),
    ]
    # Born in the last three years: registered at birth, and the mother with them.
    born_here = _chosen(draw, "his/newborn", folk, 0.75, settled & (age < 3) & (folk.fam.mother >= 0))
    at = np.where(draw.chance("his/newborn-lead", folk.fam.mother[born_here], 0.3), 0, parent[born_here])
    out.append(_Batch(born_here, HIS, at, folk.fam.born[born_here]))
    out.append(_Batch(folk.fam.mother[born_here], HIS, at, folk.fam.born[born_here] - 2))
    unknown = np.flatnonzero(folk.fam.role == STRANGER)
    at = np.where(draw.chance("his/unknown-lead", unknown, 0.6), 0, parent[unknown])
    out.append(_Batch(unknown, HIS, at, folk.as_of - draw.below("his/unknown/day", unknown, RECENT_DAYS)))
    return out


def _once_per_org(batches: list[_Batch]) -> list[_Batch]:
    """One registration per resident, institution and system: later batches lose what earlier ones have."""
    key = np.concatenate([(b.who * 4 + b.system) * 64 + b.org for b in batches])
    # The mother of a newborn must be known on the day of birth, so of two days the earlier one stays.
    day = np.concatenate([b.day for b in batches])
    order = np.lexsort((np.arange(len(key)), day, key))
    first = np.zeros(len(key), dtype=bool)
    first[order] = np.diff(key[order], prepend=-1) != 0
    out, start = [], 0
    for b in batches:  # about ten batches
        keep = first[start : start + len(b.who)]
        start += len(b.who)
        out.append(_Batch(b.who[keep], b.system, b.org[keep], b.day[keep]))
    return out


def _second_in_org(draw: Draw, folk: Folk, batches: list[_Batch], rate: float) -> _Batch:
    """Some patients got a second local number in the same hospital."""
    who = np.concatenate([b.who for b in batches if b.system == HIS])
    org = np.concatenate([b.org for b in batches if b.system == HIS])
    day = np.concatenate([b.day for b in batches if b.system == HIS])
    again = draw.chance("his/again", who * 64 + org, rate) & (folk.fam.role[who] != STRANGER)
    who, org, day = who[again], org[again], day[again]
    later = day + 1 + (draw.uniform("his/again-day", who * 64 + org) * (folk.as_of - day)).astype(np.int64)
    return _Batch(who, HIS, org, later)


def make_registers(profile: Profile, folk: Folk, draw: Draw) -> Registers:
    """All registrations up to ``folk.as_of``, ordered by resident, system, institution and day."""
    settled = folk.fam.role != STRANGER
    his = _once_per_org(_hospitals(draw, folk, profile, settled))
    batches = [*_archives(draw, folk, profile, settled), *his]
    batches.append(_second_in_org(draw, folk, his, profile.people.registering.same_org_second))
    who = np.concatenate([b.who for b in batches])
    system = np.concatenate([np.full(len(b.who), b.system) for b in batches])
    org = np.concatenate([b.org for b in batches])
    day = np.concatenate([b.day for b in batches])
    station = np.concatenate([np.full(len(b.who), -1) if b.station is None else b.station for b in batches])
    duplicate = np.concatenate(
        [np.zeros(len(b.who), dtype=bool) if b.duplicate is None else b.duplicate for b in batches]
    )
    died = folk.died_on[who]
    order = np.lexsort((day, org, system, who))
    order = order[((day <= folk.as_of) & ((died == NO_DAY) | (day < died)))[order]]
    who, system, org, day = who[order], system[order], org[order], day[order]
    station, duplicate = station[order], duplicate[order]
    rows = np.arange(len(who))

    # The last time somebody edited the row: exponential waiting time, seen backwards from today.
    rate = profile.people.registering.updated_per_year
    back = -np.log1p(-draw.uniform("register/updated", rows)) / max(rate, 1e-9) * YEAR
    updated = folk.as_of - np.minimum(back, 1e6).astype(np.int64)
    updated = np.where(
        (updated > day) & ((folk.died_on[who] == NO_DAY) | (updated < folk.died_on[who])), updated, NO_DAY
    )
    archive_serial = np.where(system == PUBLIC_HEALTH, _rank(station, day, rows), -1)
    if len(rows) and int(archive_serial.max()) > MAX_SERIAL:
        found = int(archive_serial.max())
        raise MedlakeError(
            "E805", place="archive_no", what="archives of one village", found=found, limit=MAX_SERIAL
        )
    return Registers(
        resident=who.astype(np.int32),
        system=system.astype(np.int8),
        org=org.astype(np.int8),
        station=station.astype(np.int16),
        registered_on=day.astype(np.int32),
        updated_on=updated.astype(np.int32),
        duplicate=duplicate,
        number=_rank(system * 64 + org, day, rows).astype(np.int32),
        archive_serial=archive_serial.astype(np.int32),
        mother_row=_mothers(folk, who, system, org, day).astype(np.int32),
    )


def _rank(group: Ints, day: Ints, rows: Ints) -> Ints:
    """1, 2, 3, ... within each group in order of the day."""
    order = np.lexsort((rows, day, group))
    ordered = group[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-99))
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group))) + 1
    return rank


def _mothers(folk: Folk, who: Ints, system: Ints, org: Ints, day: Ints) -> Ints:
    """For newborn registrations in a hospital the row of the mother in the same hospital, else -1."""
    newborn = np.flatnonzero((system == HIS) & (day - folk.fam.born[who] <= 28) & (folk.fam.mother[who] >= 0))
    key = (who * 4 + system) * 64 + org  # rising, because rows are ordered so
    wanted = (folk.fam.mother[who[newborn]] * 4 + HIS) * 64 + org[newborn]
    at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    out = np.full(len(who), -1, dtype=np.int64)
    out[newborn] = np.where(key[at] == wanted, at, -1) if len(newborn) else -1
    return out
