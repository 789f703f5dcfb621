"""Before the month's report is due, its errors go to the institution's lead, then the group's steward (closed-loops.md §8)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

import worklist
from lake.local_time import SHANGHAI
from quality import tickets
from quality.rule import rulebook
from quality.tickets.limits import parameters
from tests.tickets_world import checked, finding
from worklist import timers

DAY = date(2026, 11, 18)
#: Errors that are left out of a report's product, a warning, and one that no report counts.
REPORTED = next(
    r.id
    for r in rulebook().rules
    if r.severity == "error" and r.targets[0].products.get("chronic_disease") == "exclude"
)


def at(month: int, day: int, hour: int = 18) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=SHANGHAI).astimezone(UTC)


@pytest.fixture
def tickets_of(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("tests.tickets_world.RULES", (REPORTED, "ARC-002"))
    found = [
        finding("V1", rule_id=REPORTED),
        finding("V2", rule_id=REPORTED, org_code="C202", severity="warn"),
    ]

    def made(day: date) -> dict[str, Any]:
        checked(day, found)
        tickets.ask(day)
        worklist.take_requests(at(day.month, day.day, 12))
        return {i.org_code: i for i in worklist.items(kind="quality_ticket")}

    return made


def told(item_id: str) -> list[tuple[int, str]]:
    """Levels and roles of the report's clock; the ticket's own counts from its receipt, which is now."""
    events = [e for e in worklist.log_of(item_id) if e.action == "escalate" and e.data["step"] == "report"]
    return [(e.data["level"], e.data["to_role"]) for e in events]


@pytest.mark.parametrize(
    ("day", "due"),
    [((2026, 11, 18), (2026, 12, 8)), ((2026, 12, 8), (2026, 12, 8)), ((2026, 12, 9), (2027, 1, 8))],
)
def test_the_report_of_a_month_is_due_in_the_next(
    day: tuple[int, int, int], due: tuple[int, int, int]
) -> None:
    assert parameters(date(*day)).report_due_on(date(*day)) == date(*due)


def test_five_working_days_before_the_report_its_errors_go_up(tickets_of: Any) -> None:
    made = tickets_of(DAY)
    assert made["C201"].payload["report_due_on"] == "2026-12-08"
    assert "report_due_on" not in made["C202"].payload, "a warning does not hold the report up"
    # 8 December is a Tuesday: the fifth working day before it is 1 December
    timers.fire(at(12, 1, 17))
    assert told(made["C201"].item_id) == []
    timers.fire(at(12, 1))
    assert told(made["C201"].item_id) == [(1, "org_qc_lead")]
    timers.fire(at(12, 4))
    assert told(made["C201"].item_id) == [(1, "org_qc_lead"), (2, "data_steward")]
    assert told(made["C202"].item_id) == []


def test_an_error_found_after_that_day_goes_up_at_once(tickets_of: Any) -> None:
    made = tickets_of(date(2026, 12, 3))
    timers.fire(at(12, 3, 13))
    assert told(made["C201"].item_id) == [(1, "org_qc_lead")]


def test_an_institution_may_have_its_own_number_of_working_days(tickets_of: Any, lake_home: Path) -> None:
    own = lake_home / "parameters" / "deadline_overrides.csv"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(
        "kind,step,case,org_code,valid_from,valid_to,amount,unit,reason\n"
        "quality_ticket,report,report,C201,2026-01-01,,8,workdays,路远\n",
        "utf-8",
    )
    made = tickets_of(DAY)
    timers.fire(at(11, 26))  # the eighth working day before 8 December
    assert told(made["C201"].item_id) == [(1, "org_qc_lead")]
    assert told(made["C202"].item_id) == []
