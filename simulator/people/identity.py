"""Numbers that identify: GB 11643 id numbers, phones, insurance and health-card numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lake.errors import MedlakeError
from simulator.people.draw import Bools, Draw, Ints
from simulator.people.text import Codes, digits

_WEIGHTS = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2], dtype=np.int64)
_CHECK = np.frombuffer(b"10X98765432", dtype=np.uint8).astype(np.uint32)
_SLOTS = 250  # of four serial numbers each: one person, or a pair of twins
PHONE_PREFIXES = np.array(
    [130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 150, 151, 152, 153, 155, 156, 157, 158, 159, 177, 180, 181, 182, 186,
     187, 188, 189, 191, 199]
)  # fmt: skip
_EIGHT = 10**8


def check_digit(first17: Codes) -> NDArray[np.uint32]:
    """ISO 7064 MOD 11-2 check character of 17 digits (GB 11643-1999)."""
    return np.asarray(_CHECK[((first17.astype(np.int64) - 48) @ _WEIGHTS) % 11])


def calendar(days: NDArray[np.integer]) -> Ints:
    """Days since 1970-01-01 as the number YYYYMMDD."""
    day = days.astype("datetime64[D]")
    month = day.astype("datetime64[M]")
    months = month.astype(np.int64)
    of_month = (day - month.astype("datetime64[D]")).astype(np.int64) + 1
    return np.asarray((1970 + months // 12) * 10000 + (months % 12 + 1) * 100 + of_month)


def serial_numbers(county: Ints, born: Ints, female: Bools, twin: Ints) -> Ints:
    """Three-digit serial (odd: male), unique within county and day of birth; twins get neighbouring numbers.

    Raises E805 when more than 250 births of one county fall on one day.
    """
    every = np.arange(len(born))
    second = (twin >= 0) & (twin < every)
    units = np.flatnonzero(~second)
    group = county[units] * 100_000 + born[units] + 50_000
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    rank = np.arange(len(units)) - np.repeat(starts, np.diff(starts, append=len(units)))
    if len(rank) and int(rank.max()) >= _SLOTS:
        what = "births of one county on one day"
        raise MedlakeError("E805", place="id_no", what=what, found=int(rank.max()) + 1, limit=_SLOTS)
    slot = np.zeros(len(born), dtype=np.int64)
    slot[units[order]] = (rank * 97 + ordered * 31 % _SLOTS) % _SLOTS
    slot[second] = slot[twin[second]]
    place = np.where(female, 0, 1)
    # The second twin of the same sex takes the next number of that parity.
    place = np.where(second & (female == female[twin]), place + 2, place)
    return np.asarray(slot * 4 + place)


def id_numbers(
    county_code: NDArray[np.integer], born: NDArray[np.integer], serial: NDArray[np.integer]
) -> Codes:
    """18 characters per resident; ``county_code`` has six digits."""
    first17 = np.concatenate([digits(county_code, 6), digits(calendar(born), 8), digits(serial, 3)], axis=1)
    return np.concatenate([first17, check_digit(first17)[:, None]], axis=1)


def phone_numbers(draw: Draw, owner: NDArray[np.integer], renewed: Bools, residents: int) -> Ints:
    """Mobile number of each owner; after a change (``renewed``) another one. Unique below 50 million residents."""
    key = owner.astype(np.int64) + np.where(renewed, residents, 0)
    prefix = PHONE_PREFIXES[draw.below("phone/prefix", key, len(PHONE_PREFIXES))]
    return np.asarray(prefix * _EIGHT + _scattered(draw, "phone", key, 45_678_901))


def card_numbers(draw: Draw, kind: str, key: NDArray[np.integer], width: int, first: str = "") -> Codes:
    """Opaque numbers of ``width`` digits behind ``first``; distinct keys (below 10^8) give distinct numbers."""
    head = draw.below(f"card/{kind}", key, 10 ** (width - 8))
    lead = np.tile(np.array([ord(c) for c in first], dtype=np.uint32), (len(key), 1))
    tail = digits(_scattered(draw, f"card/{kind}", key, 36_789_013), 8)
    return np.concatenate([lead, digits(head, width - 8), tail], axis=1)


def _scattered(draw: Draw, kind: str, key: NDArray[np.integer], factor: int) -> Ints:
    """A permutation of 0..10^8-1 (the factor is coprime to 10), shifted per city and kind."""
    shift = int(draw.below(f"{kind}/shift", np.zeros(1, dtype=np.int64), _EIGHT)[0])
    return np.asarray((key.astype(np.int64) * factor + shift) % _EIGHT)
