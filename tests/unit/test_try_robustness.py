"""The variants of ``bench.robustness``: rates scaled within their limits, intervals from their definition."""

from __future__ import annotations

import pytest

from bench import robustness
from simulator.profile import Profile


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
def test_error_rates_are_scaled_and_what_people_have_is_not(factor: float) -> None:
    fixed = Profile.load().model_dump()
    made = Profile.model_validate(robustness.scaled(fixed, factor)).model_dump()
    before, after = fixed["people"], made["people"]
    assert after["name_errors"]["homophone"] == pytest.approx(before["name_errors"]["homophone"] * factor)
    assert after["id_errors"]["missing_his"] == pytest.approx(before["id_errors"]["missing_his"] * factor)
    assert after["field_errors"]["phone_slip"] == pytest.approx(before["field_errors"]["phone_slip"] * factor)
    assert after["field_errors"]["card_missing"] == before["field_errors"]["card_missing"]
    assert after["name_errors"]["newborn_unnamed_days"] == before["name_errors"]["newborn_unnamed_days"]
    assert (after["structure"], after["registering"]) == (before["structure"], before["registering"])
    assert Profile.load().model_dump() == fixed


def test_a_rate_stays_a_share() -> None:
    made = robustness.scaled(Profile.load().model_dump(), 100.0)
    assert max(v for v in made["people"]["field_errors"].values()) == 1.0


def test_intervals_hold_the_share_and_shrink_with_size() -> None:
    assert robustness.interval(0, 0) == [0.0, 1.0]
    low, high = robustness.interval(50, 100)
    assert (low, high) == (pytest.approx(0.403832, abs=1e-6), pytest.approx(0.596168, abs=1e-6))
    assert robustness.interval(100, 100)[1] == pytest.approx(1.0)
    wide, narrow = robustness.interval(9, 10), robustness.interval(9000, 10000)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
