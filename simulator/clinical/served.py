"""Whom the stations serve besides the chronically ill, and the stamp that every service record carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from simulator.clinical.archive import Archives
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, NO_DAY, days, instants, serial_ids, to_days
from simulator.clinical.window import Window


@cache
def family() -> dict[str, Any]:
    """``family.yaml``: stages, vaccines, antenatal visits, constitutions, packages."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "family.yaml").read_text("utf-8"))
    return loaded


def add_months(day: np.ndarray, months: int | np.ndarray) -> np.ndarray:
    """The same day of a later month, its last day where there is none (calendar, as people count)."""
    month = day.astype("datetime64[M]")
    of_month = (day - month.astype(DAY)).astype("int64")
    target = month + np.asarray(months).astype("timedelta64[M]")
    length = ((target + 1).astype(DAY) - target.astype(DAY)).astype("int64")
    result: np.ndarray = target.astype(DAY) + np.minimum(of_month, length - 1).astype("timedelta64[D]")
    return result


def after_weekend(day: np.ndarray) -> np.ndarray:
    """Saturday and Sunday move to Monday: a service that must not be early."""
    weekday = (day.astype("int64") + 3) % 7  # Monday = 0
    on: np.ndarray = day + np.where(weekday > 4, 7 - weekday, 0).astype("timedelta64[D]")
    return on


def span(rng: np.random.Generator, low: int, high: int, size: int) -> np.ndarray:
    """``size`` numbers of days, low to high."""
    return rng.integers(low, high + 1, size).astype("timedelta64[D]")


def same(value: str, size: int) -> pa.Array:
    """The value in every row."""
    return pa.array([value] * size, pa.string())


@dataclass(frozen=True)
class Served:
    """One entry per resident. ``archive`` indexes Archives (-1: none), ``opened`` is NaT without one.

    ``sound``: birth date and sex of the archive are the resident's own and the archive is delivered by the time that
    services begin. Mothers and children are served under sound archives only: otherwise every growth curve and week
    of pregnancy of theirs would be wrong, and no fault of the service.
    """

    archives: Archives
    cohort: Cohort
    window: Window
    archive: np.ndarray
    opened: np.ndarray
    birth: np.ndarray
    sound: np.ndarray

    @classmethod
    def of(cls, archives: Archives, cohort: Cohort, window: Window) -> Served:
        at, size = archives.of_resident, len(archives.archive_id)
        has = at >= 0
        first = archives.table.slice(0, size)
        shown, delivered = to_days(first["birth_date"]), to_days(first["deliver_on"])
        sex = np.array([int(s or 0) for s in first["sex_code"].to_pylist()])
        end = np.datetime64(window.end)
        in_time = (delivered <= end) | (archives.opened > end)
        sound = has & (shown[at] == cohort.birth) & (sex[at] == cohort.sex) & in_time[at]
        opened = np.where(has, archives.opened[at], NO_DAY)
        return cls(
            archives, cohort, window, at, opened, np.where(has, archives.birth[at], cohort.birth), sound
        )

    @property
    def begin(self) -> np.datetime64:
        return np.datetime64(self.window.public_health_start)

    @property
    def history_end(self) -> np.datetime64:
        return np.datetime64(self.window.history_end)

    @property
    def horizon(self) -> np.datetime64:
        return np.datetime64(self.window.horizon)

    def org(self, who: np.ndarray) -> pa.Array:
        return self.archives.org_code.take(pa.array(self.archive[who]))

    def archive_id(self, who: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
        return self.archives.archive_id.take(pa.array(self.archive[who], mask=missing))

    def doctor(self, who: np.ndarray) -> pa.Array:
        return serial_ids(pc.binary_join_element_wise(self.org(who), "G", ""), 1 + self.archive[who] % 11, 2)

    def stamp(
        self, rng: np.random.Generator, who: np.ndarray, typed: np.ndarray, not_before: np.ndarray | None = None,
        stamped: str = "recorded_at",
    ) -> dict[str, Any]:  # fmt: skip
        """Doctor, time of entry, institution and delivery of records typed on these days.

        ``not_before``: a record reaches the platform only when the archive it hangs on is opened.
        """
        seconds = rng.integers(9 * 3600, 17 * 3600, len(who)).astype("timedelta64[s]")
        known = typed if not_before is None else np.maximum(typed, not_before)
        return {
            "doctor_id": self.doctor(who), stamped: instants(typed.astype("datetime64[s]") + seconds),
            "org_code": self.org(who), "deliver_on": days(self.window.deliver_on(known)), "resident": pa.array(who),
        }  # fmt: skip


def numbered(columns: Mapping[str, Any], key: str, prefix: str, day: str) -> pa.Table:
    """The rows in order of delivery, their day and archive, with an id of their own in front."""
    table = pa.table(dict(columns))
    table = table.sort_by([("deliver_on", "ascending"), (day, "ascending"), ("archive_id", "ascending")])
    ids = serial_ids(prefix, np.arange(1, table.num_rows + 1), 8)
    return table.add_column(0, key, ids).combine_chunks()


def card_states(
    table: pa.Table, created: np.ndarray, ended: np.ndarray, served: Served, why: pa.Array
) -> pa.Table:
    """Cards as the history shows them, and once more where they end in the daily window.

    Args:
        table: one row per card, without status, end, reason, update time and delivery.
        created, ended: days; ``ended`` NaT while the card is open. why: reason for each end.
    """
    size = table.num_rows
    done = ~np.isnat(ended) & (ended <= served.history_end)
    later = ~np.isnat(ended) & ~done & (ended <= served.horizon)

    def version(rows: np.ndarray, closed: np.ndarray, known: np.ndarray) -> pa.Table:
        part = table.take(pa.array(rows))
        extra = {
            "status_code": pa.array(np.where(closed, "ended", "active").tolist(), pa.string()),
            "ended_on": days(np.where(closed, ended[rows], NO_DAY)),
            "end_reason_code": pc.if_else(pa.array(closed), why.take(pa.array(rows)), None),
            "source_updated_at": instants(known.astype("datetime64[s]") + np.timedelta64(16 * 3600, "s")),
            "deliver_on": days(served.window.deliver_on(known)),
        }
        for name, column in extra.items():
            part = part.append_column(name, column)
        return part

    every = np.arange(size)
    again = np.flatnonzero(later)
    base = version(every, done, np.where(done, ended, created))
    return pa.concat_tables([base, version(again, np.full(len(again), True), ended[again])]).combine_chunks()
