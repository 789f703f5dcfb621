"""Working days and hours as data: ``parameters/calendar.csv`` (State Council notices) and ``working_hours.csv``.

A date that the calendar does not name is a working day from Monday to Friday.
"""

from __future__ import annotations

import csv
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path

from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.settings import settings

_HERE = Path(__file__).parent / "parameters"


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a parameter file: ours, then those of the same name under ``<home>/parameters`` (the site's own)."""
    found: list[dict[str, str]] = []
    for folder in (_HERE, settings().home / "parameters"):
        path = folder / name
        if path.is_file():
            with path.open(encoding="utf-8-sig", newline="") as file:
                found += [{k: (v or "").strip() for k, v in r.items() if k} for r in csv.DictReader(file)]
    return found


@lru_cache(maxsize=4)
def _special(home: Path) -> dict[date, bool]:
    try:
        return {date.fromisoformat(r["date"]): r["is_workday"] == "1" for r in rows("calendar.csv")}
    except (KeyError, ValueError) as error:
        raise MedlakeError("E917", place="calendar.csv", detail=str(error)) from error


def is_workday(day: date) -> bool:
    return _special(settings().home).get(day, day.weekday() < 5)


@lru_cache(maxsize=4)
def _hours(home: Path) -> list[tuple[str, date, time]]:
    try:
        return [
            (r["org_code"], date.fromisoformat(r["valid_from"]), time.fromisoformat(r["ends_at"]))
            for r in rows("working_hours.csv")
        ]
    except (KeyError, ValueError) as error:
        raise MedlakeError("E917", place="working_hours.csv", detail=str(error)) from error


def closing_time(org_code: str, day: date) -> time:
    """When work ends at an institution on a day: its own row, else the group's; the newest valid one.

    Raises:
        MedlakeError: E917, no row is valid on that day.
    """
    valid = [r for r in _hours(settings().home) if r[0] in ("", org_code) and r[1] <= day]
    if not valid:
        raise MedlakeError("E917", place="working_hours.csv", detail=f"{org_code} {day}")
    return max(valid, key=lambda r: (r[0] == org_code, r[1]))[2]


def end_of_workdays(org_code: str, base: datetime, count: int) -> datetime:
    """Close of business of the ``count``-th working day after the day of ``base`` (that day does not count)."""
    day = base.astimezone(SHANGHAI).date()
    while count:
        day += timedelta(days=1)
        count -= is_workday(day)
    return datetime.combine(day, closing_time(org_code, day), SHANGHAI)


def workdays_before(org_code: str, base: datetime, count: int) -> datetime:
    """Close of business of the ``count``-th working day before the day of ``base`` (that day does not count)."""
    day = base.astimezone(SHANGHAI).date()
    while count:
        day -= timedelta(days=1)
        count -= is_workday(day)
    return datetime.combine(day, closing_time(org_code, day), SHANGHAI)


def end_of_local_day(base: datetime, days: int) -> datetime:
    """The last second of the local day ``days`` after the day of ``base``."""
    day = base.astimezone(SHANGHAI).date() + timedelta(days=days)
    return datetime.combine(day, time(23, 59, 59), SHANGHAI)
