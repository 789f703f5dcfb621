"""From requests to items, on SQLite and PostgreSQL: once each, whatever happens; several processes at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

import worklist
from lake import audit, ops, work
from lake.errors import MedlakeError
from tests.servers.postgres import Postgres
from tests.worklist_world import NOW, home
from worklist import intake, lease, making, store, tables


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Postgres) -> Iterator[str]:
    url = postgres_server.create("intake") if request.param == "postgresql" else None
    with home(tmp_path / "var", url):
        worklist.migrate()
        yield str(request.param)
        ops.engine().dispose()


def request(number: int, kind: str = "critical_value", **payload: object) -> work.Request:
    return work.Request(
        f"{kind}|H001|R{number}",
        kind,
        "H001",
        "error",
        f"lab_report/H001/R{number}",
        NOW,
        "fast_lane",
        payload,
    )


def count(table: object) -> int:
    with store.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar() or 0)  # type: ignore[arg-type]


def test_each_request_becomes_one_item(place: str) -> None:
    assert work.ask([request(n) for n in range(450)]) == 450
    assert work.ask([request(n) for n in range(400, 500)]) == 50
    first = worklist.take_requests()
    assert (first["taken"], first["known"], first["unknown_kind"]) == (500, 0, [])
    assert worklist.take_requests()["taken"] == 0
    assert count(tables.item) == count(tables.item_event) == count(tables.item_clock) == 500


def test_a_request_that_is_taken_again_is_the_same_item(place: str) -> None:
    """Delivery at least once: the mark was lost (a restored database), the item is there."""
    work.ask([request(n) for n in range(3)])
    worklist.take_requests()
    with store.begin() as connection:
        connection.execute(update(ops.work_request).values(taken_at=None))
    again = worklist.take_requests()
    assert (again["taken"], again["known"]) == (0, 3)
    assert count(tables.item) == 3


def test_an_intake_that_dies_leaves_no_half(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work.ask([request(n) for n in range(5)])

    def dies(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(intake, "_kept", dies)
    with pytest.raises(KeyboardInterrupt):
        worklist.take_requests()
    monkeypatch.undo()
    assert count(tables.item) == 0
    assert worklist.take_requests()["taken"] == 5


def test_an_unknown_kind_waits_and_blocks_nobody(place: str) -> None:
    work.ask([request(1, "of_a_newer_release"), request(2)])
    told = worklist.take_requests()
    assert (told["taken"], told["unknown_kind"]) == (1, ["of_a_newer_release"])
    assert worklist.take_requests()["unknown_kind"] == ["of_a_newer_release"]


def test_a_flood_of_small_things_does_not_delay_a_critical_value(place: str) -> None:
    work.ask([request(n, "unmapped_code") for n in range(900)])
    work.ask([request(1)])
    assert worklist.take_requests(most=200)["taken"] == 200
    assert worklist.items(kind="critical_value") and len(worklist.items(limit=1000)) == 200
    assert [worklist.take_requests(most=400)["taken"] for _ in range(3)] == [400, 301, 0]


def test_receipt_to_item_counts_from_the_platforms_receipt(place: str) -> None:
    requested = NOW + timedelta(seconds=2)
    work.ask([request(1, received_at=NOW.isoformat()), request(2, received_at="nonsense"), request(3)])
    with store.begin() as connection:
        connection.execute(update(ops.work_request).values(requested_at=requested))
    told = worklist.take_requests(NOW + timedelta(seconds=5))
    assert told["latency_s_max"] == 5.0
    seconds = {i.subject[-2:]: i.seconds_to_item for i in worklist.items()}
    assert seconds == {"R1": 5.0, "R2": 3.0, "R3": 3.0}


def test_a_voluntary_report_in_a_request_forgets_its_reporter(place: str) -> None:
    work.ask([request(1, "adverse_event", reporting="voluntary", reporter_name="王报告", text="跌倒")])
    worklist.take_requests()
    with store.begin() as connection:
        payload = connection.execute(select(ops.work_request.c.payload)).scalar()
    assert payload is not None and "王报告" not in payload and "跌倒" in payload
    assert worklist.items()[0].is_anonymous


def test_one_command_sent_by_many_at_once_is_done_once(place: str) -> None:
    work.ask([request(1)])
    worklist.take_requests()
    item = worklist.items()[0]

    def confirm(n: int) -> str:
        data = {"recheck": "ok"}
        return worklist.act(
            item.item_id, "confirm", actor="张", role="lab_technician", data=data, command_key="one"
        ).state

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(confirm, range(16))) == {"confirmed"}
    assert [e.action for e in worklist.log_of(item.item_id)] == ["create", "confirm"]
    assert audit.verify() == 1


def test_of_many_different_commands_at_once_one_wins_and_the_audit_chain_holds(place: str) -> None:
    work.ask([request(n) for n in range(6)])
    worklist.take_requests()
    items = worklist.items()

    def act(n: int) -> str:
        item = items[n % len(items)]
        try:
            worklist.act(
                item.item_id,
                "confirm",
                actor=f"p{n}",
                role="lab_technician",
                data={"recheck": "ok"},
                expected_version=1,
            )
        except MedlakeError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(act, range(24)))
    assert told.count("done") == 6 and set(told) == {"done", "E913"}
    assert audit.verify() == 6


def test_one_of_several_processes_leads(place: str) -> None:
    assert lease.acquire("worklist", "a", NOW, 15)
    assert not lease.acquire("worklist", "b", NOW + timedelta(seconds=14), 15)
    assert lease.acquire("worklist", "a", NOW + timedelta(seconds=14), 15)  # renewed
    assert lease.acquire("worklist", "b", NOW + timedelta(seconds=30), 15)  # a was silent too long
    assert not lease.acquire("worklist", "a", NOW + timedelta(seconds=31), 15)
    lease.release("worklist", "b", NOW + timedelta(seconds=32))
    assert lease.acquire("worklist", "a", NOW + timedelta(seconds=32), 15)


def test_two_processes_that_take_at_once_take_each_request_once(place: str) -> None:
    work.ask([request(n) for n in range(600)])
    code = "import worklist; print(worklist.take_requests()['taken'])"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    taken = [int(p.communicate()[0]) for p in both]
    assert sum(taken) == 600 and all(p.returncode == 0 for p in both)
    assert count(tables.item) == count(tables.item_event) == 600


def test_item_numbers_are_the_same_everywhere() -> None:
    assert making.item_id_of("critical_value|H001|R1") == making.item_id_of("critical_value|H001|R1")
    assert len({making.item_id_of(str(n)) for n in range(1000)}) == 1000
