"""Deadlines: working days and holidays, an institution's own limits, dated changes, parameters that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from tests.worklist_world import NOW, ask, home
from worklist import calendar, deadlines
from worklist.machine import kind


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """The folder for the site's own parameters."""
    with home(tmp_path / "var") as folder:
        (folder / "parameters").mkdir(parents=True)
        calendar._special.cache_clear()
        yield folder / "parameters"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("base", "days", "end"),
    [
        ("2026-11-18 10:00", 1, "2026-11-19 17:30"),
        ("2026-11-20 23:00", 1, "2026-11-23 17:30"),  # Friday night
        ("2026-09-30 10:00", 3, "2026-10-10 17:30"),  # National Day: 1 to 7 off, Saturday the 10th is worked
        ("2026-09-18 10:00", 1, "2026-09-20 17:30"),  # Sunday the 20th is worked
        ("2026-02-13 10:00", 2, "2026-02-24 17:30"),  # the 14th is worked, 15 to 23 off
        ("2026-11-18 10:00", 0, "2026-11-18 17:30"),
        ("2027-03-05 10:00", 1, "2027-03-08 17:30"),  # no notice for that year yet: Monday to Friday
    ],
)
def test_working_days(site: Path, base: str, days: int, end: str) -> None:
    assert calendar.end_of_workdays("H001", at(base), days) == at(end)


def test_an_instant_near_midnight_belongs_to_its_local_day(site: Path) -> None:
    late = datetime(2026, 11, 18, 16, 30, tzinfo=UTC)  # 00:30 on the 19th in Shanghai
    assert calendar.end_of_local_day(late, 0).date() == date(2026, 11, 19)


def test_a_site_adds_holidays_and_hours(site: Path) -> None:
    (site / "calendar.csv").write_text("date,is_workday,name_zh,source\n2026-11-19,0,停电,site\n")
    (site / "working_hours.csv").write_text(
        "org_code,valid_from,starts_at,ends_at,mark\nC201,2026-06-01,08:00,16:00,site\n"
    )
    calendar._hours.cache_clear()
    assert calendar.end_of_workdays("C201", at("2026-11-18 10:00"), 1) == at("2026-11-20 16:00")
    assert calendar.end_of_workdays("H001", at("2026-11-18 10:00"), 1) == at("2026-11-20 17:30")


OVERRIDES = """kind,step,case,org_code,valid_from,valid_to,amount,unit,reason
critical_value,confirm,,,2026-06-01,,8,minutes,group
critical_value,confirm,,C201,2026-06-01,2026-12-31,20,minutes,station far away
critical_value,confirm,,C202,2027-01-01,,1,minutes,not yet
referral_up,accept,emergency,,2026-01-01,,10,minutes,group
silent_feed,acknowledge,,H001,2026-01-01,,4,hours,site
"""


def test_an_institutions_own_limit_goes_before_the_groups_and_both_are_dated(site: Path) -> None:
    (site / "deadline_overrides.csv").write_text(OVERRIDES)
    deadlines._overrides.cache_clear()
    confirm = next(d for d in kind("critical_value").deadlines if d.step == "confirm")

    def minutes(org: str, day: date) -> int:
        limit = deadlines.limit_of("critical_value", confirm, org, {}, day)
        assert limit is not None
        return limit.amount

    assert minutes("C201", date(2026, 11, 18)) == 20
    assert minutes("C201", date(2027, 1, 1)) == 8
    assert minutes("C202", date(2026, 11, 18)) == 8
    assert minutes("C202", date(2027, 1, 1)) == 1
    assert minutes("H001", date(2026, 5, 31)) == 10


def test_an_override_of_one_case_leaves_the_others(site: Path) -> None:
    (site / "deadline_overrides.csv").write_text(OVERRIDES)
    deadlines._overrides.cache_clear()
    accept = next(d for d in kind("referral_up").deadlines if d.step == "accept")
    found = {
        urgency: deadlines.limit_of("referral_up", accept, "H001", {"urgency": urgency}, NOW.date())
        for urgency in ("emergency", "urgent")
    }
    assert {u: (x.amount, x.unit) for u, x in found.items() if x} == {
        "emergency": (10, "minutes"),
        "urgent": (2, "hours"),
    }


def test_a_kind_without_default_gets_its_deadline_from_the_site(site: Path) -> None:
    assert ask("silent_feed", "before").due_at is None
    (site / "deadline_overrides.csv").write_text(OVERRIDES)
    deadlines._overrides.cache_clear()
    assert ask("silent_feed", "after").due_at == NOW + timedelta(hours=4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deadline_overrides.csv", OVERRIDES.replace("8,minutes", "eight,minutes")),
        ("deadline_overrides.csv", OVERRIDES.replace("8,minutes", "8,fortnights")),
        ("calendar.csv", "date,is_workday,name_zh,source\n31.12.2026,0,x,y\n"),
        (
            "working_hours.csv",
            "org_code,valid_from,starts_at,ends_at,mark\nC201,2026-06-01,08:00,noon,site\n",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_its_file(site: Path, name: str, text: str) -> None:
    (site / name).write_text(text)
    for cache in (deadlines._overrides, calendar._special, calendar._hours):
        cache.cache_clear()
    with pytest.raises(MedlakeError) as error:
        ask("quality_ticket", "x")
        ask("critical_value", "y")
    assert error.value.code == "E917" and error.value.place == name
    for cache in (deadlines._overrides, calendar._special, calendar._hours):
        cache.cache_clear()
