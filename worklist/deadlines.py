"""When a step is due: dated limits of the kind, the institution's own, and the clock they count from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.settings import settings
from worklist import calendar
from worklist.conditions import as_text, holds
from worklist.machine import Deadline, Level, Limit

_UNITS = {"seconds", "minutes", "hours", "days"}


@lru_cache(maxsize=4)
def _overrides(home: Path) -> dict[tuple[str, str], list[tuple[str, Limit]]]:
    found: dict[tuple[str, str], list[tuple[str, Limit]]] = {}
    for r in calendar.rows("deadline_overrides.csv"):
        try:
            if r["unit"] not in _UNITS | {"local_days", "workdays"}:
                raise ValueError(f"unit {r['unit']}")
            limit = Limit(
                valid_from=date.fromisoformat(r["valid_from"]),
                valid_to=date.fromisoformat(r["valid_to"]) if r.get("valid_to") else None,
                mark=r["reason"],
                case=r.get("case", ""),
                amount=int(r["amount"]),
                unit=r["unit"],
            )
            found.setdefault((r["kind"], r["step"]), []).append((r["org_code"], limit))
        except (KeyError, ValueError) as error:
            raise MedlakeError("E917", place="deadline_overrides.csv", detail=str(error)) from error
    return found


def _valid(limit: Limit, day: date) -> bool:
    return limit.valid_from <= day and (limit.valid_to is None or day <= limit.valid_to)


def limit_of(
    kind: str, deadline: Deadline, org_code: str, facts: Mapping[str, Any], day: date
) -> Limit | None:
    """The limit that counts on a day: the first whose case fits, with the institution's (or the group's) own number.

    An override names the case that it changes; an override without a case counts for all cases of the step. Of
    several that are valid the institution's goes before the group's and the newest before older ones.
    """
    fitting = [x for x in deadline.limits if _valid(x, day) and (not x.when or holds(x.when, facts))]
    base = max(fitting, key=lambda x: (x.when is not None, x.valid_from), default=None)
    case = base.case if base else ""
    own = [
        (org, x)
        for org, x in _overrides(settings().home).get((kind, deadline.step), [])
        if org in ("", org_code) and x.case in ("", case) and _valid(x, day)
    ]
    if not own:
        return base
    chosen = max(own, key=lambda p: (p[0] == org_code, p[1].case == case, p[1].valid_from))[1]
    if base and base.before:  # an own number of working days before the same date
        return replace(chosen, when=base.when, case=case, until=base.until, before=chosen.amount)
    return replace(chosen, when=base.when if base else None, case=case)


def _parsed(value: Any) -> datetime | None:
    text = as_text(value)
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=SHANGHAI)


def base_of(
    deadline: Deadline, *, entered: datetime, occurred: datetime, received: datetime, facts: Mapping[str, Any]
) -> datetime:
    """What a clock counts from. A source's clock that runs ahead never gives more time than receipt does."""
    if deadline.base == "entered":
        return entered
    if deadline.base == "receipt":
        return received
    at = _parsed(facts.get(deadline.base)) if deadline.base != "occurred" else occurred
    return min(at or occurred, received)


def due(limit: Limit, base: datetime, org_code: str, facts: Mapping[str, Any]) -> datetime | None:
    """When the step is due, UTC; None when the limit names a date that the item does not have."""
    if limit.until:
        at = _parsed(facts.get(limit.until))
        if at and limit.before:
            return calendar.workdays_before(org_code, at, limit.before).astimezone(UTC)
        return calendar.end_of_local_day(at, 0).astimezone(UTC) if at else None
    if limit.unit == "workdays":
        return calendar.end_of_workdays(org_code, base, limit.amount).astimezone(UTC)
    if limit.unit == "local_days":
        return calendar.end_of_local_day(base, limit.amount).astimezone(UTC)
    return (base + timedelta(**{limit.unit: limit.amount})).astimezone(UTC)


def level_at(level: Level, due_at: datetime) -> datetime:
    """When a level of escalation fires."""
    return due_at + timedelta(**{level.unit: level.after})
