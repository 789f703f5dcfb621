"""Registrations of one source system as vectors: whose they are, where, since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, to_days


@dataclass(frozen=True)
class Patients:
    """Registrations sorted by resident and institution level.

    `first` and `count` say, per resident, where the resident's registrations begin and how many there are;
    `level` is 3 for the lead hospital, 2 for second-level hospitals, 1 for centres.
    """

    table: pa.Table
    resident: np.ndarray
    org: np.ndarray
    level: np.ndarray
    since: np.ndarray
    first: np.ndarray
    count: np.ndarray

    def __len__(self) -> int:
        return len(self.org)

    def plus(self, others: Patients) -> Patients:
        """Others behind these; `first` and `count` go on speaking of these alone."""
        table = pa.concat_tables([self.table, others.table]).combine_chunks()
        both = {
            name: np.concatenate([getattr(self, name), getattr(others, name)])
            for name in ("resident", "org", "level", "since")
        }
        return Patients(table=table, first=self.first, count=self.count, **both)


def make_patients(city: Any, levels: Mapping[str, int], system: str = "his") -> Patients:
    """Registrations of `system`; `levels`: org_code -> level."""
    reg = city.registrations.filter(pc.equal(city.registrations["source_system"], system)).combine_chunks()
    residents = city.residents["resident_id"].combine_chunks()
    who = pc.index_in(reg["resident_id"], residents).combine_chunks().to_numpy()
    org = np.asarray(reg["org_code"].to_pylist(), dtype=object)
    level = np.array([levels[code] for code in org.tolist()], dtype="int8")
    order = np.lexsort((np.asarray(reg["local_id"].to_pylist(), dtype=str), level, who))
    reg, who, org, level = reg.take(pa.array(order)), who[order], org[order], level[order]
    count = np.bincount(who, minlength=city.residents.num_rows)
    return Patients(reg, who, org, level, to_days(reg["registered_on"]), np.cumsum(count) - count, count)


def stray_days(
    rng: np.random.Generator, strays: Patients, cohort: Cohort, begin: np.datetime64, end: np.datetime64
) -> np.ndarray:
    """The day on which each patient known to this system alone was there, NaT for who died before `begin`.

    That is the day of registration where it lies in the window, else some day of it.
    """
    span = int((end - begin).astype("int64")) + 1
    some = begin + rng.integers(0, span, len(strays)).astype("timedelta64[D]")
    day = np.where((strays.since >= begin) & (strays.since <= end), strays.since, some)
    death = cohort.death[strays.resident]
    born = cohort.birth[strays.resident]
    day = np.where(np.isnat(death) | (day < death), day, death - np.timedelta64(1, "D"))
    result: np.ndarray = np.where((day >= begin) & (day > born), day, np.datetime64("NaT", "D")).astype(DAY)
    return result
