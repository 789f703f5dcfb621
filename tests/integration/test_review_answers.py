"""What people answer comes back to the room that asked, and what a later run finds out moves the item."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

import worklist
from empi.review import history
from lake import ops, work
from lake.errors import MedlakeError
from tests.servers.postgres import Postgres
from tests.worklist_world import NOW, home
from worklist import store

WHO = {"actor": "王", "role": "empi_steward", "at": NOW}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Postgres) -> Iterator[str]:
    url = postgres_server.create("answers") if request.param == "postgresql" else None
    with home(tmp_path / "var", url):
        worklist.migrate()
        yield str(request.param)
        ops.engine().dispose()


def ask(number: int, kind: str = "empi_review", **payload: object) -> store.Item:
    key = f"{kind}|{number}"
    work.ask([work.Request(key, kind, "H001", "warn", f"match_candidate/{number}", NOW, "empi", payload)])
    worklist.take_requests(NOW)
    return next(i for i in worklist.items(is_open=None, limit=100) if i.request_key == key)


def settled(number: int, action: str, occasion: str = "run1") -> work.Settlement:
    return work.Settlement(f"empi_review|{number}", action, occasion, "后续运行已明确", NOW, "empi")


def test_each_move_by_a_person_is_one_answer(place: str) -> None:
    item = ask(1, empi_id_l="E1")
    worklist.act(item.item_id, "assign_review", command_key="a", **WHO)
    worklist.act(item.item_id, "assign_review", command_key="a", **WHO)
    worklist.act(item.item_id, "propose_merge", reason=" 同一身份证 ", data={"seen": "x"}, **WHO)
    second = WHO | {"actor": "李", "at": NOW + timedelta(hours=1)}
    worklist.act(item.item_id, "apply_merge", **second)
    told = work.answers("empi_review")
    assert [(a.seq, a.action, a.to_state, a.actor, a.reason) for a in told] == [
        (2, "assign_review", "assigned", "王", None),
        (3, "propose_merge", "second_review", "王", "同一身份证"),
        (4, "apply_merge", "applied", "李", None),
    ]
    assert {a.request_key for a in told} == {"empi_review|1"} and told[1].data == {"seen": "x"}
    assert told[0].payload == {"empi_id_l": "E1"} and told[2].answered_at == second["at"]
    assert work.answers("empi_review", NOW + timedelta(minutes=1)) == told[2:]
    assert work.answers("archive_move") == []


def test_a_refused_command_answers_nothing(place: str) -> None:
    item = ask(1)
    with pytest.raises(MedlakeError, match="E904"):
        worklist.act(item.item_id, "not_same", reason="x", **WHO)
    assert work.answers("empi_review") == []


def test_taking_an_item_and_the_engines_doing_are_no_answers(place: str) -> None:
    item = ask(1)
    worklist.assign(item.item_id, "王", **WHO)
    work.settle([settled(1, "settle")])
    worklist.take_requests(NOW)
    assert worklist.find(item.item_id)[0].state == "settled"
    assert work.answers("empi_review") == []


def test_what_a_person_reported_has_nobody_to_answer_to(place: str) -> None:
    item = worklist.create(
        "empi_review", org_code="H001", subject="x/1", actor="王", role="empi_steward", request_key="own"
    )
    worklist.act(item.item_id, "assign_review", **WHO)
    with store.begin() as connection:
        assert connection.execute(select(func.count()).select_from(ops.work_answer)).scalar() == 0


def test_an_anonymous_item_gives_nobody_away(place: str) -> None:
    item = ask(1, "adverse_event", reporting="voluntary", reporter_name="王报告", event_level="3")
    worklist.act(
        item.item_id,
        "triage",
        actor="管理员",
        role="safety_officer",
        data={"category_code": "fall"},
        reason="王报告所述",
        at=NOW,
    )
    (told,) = work.answers("adverse_event")
    assert (told.actor, told.reason, told.action) == ("anonymous", None, "triage")
    assert "王报告" not in repr(told)


def test_a_settlement_is_done_once_and_an_item_can_be_asked_again(place: str) -> None:
    item = ask(1)
    assert work.settle([settled(1, "settle")]) == 1
    assert work.settle([settled(1, "settle")]) == 0
    assert worklist.take_requests(NOW)["unknown_kind"] == []
    worklist.take_requests(NOW)
    found, log = worklist.find(item.item_id)
    assert found.state == "settled" and [e.action for e in log] == ["create", "settle"]
    assert log[-1].reason == "后续运行已明确" and log[-1].actor == "system"
    assert [a.state for a in history.asked()] == ["settled"] and history.decided() == []
    work.settle([settled(1, "ask_again", "run2")])
    worklist.take_requests(NOW + timedelta(minutes=1))
    assert [(a.state, a.origin, a.occurred_at) for a in history.asked()] == [("candidate", "empi", NOW)]
    found, log = worklist.find(item.item_id)
    assert (found.state, found.is_open, found.reopened, len(log)) == ("candidate", True, 1, 3)


def test_a_settlement_that_the_state_does_not_allow_changes_nothing(place: str) -> None:
    item = ask(1)
    work.settle([settled(1, "ask_again"), settled(99, "settle"), settled(1, "no_such_action")])
    worklist.take_requests(NOW)
    assert len(worklist.find(item.item_id)[1]) == 1
    with store.begin() as connection:
        waiting = select(func.count()).where(ops.work_request.c.taken_at.is_(None))
        assert connection.execute(waiting).scalar() == 0


def test_a_settlement_waits_for_the_item_of_its_request(place: str) -> None:
    requests = [
        work.Request(f"empi_review|{n}", "empi_review", "H001", "warn", f"m/{n}", NOW, "empi") for n in (1, 2)
    ]
    work.ask(requests)
    work.settle([settled(1, "settle"), settled(2, "settle")])
    for _ in range(3):
        worklist.take_requests(NOW, chunk=1, most=1)
    worklist.take_requests(NOW)
    assert {i.state for i in worklist.items(is_open=None)} == {"settled"}


def test_items_of_a_ranked_kind_come_in_their_order(place: str) -> None:
    for number, rank in enumerate((5, 3, 4, 1, "x")):
        ask(number, rank_priority=rank)
    found = [(i.priority, i.request_key[-1]) for i in worklist.items(kind="empi_review")]
    assert sorted(found) == [(3, "1"), (3, "3"), (3, "4"), (4, "2"), (5, "0")]
    assert [p for p, _ in found] == [3, 3, 3, 4, 5]
