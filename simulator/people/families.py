"""Marriages, children, twins and grandparents: who lives with whom.

Ages are given; families are assembled around them, so the pyramid stays what it is. Everything works on
whole columns: partners and parents are found by rank in birth order with noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.people.ages import YEAR
from simulator.people.draw import Bools, Draw, Floats, Ints

HEAD, SPOUSE, CHILD, PARENT, STRANGER = range(5)
ROLES = ("head", "spouse", "child", "parent", "stranger")
SPACING_DAYS = 300

_MARRY_AGE = np.array([21, 24, 27, 30, 35, 45, 65, 72, 80, 90])
_MARRIED_WOMEN = np.array([0.02, 0.22, 0.60, 0.85, 0.93, 0.93, 0.82, 0.66, 0.38, 0.10])
_MARRIED_MEN = np.array([0.00, 0.12, 0.45, 0.72, 0.87, 0.91, 0.90, 0.86, 0.70, 0.40])


@dataclass
class Families:
    """Positions of residents; -1 where there is none. ``born`` and ``female`` were adjusted for twins."""

    born: Ints
    female: Bools
    household: Ints
    role: Ints
    head: Ints
    spouse: Ints
    mother: Ints
    father: Ints
    twin: Ints


def _couples(draw: Draw, born: Ints, female: Bools, age: Floats, settled: Bools) -> tuple[Ints, Ints]:
    """Wives and husbands, position by position."""
    every = np.arange(len(born))
    chance = np.where(
        female, np.interp(age, _MARRY_AGE, _MARRIED_WOMEN), np.interp(age, _MARRY_AGE, _MARRIED_MEN)
    )
    marries = settled & (age >= 20) & (draw.uniform("family/marries", every) < chance)
    # A husband is about two years older; both sides get noise, then the ranks are matched.
    key = born + 900 * draw.normal("family/partner", every) - np.where(female, 2.2 * YEAR, 0)
    sides = []
    size = min(int((marries & female).sum()), int((marries & ~female).sum()))
    for side in (marries & female, marries & ~female):
        who = np.flatnonzero(side)
        who = who[np.argsort(draw.uniform("family/left-over", who), kind="stable")[:size]]
        sides.append(who[np.argsort(key[who], kind="stable")])
    return sides[0], sides[1]


def _twins(draw: Draw, children: Ints, born: Ints, female: Bools, rate: float) -> Ints:
    """Make some neighbours in birth order twins (changes ``born`` and ``female``); partner or -1 per resident."""
    twin = np.full(len(born), -1, dtype=np.int64)
    ordered = children[np.argsort(born[children], kind="stable")]
    first, second = ordered[0:-1:2], ordered[1::2]
    chosen = draw.chance("family/twin", first, rate)
    first, second = first[chosen], second[chosen]
    born[second] = born[first]
    same_sex = draw.chance("family/twin-sex", first, 0.65)
    female[second] = np.where(same_sex, female[first], female[second])
    twin[first], twin[second] = second, first
    return twin


def _find_mothers(draw: Draw, children: Ints, wives: Ints, born: Ints, twin: Ints) -> Ints:
    """Number of the couple that each child belongs to; siblings keep a distance."""
    order = np.argsort(born[wives], kind="stable")
    by_birth = born[wives][order]
    age_at_birth = np.clip(27.2 + 4.6 * draw.normal("family/mother-age", children), 19.5, 43.0) * YEAR
    wanted = np.searchsorted(by_birth, born[children] - age_at_birth)
    at_index = np.full(len(born), -1, dtype=np.int64)
    at_index[children] = np.arange(len(children))
    leader = np.where((twin[children] >= 0) & (twin[children] < children), at_index[twin[children]], -1)
    reach = max(2.0, len(wives) / 300)
    at = np.clip(
        wanted + (draw.uniform("family/mother-0", children) - 0.5) * reach, 0, len(wives) - 1
    ).astype(np.int64)
    for attempt in range(1, 13):  # a few rounds; each moves only the children that came too close
        at = np.where(leader >= 0, at[leader], at)
        ordered = np.lexsort((born[children], at))
        close = (at[ordered][1:] == at[ordered][:-1]) & (np.diff(born[children][ordered]) < SPACING_DAYS)
        close &= twin[children[ordered[1:]]] != children[ordered[:-1]]
        moving = ordered[1:][close]
        if not len(moving):
            break
        shift = (draw.uniform(f"family/mother-{attempt}", children[moving]) - 0.5) * 2 * reach * (1 + attempt)
        at[moving] = np.clip(wanted[moving] + shift, 0, len(wives) - 1).astype(np.int64)
    at = np.where(leader >= 0, at[leader], at)
    return np.asarray(order[at])


def _host_couples(draw: Draw, elders: Ints, born: Ints, husbands: Ints, can_host: Bools) -> Ints:
    """For each elder the couple that takes them in, or -1. A couple takes one elder (or elder couple)."""
    hosts = np.flatnonzero(can_host)
    found = np.full(len(elders), -1, dtype=np.int64)
    if not len(hosts) or not len(elders):
        return found
    hosts = hosts[np.argsort(born[husbands[hosts]], kind="stable")]
    wanted = born[elders] + (26.0 + 4.0 * draw.normal("family/elder-gap", elders)) * YEAR
    spread = (draw.uniform("family/elder-spread", elders) - 0.5) * max(2.0, len(hosts) / 60)
    at = np.clip(np.searchsorted(born[husbands[hosts]], wanted) + spread, 0, len(hosts) - 1).astype(np.int64)
    fits = (born[husbands[hosts[at]]] - born[elders]) > 18 * YEAR
    where, first = np.unique(np.where(fits, hosts[at], -1), return_index=True)
    keep = where >= 0
    found[first[keep]] = where[keep]
    return found


def assemble(
    draw: Draw, born: Ints, female: Bools, as_of: int, twin_rate: float, strangers: Bools
) -> Families:
    """Families of everyone; ``strangers`` (people who only pass through) live alone."""
    size = len(born)
    every = np.arange(size)
    born, female = born.copy(), female.copy()
    age = (as_of - born) / YEAR
    wives, husbands = _couples(draw, born, female, age, ~strangers)
    in_couple = np.zeros(size, dtype=bool)
    in_couple[wives] = in_couple[husbands] = True
    at_home = np.interp(age, [22, 30, 45], [0.7, 0.5, 0.15])
    child = (
        ~strangers & ~in_couple & ((age < 22) | ((age < 45) & draw.chance("family/at-home", every, at_home)))
    )
    children = np.flatnonzero(child)
    twin = _twins(draw, children, born, female, twin_rate)

    couple_of = np.full(size, -1, dtype=np.int64)
    couple_of[wives] = couple_of[husbands] = np.arange(len(wives))
    mother, father = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    couple_of[children] = of = _find_mothers(draw, children, wives, born, twin)
    mother[children], father[children] = wives[of], husbands[of]

    role = np.full(size, HEAD, dtype=np.int64)
    role[wives], role[children], role[strangers] = SPOUSE, CHILD, STRANGER
    # Elders: a widowed or single person, or a couple spoken for by the wife.
    alone = ~in_couple & ~child & ~strangers & (age >= 62)
    speaks = alone.copy()
    has_child = np.zeros(len(wives), dtype=bool)
    has_child[of] = True
    speaks[wives[(age[wives] >= 62) & ~has_child]] = True
    joins = speaks & draw.chance("family/joins", every, np.where(alone, 0.6, 0.45))
    elders = np.flatnonzero(joins)
    can_host = (age[husbands] > 24) & (age[husbands] < 62) & ~joins[wives]
    host = _host_couples(draw, elders, born, husbands, can_host)
    elders, host = elders[host >= 0], host[host >= 0]
    mate = np.full(size, -1, dtype=np.int64)
    mate[wives], mate[husbands] = husbands, wives
    # Mostly the husband's parents; the wife's where she is old enough to be their daughter.
    hers = (born[wives[host]] - born[elders] > 18 * YEAR) & draw.chance("family/elder-line", elders, 0.2)
    line = np.where(hers, wives[host], husbands[host])
    mother[line] = np.where(female[elders], elders, -1)
    father[line] = np.where(female[elders], mate[elders], elders)
    joined = np.concatenate([elders, mate[elders][mate[elders] >= 0]])
    couple_of[joined] = np.concatenate([host, host[mate[elders] >= 0]])
    role[joined] = PARENT

    key = np.where(couple_of >= 0, couple_of, len(wives) + every)
    _, household = np.unique(key, return_inverse=True)
    head = np.full(int(household.max()) + 1, -1, dtype=np.int64)
    heads = np.flatnonzero((role == HEAD) | (role == STRANGER))
    head[household[heads]] = heads
    return Families(born, female, household, role, head[household], mate, mother, father, twin)
