"""The days a simulated city lives through, and how care is spread over them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from simulator.clinical.draw import DAY

# Outpatient volume by weekday (Monday first) and by month: Monday peak, winter respiratory season.
WEEKDAY = np.array([1.28, 1.12, 1.05, 1.02, 1.0, 0.72, 0.55])
MONTH = np.array([1.2, 0.95, 1.05, 1.0, 0.95, 0.9, 0.88, 0.88, 0.95, 0.98, 1.1, 1.22])
SPARE_DAYS = 7


@dataclass(frozen=True)
class Window:
    """History and daily deliveries of one simulated city.

    The world is generated up to `horizon`, some days after the last delivery, so that a further day
    (a bad one) can be delivered later without changing what was written before.
    Public-health records begin on 1 January of the first year: rules that count over a calendar year
    must not meet a torn one.
    """

    history_start: date
    history_end: date
    end: date
    horizon: date

    @classmethod
    def of(cls, end: date, days: int, history_years: int) -> Window:
        """`days` daily deliveries end with `end`; the history ends the day before the first."""
        history_end = end - timedelta(days=days)
        start = history_end - timedelta(days=round(365.25 * history_years) - 1)
        return cls(start, history_end, end, end + timedelta(days=SPARE_DAYS))

    @property
    def public_health_start(self) -> date:
        return date(self.history_start.year, 1, 1)

    @property
    def early_dates(self) -> list[date]:
        """Five deliveries of one institution before the history, on the last day's weekday; fewer where days are many."""
        weeks = [self.end - timedelta(days=7 * n) for n in range(8, 0, -1)]
        return [day for day in weeks if day < self.history_end][-5:]

    @property
    def data_dates(self) -> list[date]:
        """Delivery dates: the history's, then one per day."""
        count = (self.end - self.history_end).days
        return [self.history_end + timedelta(days=i) for i in range(count + 1)]

    def deliver_on(self, day: np.ndarray) -> np.ndarray:
        """Data date of the delivery that holds a thing known on `day`."""
        result: np.ndarray = np.maximum(day.astype(DAY), np.datetime64(self.history_end))
        return result


def weekly(window: Window, day: np.ndarray) -> np.ndarray:
    """Data dates of what a source delivers once a week only: with the history, then seven days later."""
    end = np.datetime64(window.history_end)
    weeks = -(-np.maximum((day.astype(DAY) - end).astype("int64"), 0) // 7)
    result: np.ndarray = end + (7 * weeks).astype("timedelta64[D]")
    return result


@dataclass(frozen=True)
class DayWeights:
    """Inverse-CDF sampling of days with weekday and season."""

    first: np.datetime64
    cumulative: np.ndarray

    @classmethod
    def between(cls, first: date, last: date) -> DayWeights:
        span = np.arange(np.datetime64(first), np.datetime64(last) + 1, dtype=DAY)
        weekday = (span.astype("int64") + 3) % 7
        month = span.astype("datetime64[M]").astype("int64") % 12
        weight = WEEKDAY[weekday] * MONTH[month]
        # National Day week: outpatient departments run on duty rosters.
        in_year = (span - span.astype("datetime64[Y]").astype(DAY)).astype("int64")
        holiday = (month == 9) & ((span - span.astype("datetime64[M]").astype(DAY)).astype("int64") < 7)
        weight = np.where(holiday | (in_year == 0), weight * 0.45, weight)
        return cls(np.datetime64(first), np.cumsum(weight) / weight.sum())

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        index = np.searchsorted(self.cumulative, rng.random(size), side="right")
        result: np.ndarray = self.first + np.minimum(index, len(self.cumulative) - 1).astype("timedelta64[D]")
        return result

    def share_from(self, day: np.ndarray) -> np.ndarray:
        """Share of the weight on and after each day: how much of the window a person is there for."""
        index = np.clip((day.astype(DAY) - self.first).astype("int64"), 0, len(self.cumulative))
        before = np.concatenate([[0.0], self.cumulative])[index]
        result: np.ndarray = 1.0 - before
        return result


def clock(rng: np.random.Generator, hour_weights: np.ndarray, size: int) -> np.ndarray:
    """Seconds after midnight with these 24 hourly weights."""
    cumulative = np.cumsum(hour_weights) / hour_weights.sum()
    hour = np.searchsorted(cumulative, rng.random(size), side="right")
    return hour * 3600 + rng.integers(0, 3600, size)
