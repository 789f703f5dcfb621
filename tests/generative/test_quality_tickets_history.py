"""What quality reads out of requests and answers is what the worklist holds, whatever order things happen in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import worklist
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from portal import tickets as doors
from quality import tickets
from quality.tickets import asking, history, waiving
from quality.tickets.counting import Checked
from tests.worklist_world import home

DAY = date(2026, 11, 2)

#: What may happen in an hour: a check that leaves n findings, the worklist's turn, a person's step.
STEPS = st.one_of(
    st.tuples(st.just("check"), st.integers(0, 3)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.sampled_from(["fix", "ask", "agree", "refuse", "assign", "again"]), st.just(0)),
)


@pytest.fixture(scope="module", autouse=True)
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with home(tmp_path_factory.mktemp("history") / "var") as folder:
        yield folder


class World:
    """One rule at one institution of its own, and a clock that only goes forward."""

    def __init__(self, number: int) -> None:
        self.rule_id, self.now, self.day, self.left = (
            f"HTN-{number:05d}",
            datetime(2026, 11, 2, 9, tzinfo=SHANGHAI),
            DAY,
            0,
        )
        self.key = history.request_key(self.rule_id, "C201")

    def check(self, left: int) -> None:
        """A check of the next date, without a lake: the rows that counting would give."""
        self.day, self.left = self.day + timedelta(days=1), left
        self.now += timedelta(days=1)
        self.ask()

    def ask(self) -> int:
        from lake import work

        at = Checked(f"{self.day:%Y%m%d}-x", self.day, self.day.toordinal(), 1)
        row = {
            "rule_id": self.rule_id, "rule_version": 1, "title_zh": "t", "domain": "HTN", "org_code": "C201",
            "severity": "error", "findings": self.left, "new_findings": 0, "first_seen_on": DAY, "table_names": [],
            "finding_ids": [], "doctor_ids": ["D9"],
        }  # fmt: skip
        now = row if self.left else None
        ticket = tickets.tickets().get(self.key)
        if ticket is None:
            return work.ask([asking._request(row, at)]) if now else 0
        held = any(w.rule_id == self.rule_id for w in tickets.waivers(self.day))
        said = asking._settlement(ticket, now, at, is_waived=held)
        return work.settle([said]) if said else 0

    def person(self, step: str) -> None:
        found = [
            i
            for i in worklist.items(kind=tickets.KIND, is_open=None, limit=10_000)
            if i.request_key == self.key
        ]
        if not found:
            return
        item, at = found[0].item_id, self.now.astimezone(UTC)
        given = {"reason_code": "other", "expires_on": (self.day + timedelta(days=2)).isoformat()}
        steps = {
            "fix": ("fix", "responsible_doctor", "D1"),
            "ask": ("ask_waiver", "data_steward", "D1"),
            "agree": ("waive", "org_qc_lead", "lead"),
            "refuse": ("refuse_waiver", "org_qc_lead", "lead"),
            "assign": ("assign_doctor", "data_steward", "steward"),
            "again": ("reopen", "org_qc_lead", "lead"),
        }
        action, role, actor = steps[step]
        try:
            worklist.act(item, action, actor=actor, role=role, reason="有", data=given, at=at)
        except MedlakeError as error:  # not in this state: that is an answer too
            assert error.code == "E904"


_number = iter(range(100_000))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=14))
def test_both_rooms_see_the_same_ticket(steps: list[tuple[str, int]]) -> None:
    world = World(next(_number))
    for what, left in steps:
        world.now += timedelta(hours=1)
        if what == "check":
            world.check(left)
        elif what == "turn":
            worklist.take_requests(world.now.astimezone(UTC))
        else:
            world.person(what)
    world.now += timedelta(hours=1)
    worklist.take_requests(world.now.astimezone(UTC))
    found = [
        i for i in worklist.items(kind=tickets.KIND, is_open=None, limit=10_000) if i.request_key == world.key
    ]
    ticket = tickets.tickets().get(world.key)
    if ticket is None:
        assert not found
        return
    (item,) = found
    assert (ticket.state, ticket.reopened) == (item.state, item.reopened)
    assert {k: v for k, v in ticket.payload.items() if k != "expires_on"} == {
        k: v for k, v in item.payload.items() if k != "expires_on"
    }
    assert (ticket.waived_by is not None) == (item.state == "waived")
    world.ask()  # what a person did since may be news to the check
    worklist.take_requests((world.now + timedelta(hours=1)).astimezone(UTC))
    assert world.ask() == 0, "said already: the same check again says nothing"
    assert tickets.tickets()[world.key].state == worklist.find(item.item_id)[0].state
    for waiver in (w for w in waiving.every() if w.rule_id == world.rule_id):
        assert waiver.approved_by == "lead" != waiver.asked_by == "D1"
        assert waiver.valid_from <= waiver.decided_on
        assert waiver.ended_on is None or waiver.ended_on >= waiver.valid_from
    assert doors.find(item.item_id).item_id == item.item_id
