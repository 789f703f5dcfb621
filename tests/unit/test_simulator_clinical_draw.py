"""Days, ages and samplers of the clinical simulator."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import age_on, before_weekend, days, numbers, pick, stream, to_days
from simulator.clinical.visits import even_odd
from simulator.clinical.window import DayWeights, Window


def test_age_counts_birthdays() -> None:
    born = np.array(["1961-11-18", "1961-11-19", "1960-02-29"], dtype="datetime64[D]")
    on = np.array(["2026-11-18", "2026-11-18", "2025-02-28"], dtype="datetime64[D]")
    assert age_on(born, on).tolist() == [65, 64, 64]


def test_weekend_moves_back_to_friday() -> None:
    week = np.arange(np.datetime64("2026-11-16"), np.datetime64("2026-11-23"))
    assert before_weekend(week)[-3:].tolist() == [date(2026, 11, 20)] * 3


def test_missing_days_survive_arrow_and_back() -> None:
    given = np.array(["2026-11-18", "NaT", "1949-10-01"], dtype="datetime64[D]")
    assert days(given).to_pylist() == [date(2026, 11, 18), None, date(1949, 10, 1)]
    assert np.array_equal(to_days(pa.chunked_array([days(given)])), given, equal_nan=False) is False
    assert np.isnat(to_days(days(given))).tolist() == [False, True, False]


def test_negative_index_and_nan_are_null() -> None:
    assert pick(["a", "b"], np.array([1, -1, 0])).to_pylist() == ["b", None, "a"]
    assert numbers(np.array([1.26, np.nan]), 1).to_pylist() == [1.3, None]


def test_streams_are_independent_and_repeatable() -> None:
    assert stream(7, "a").random() == stream(7, "a").random() != stream(7, "b").random()


def test_window_begins_public_health_with_a_calendar_year() -> None:
    window = Window.of(date(2026, 11, 20), 3, 3)
    assert window.history_end == date(2026, 11, 17) and window.public_health_start == date(2023, 1, 1)
    assert [d.day for d in window.data_dates] == [17, 18, 19, 20]


def test_days_follow_their_weights() -> None:
    weights = DayWeights.between(date(2026, 1, 1), date(2026, 12, 31))
    sample = weights.sample(stream(1, "x"), 200_000)
    weekday = (sample.astype("int64") + 3) % 7
    share = np.bincount(weekday, minlength=7) / len(sample)
    assert share[0] > share[4] > share[6], "Monday leads, Sunday is quiet"
    assert abs(weights.share_from(np.array(["2026-01-01"], dtype="datetime64[D]"))[0] - 1) < 1e-9


def test_neighbouring_visits_never_share_a_value() -> None:
    person = np.repeat([1, 2, 3], [5, 1, 4])
    values = even_odd(np.full(10, 72.0), person)
    same_person = person[1:] == person[:-1]
    assert (values[1:] != values[:-1])[same_person].all() and np.abs(values - 72).max() <= 1
