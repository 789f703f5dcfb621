"""Regular appointments of many people at once, and the frame of a disease programme's card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import DAY, NO_DAY, before_weekend, days, pick, serial_ids
from simulator.clinical.served import Served, card_states


def rounds(
    rng: np.random.Generator, start: np.ndarray, last: np.ndarray, low: int, high: int
) -> tuple[np.ndarray, np.ndarray]:
    """(person, day) of appointments from ``start`` on, ``low`` to ``high`` days apart, none after ``last``.

    Days are office days; persons index the given arrays and come in order, each with ascending days.
    """
    if not len(start):
        return np.zeros(0, dtype="int64"), np.zeros(0, dtype=DAY)
    longest = int(max((last - start).astype("int64").max(), 0))
    columns = [before_weekend(start)]
    for _ in range(longest // max(low - 2, 1) + 1):  # a step per appointment, all persons at once
        gap = rng.integers(low, high + 1, len(start)).astype("timedelta64[D]")
        columns.append(before_weekend(columns[-1] + gap))
    grid = np.stack(columns, axis=1)
    person, step = np.nonzero((grid <= last[:, None]) & (grid >= start[:, None] - np.timedelta64(2, "D")))
    return person.astype("int64"), grid[person, step]


def adults(served: Served, rng: np.random.Generator, share: float, living: bool = False) -> np.ndarray:
    """Residents with an archive, grown up when public-health records begin: each with probability ``share``.

    Who died before that is not among them, and with ``living`` nobody who dies in the simulated time.
    """
    drawn = rng.random(len(served.birth)) < share
    grown = served.birth + 6580 <= served.begin
    death = served.cohort.death
    alive = np.isnat(death) | ((death > served.begin + 200) & (not living))
    return np.flatnonzero(
        drawn & grown & alive & (served.archive >= 0) & (served.opened < served.horizon - 30)
    )


def carded(
    served: Served, who: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(carding day, first appointment, last possible one, end by death or NaT) of people with a card.

    Whoever has no day left to be managed on is for the caller to leave out: ``last`` lies before ``start``.
    """
    size = len(who)
    opened = np.maximum(served.opened[who], served.begin - rng.integers(60, 2400, size)) + 3
    start = np.where(opened < served.begin, served.begin + rng.integers(2, 28, size), opened)
    ended = np.where(served.cohort.death[who] <= served.horizon, served.cohort.death[who], NO_DAY)
    return opened, start, np.fmin(ended - 1, served.horizon), ended


def programme_card(
    served: Served,
    prefix: str,
    who: np.ndarray,
    opened: np.ndarray,
    ended: np.ndarray,
    columns: dict[str, Any],
) -> pa.Table:
    """Card rows with their states; ``columns``: what only this programme's card says."""
    size = len(who)
    table = pa.table({
        "card_id": serial_ids(prefix, np.arange(1, size + 1), 7), "archive_id": served.archive_id(who),
        "carded_on": days(opened), **columns, "doctor_id": served.doctor(who),
        "org_code": served.org(who), "resident": pa.array(who),
    })  # fmt: skip
    return card_states(table, opened, ended, served, pick(["1"], np.zeros(size, dtype="int64")))
