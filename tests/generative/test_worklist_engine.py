"""Random commands, times and restarts against the rules of the machine: whatever happens, the log tells the state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import worklist
from lake.errors import MedlakeError
from tests.worklist_world import NOW, ask, home, satisfying
from worklist import clocks, store
from worklist.machine import SYSTEM, kinds

NAMES = sorted(kinds())
_number = count()


@pytest.fixture(scope="module", autouse=True)
def one_home() -> Iterator[None]:
    with home(Path(mkdtemp()) / "var"):
        yield


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[tuple[str, int, int, int]]]:
    """A kind and steps: (what, which action, which actor, minutes later)."""
    what = st.sampled_from(["act", "act", "act", "again", "fire", "assign"])
    step = st.tuples(
        what, st.integers(0, 30), st.integers(0, 2), st.sampled_from([0, 1, 11, 45, 600, 6000, 90_000])
    )
    return draw(st.sampled_from(NAMES)), draw(st.lists(step, min_size=1, max_size=14))


@given(histories())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_is_a_walk_through_the_machine(
    history: tuple[str, list[tuple[str, int, int, int]]],
) -> None:
    name, steps = history
    rule = kinds()[name]
    item = ask(name, f"g|{next(_number)}", severity="error")
    now, last = NOW, None
    for number, (what, which, actor, later) in enumerate(steps):
        now += timedelta(minutes=later)
        item = worklist.find(item.item_id)[0]
        if what == "fire":
            worklist.fire(now)
            continue
        if what == "assign":
            if item.is_open:
                worklist.assign(item.item_id, f"p{actor}", actor="boss", role="data_steward", at=now)
            continue
        if what == "again" and last:
            before = worklist.find(item.item_id)
            worklist.act(item.item_id, **last)
            assert worklist.find(item.item_id) == before
            continue
        by = rule.transitions[which % len(rule.transitions)]
        role = next((r for r in by.roles if r != SYSTEM), "reporter")
        command = {
            "action": by.action, "actor": f"p{actor}", "role": role, "reason": "理由", "evidence": ["doc"],
            "data": satisfying(by), "command_key": f"{item.item_id}|{number}", "at": now,
        }  # fmt: skip
        try:
            moved = worklist.act(item.item_id, **command)
        except MedlakeError as error:
            assert error.code in ("E904", "E905", "E909", "E910", "E911", "E912"), error
            assert worklist.find(item.item_id)[0] == item
            continue
        last = command
        assert by.action in {t.action for t in rule.actions(item.state)}
        assert moved.version == item.version + 1
    check(item.item_id)


def check(item_id: str) -> None:
    """The log is one unbroken walk, it ends where the item is, and clocks run exactly where the machine says."""
    item, log = worklist.find(item_id)
    rule = kinds()[item.kind]
    assert [e.seq for e in log] == list(range(1, len(log) + 1))
    assert log[0].to_state == rule.initial and log[-1].to_state == item.state
    for before, after in pairwise(log):
        assert after.from_state == before.to_state
        if after.action in ("escalate", "assign", "take"):
            assert after.to_state == after.from_state
        else:
            by = rule.find(after.action, after.from_state or "")
            assert by is not None and by.target == after.to_state and after.role in by.roles
    assert item.is_open == (not rule.states[item.state].terminal) == (item.closed_at is None)
    assert item.reopened == sum(
        bool(t and t.reopen) for e in log if (t := rule.find(e.action, e.from_state or ""))
    )
    with store.begin() as connection:
        found = clocks.all_of(connection, item_id)
    running = [c for c in found if c["stopped_at"] is None]
    assert sorted(c["step"] for c in running) == sorted(d.step for d in rule.clocks(item.state))
    assert item.due_at == min((c["due_at"] for c in running if c["due_at"]), default=None)
    escalated = [(e.data["step"], e.data["level"], e.data["due_at"]) for e in log if e.action == "escalate"]
    assert len(escalated) == len(set(escalated)) == sum(c["levels_fired"] for c in found)
