"""The real process: requests become items within seconds, it stops cleanly, and another takes its place when it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import worklist
from ingestion import fastlane
from lake import ops, work
from tests.servers.postgres import Postgres
from tests.worklist_world import home
from worklist import measures

COMMAND = [
    sys.executable,
    "-c",
    "from medlake.commands.worklist import app; app()",
    "run",
    "--json",
    "--poll",
    "0.2",
    "--lease",
    "2",
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with home(tmp_path / "var") as folder:
        worklist.migrate()
        yield folder


@pytest.fixture
def start(place: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(count: int) -> None:
    """Until so many items are there (the test's own limit is the suite's)."""
    while len(worklist.items(limit=10_000)) < count:
        time.sleep(0.05)


def oru_rows(number: int, *, value: str) -> list[dict[str, str]]:
    return [
        {
            "report_id": f"R{number}", "seq": "1", "item_code": "K", "item_name": "血钾", "loinc_code": "2823-3",
            "value_text": value, "unit": "mmol/L", "patient_local_id": f"P{number}",
        }
    ]  # fmt: skip


def stop(process: subprocess.Popen[str]) -> dict[str, object]:
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert process.returncode == 0
    return dict(json.loads(out.strip().splitlines()[-1]))


def test_from_receipt_to_item_within_a_minute_at_p99(start: Callable[[], subprocess.Popen[str]]) -> None:
    """500 results in a row, a fifth of them critical, with the real engine beside: far below 60 s at p99."""
    process = start()
    for number in range(500):
        fastlane.offer(
            "lab_result",
            oru_rows(number, value="7.1" if number % 5 == 0 else "4.1"),
            "H101",
            datetime.now(UTC),
        )
    wait_for(100)
    told = stop(process)
    assert told["taken"] == 100
    (row,) = measures.by_kind()
    assert row["kind"] == "critical_value" and row["items"] == 100
    assert row["p99_seconds_to_item"] < 60
    print("p99 receipt to item, s:", row["p99_seconds_to_item"])


def test_a_killed_leader_is_followed_and_nothing_is_lost_or_doubled(
    start: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    work.ask([_request(n) for n in range(50)])
    wait_for(50)
    second = start()
    first.kill()
    first.wait()
    work.ask([_request(n) for n in range(40, 120)])
    wait_for(120)  # after the dead leader's lease has ended
    told = stop(second)
    assert told["taken"] == 70 and len(worklist.items(limit=1000)) == 120


def _request(number: int) -> work.Request:
    at = datetime.now(UTC)
    return work.Request(
        f"q|{number}", "quarantined_batch", "H001", "warn", f"batch/{number}", at, "ingestion"
    )


def test_timers_fire_in_the_running_process_and_its_decisions_are_dropped(
    place: Path, start: Callable[[], subprocess.Popen[str]]
) -> None:
    past = datetime.now(UTC) - timedelta(hours=2)
    item = worklist.create(
        "cold_chain_alarm",
        org_code="C201",
        subject="s",
        actor="a",
        role="cold_chain_keeper",
        request_key="cc",
        at=past,
    )
    decided = worklist.create(
        "silent_feed", org_code="C201", subject="s", actor="a", role="integration_engineer", request_key="sf"
    )
    worklist.act(decided.item_id, "acknowledge", actor="a", role="integration_engineer")
    process = start()
    while not list((place / "sources").rglob("decision_*.ndjson")):
        time.sleep(0.05)
    told = stop(process)
    assert told["escalated"] == 2 and told["decisions"] == 1
    assert [e.data.get("to_role") for e in worklist.log_of(item.item_id)] == [
        None,
        "vaccine_manager",
        "institution_lead",
    ]


def test_a_lost_database_is_waited_for(tmp_path: Path, postgres_server: Postgres) -> None:
    """PostgreSQL throws everybody out and lets nobody in for a while: the process lives and goes on."""
    url = postgres_server.create("worklist_run")
    with home(tmp_path / "var", url) as folder:
        worklist.migrate()
        process = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
        try:
            work.ask([_request(1)])
            wait_for(1)
            ops.engine().dispose()
            _allow(postgres_server, False)
            log = folder / "logs" / "medlake.jsonl"
            while "worklist_turn_failed" not in log.read_text("utf-8"):
                assert process.poll() is None
                time.sleep(0.1)
            _allow(postgres_server, True)
            work.ask([_request(2)])
            wait_for(2)
            assert stop(process)["taken"] == 2
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            ops.engine().dispose()


def _allow(server: Postgres, allowed: bool) -> None:
    import psycopg

    with psycopg.connect(server.url(driver="postgresql"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE worklist_run ALLOW_CONNECTIONS {'true' if allowed else 'false'}")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'worklist_run'"
        )
