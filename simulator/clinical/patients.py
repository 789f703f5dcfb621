"""Registrations of one source system as vectors: whose they are, where, since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, days, flags, to_days
from simulator.clinical.registers import current_and_later, residents_of
from simulator.clinical.window import Window

REGISTERED = [
    "name", "sex_code", "birth_date", "id_type_code", "id_no", "health_card_no", "insurance_no", "phone",
    "contact_name", "contact_phone", "addr_detail", "ethnicity_code", "marital_code", "mother_patient_id",
]  # fmt: skip


@dataclass(frozen=True)
class Patients:
    """Registrations sorted by resident and institution level.

    `first` and `count` say, per resident, where the resident's registrations begin and how many there are;
    `level` is 3 for the lead hospital, 2 for second-level hospitals, 1 for centres; `later` are versions after the
    history.
    """

    table: pa.Table
    resident: np.ndarray
    org: np.ndarray
    level: np.ndarray
    since: np.ndarray
    first: np.ndarray
    count: np.ndarray
    later: pa.Table

    def __len__(self) -> int:
        return len(self.org)

    def plus(self, others: Patients) -> Patients:
        """Others behind these; `first` and `count` go on speaking of these alone."""
        table = pa.concat_tables([self.table, others.table]).combine_chunks()
        both = {
            name: np.concatenate([getattr(self, name), getattr(others, name)])
            for name in ("resident", "org", "level", "since")
        }
        return Patients(table=table, first=self.first, count=self.count, later=self.later, **both)


def make_patients(city: Any, levels: Mapping[str, int], window: Window, system: str = "his") -> Patients:
    """Registrations of `system` with their later versions; `levels`: org_code -> level."""
    reg, later = current_and_later(city, window, system)
    who = residents_of(reg, city).to_numpy()
    org = np.asarray(reg["org_code"].to_pylist(), dtype=object)
    level = np.array([levels[code] for code in org.tolist()], dtype="int8")
    order = np.lexsort((np.asarray(reg["local_id"].to_pylist(), dtype=str), level, who))
    reg, who, org, level = reg.take(pa.array(order)), who[order], org[order], level[order]
    count = np.bincount(who, minlength=city.residents.num_rows)
    since = to_days(reg["registered_on"])
    return Patients(reg, who, org, level, since, np.cumsum(count) - count, count, later)


def patient_rows(patients: Patients, city: Any, window: Window) -> pa.Table:
    """HIS patients in contract columns; a later version is a row of its own with `is_update`."""
    parts = []
    for rows, is_update in ((patients.table, False), (patients.later, True)):
        updated = rows["source_updated_at"].cast(pa.timestamp("s"))
        delivered = days(window.deliver_on(to_days(updated.cast(pa.date32()))))
        columns = {"patient_local_id": rows["local_id"]} | {name: rows[name] for name in REGISTERED}
        parts.append(pa.table(columns | {
            "source_updated_at": updated, "org_code": rows["org_code"], "deliver_on": delivered,
            "resident": residents_of(rows, city), "is_update": flags(np.full(rows.num_rows, is_update)),
        }))  # fmt: skip
    return pa.concat_tables(parts)


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
