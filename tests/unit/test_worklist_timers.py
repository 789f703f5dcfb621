"""Time: each missed level once and in order however late, over restarts; what the engine does itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

import worklist
from lake import ops
from tests.worklist_world import NOW, ask
from worklist import measures, store, timers
from worklist.store import Event


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def notified(key: str = "k1", **facts: str) -> str:
    """A critical value whose receipt is due at NOW + 10 min."""
    item = ask("critical_value", key, **facts)
    for action, data in (("confirm", {"recheck": "ok"}), ("notify", {"channel": "phone", "notifier": "张"})):
        worklist.act(item.item_id, action, actor="张", role="lab_technician", data=data, at=NOW)
    return item.item_id


def escalations(item_id: str) -> list[Event]:
    return [e for e in worklist.log_of(item_id) if e.action == "escalate"]


def roles(item_id: str) -> list[str]:
    return [e.data["to_role"] for e in escalations(item_id)]


CHAIN = ["attending_doctor", "second_line_doctor", "duty_chief"]


def test_nothing_fires_early_and_each_level_fires_in_its_time(lake_home: Path) -> None:
    item_id = notified()
    for at, expected in ((9.9, 0), (10, 1), (15, 1), (20, 2), (30, 3), (500, 3)):
        worklist.fire(NOW + minutes(at))
        assert roles(item_id) == CHAIN[:expected], at
    assert worklist.find(item_id)[0].owner_role == "duty_chief"


def test_after_a_long_downtime_every_missed_level_fires_once_in_order(lake_home: Path) -> None:
    item_id = notified()
    ops._engine.cache_clear()  # another process, after the outage
    store.forget()
    assert worklist.fire(NOW + timedelta(days=2))["escalated"] == 3
    found = escalations(item_id)
    assert [e.data["to_role"] for e in found] == CHAIN
    planned = [datetime.fromisoformat(e.data["planned_at"]) for e in found]
    assert planned == [NOW + minutes(n) for n in (10, 20, 30)]
    assert {e.at for e in found} == {NOW + timedelta(days=2)}
    assert [e.seq for e in worklist.log_of(item_id)] == [1, 2, 3, 4, 5, 6]
    assert worklist.fire(NOW + timedelta(days=3)) == {"items": 0, "escalated": 0, "timed_out": 0}


def test_the_chain_follows_the_patients_class(lake_home: Path) -> None:
    item_id = notified(patient_class="outpatient")
    worklist.fire(NOW + timedelta(hours=1))
    assert roles(item_id) == ["outpatient_doctor", "medical_affairs"]


def test_whoever_acts_stops_the_clock(lake_home: Path) -> None:
    item_id = notified()
    worklist.act(
        item_id, "receive", actor="护士", role="ward_nurse", data={"readback_ok": "true"}, at=NOW + minutes(9)
    )
    worklist.fire(NOW + minutes(30))
    assert roles(item_id) == []
    worklist.fire(NOW + minutes(39))
    assert roles(item_id) == ["second_line_doctor"]  # the next step's clock, 30 minutes from receipt


def test_unreachable_is_the_same_step_with_the_same_clock(lake_home: Path) -> None:
    item_id = notified()
    worklist.act(
        item_id, "report_unreachable", actor="护士", role="ward_nurse", reason="无人接", at=NOW + minutes(5)
    )
    assert worklist.find(item_id)[0].due_at == NOW + minutes(10)
    worklist.fire(NOW + minutes(10))
    assert roles(item_id) == CHAIN[:1]


def test_a_kill_between_items_loses_and_repeats_nothing(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each item is a transaction: the engine dies in the third one, the next call does the rest."""
    ids = [notified(f"k{n}") for n in range(5)]
    done = 0
    real = timers._escalate

    def dies(*args: object) -> object:
        nonlocal done
        done += 1
        found = real(*args)  # type: ignore[arg-type]
        if done == 3:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(timers, "_escalate", dies)
    with pytest.raises(KeyboardInterrupt):
        worklist.fire(NOW + minutes(10))
    monkeypatch.undo()
    assert sorted(len(roles(i)) for i in ids) == [0, 0, 0, 1, 1]
    assert worklist.fire(NOW + minutes(10))["escalated"] == 3
    assert [roles(i) for i in ids] == [CHAIN[:1]] * 5


def test_on_time_and_medians_are_counted(lake_home: Path) -> None:
    for number, late in enumerate((2, 4, 30)):
        item = ask("critical_value", f"s{number}")
        data = {"recheck": "ok"}
        worklist.act(
            item.item_id, "confirm", actor="张", role="lab_technician", data=data, at=NOW + minutes(late)
        )
    worklist.fire(NOW + minutes(36))
    steps = {s["step"]: s for s in worklist.stats()["steps"]}
    assert steps["confirm"]["done"] == 3
    assert steps["confirm"]["on_time_pct"] == 66.7 and steps["confirm"]["median_minutes"] == 4.0
    assert steps["notify"]["escalated"] == 3 and steps["notify"]["on_time_pct"] is None
    (kind,) = measures.by_kind(NOW + minutes(36))
    assert (kind["items"], kind["open"], kind["open_overdue"], kind["reopened"]) == (3, 3, 3, 0)
    assert worklist.stats("C201") == {"kinds": [], "steps": []}
