"""Storage that fails, and processes that die, at the places where a record is lost or doubled most easily."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError

import ingestion
from ingestion import locking, run
from lake import kill, ledger, tables
from lake.errors import MedlakeError
from tests.ingestion_world import DAY, NEXT, adt, content, drop, patient_csv

AT = "2026-11-18 08:00:00"
KEYS = "patient_local_id"
ONE = pa.table({"a": ["x"]})


def _two_days() -> None:
    """P1 is in, P2 waits in the drop of the next day."""
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,1,,{AT}"))
    ingestion.ingest_feed("his", DAY)
    drop("his", "H101", "patient_2.csv", patient_csv(f"P2,李,1,,{AT}"), NEXT)


def _both_are_in() -> None:
    assert content("bronze/his/patient", KEYS) == content("silver/patient", KEYS) == [("P1",), ("P2",)]
    assert ledger.totals()["loaded"] == 2
    assert ledger.open_batches() == []


DIES_UNDOING = """
import errno, os, signal, ingestion
from datetime import date
from lake import kill
def storage(when, table):
    if (when, table) == ("before", "silver/patient"):
        raise OSError(errno.ENOSPC, "No space left on device")
    if (when, table) == ("after", "bronze/his/patient"):
        seen.append(table)
        if len(seen) == 2:  # the append, then the restore
            os.kill(os.getpid(), signal.SIGKILL)
seen = []
kill.on_storage = storage
ingestion.ingest_feed("his", date(2026, 11, 19))
"""


def test_a_process_that_dies_while_it_undoes_a_batch_loses_nothing(lake_home: Path) -> None:
    _two_days()
    assert subprocess.run([sys.executable, "-c", DIES_UNDOING], check=False).returncode == -signal.SIGKILL
    (dead,) = ledger.open_batches()
    assert ingestion.recover("his")["undone"] == [dead.batch_id]
    assert content("bronze/his/patient", KEYS) == content("silver/patient", KEYS) == [("P1",)]
    ingestion.ingest_feed("his", NEXT)
    _both_are_in()


@pytest.mark.parametrize("landed", [False, True])
def test_a_conflict_after_the_rows_were_read_loses_and_doubles_nothing(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """Rows that come from a reader are there once: a second attempt with it would write none and call them done."""
    _two_days()
    real, failed = tables.write_deltalake, []

    def lost(path: str, data: Any, **named: Any) -> None:
        if path.endswith("bronze/his/patient") and not failed:
            failed.append(path)
            assert isinstance(data, pa.RecordBatchReader)
            real(path, data, **named) if landed else data.read_all()
            raise CommitFailedError("transaction failed: concurrent commit")
        real(path, data, **named)

    monkeypatch.setattr(tables, "write_deltalake", lost)
    if landed:
        ingestion.ingest_feed("his", NEXT)
    else:
        with pytest.raises(MedlakeError, match="E108"):
            ingestion.ingest_feed("his", NEXT)
        assert content("bronze/his/patient", KEYS) == [("P1",)]
        ingestion.ingest_feed("his", NEXT)
    assert failed
    _both_are_in()


@pytest.mark.parametrize("error", [CommitFailedError("commit: no answer"), TimeoutError("no answer")])
def test_a_commit_whose_answer_is_lost_is_found_by_its_transaction(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tables.append("ops/x", ONE, txn=("first", 1))
    raised: list[str] = []

    def storage(when: str, table: str) -> None:
        if when == "after" and not raised:
            raised.append(table)
            raise error

    monkeypatch.setattr(kill, "on_storage", storage)
    tables.append("ops/x", ONE, txn=("second", 1))
    assert raised == ["ops/x"]
    assert tables.row_count("ops/x") == 2


def test_storage_that_stays_away_is_the_callers_error(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("ops/x", ONE, txn=("first", 1))
    attempts: list[str] = []

    def storage(when: str, table: str) -> None:
        if when == "before":
            attempts.append(table)
            raise ConnectionError("reset")

    monkeypatch.setattr(kill, "on_storage", storage)
    with pytest.raises(ConnectionError):
        tables.append("ops/x", ONE, txn=("second", 1))
    assert len(attempts) == 4
    with pytest.raises(ConnectionError):  # nobody could tell whether it landed: not tried again
        tables.append("ops/x", ONE)
    assert len(attempts) == 5


def test_what_a_killed_batch_left_to_tidy_is_tidied_while_its_tables_are_held(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction shows a table's newest version: another door's half batch must not be in it."""
    _two_days()
    env = os.environ | {"MEDLAKE_KILL_AT": "ingest.committed"}
    code = "import ingestion, datetime; ingestion.ingest_feed('his', datetime.date(2026, 11, 19))"
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -signal.SIGKILL
    held: list[set[str]] = []
    taken: list[str] = []
    real_writing, real_apply = locking.writing, run.apply.apply

    def writing(written: Any) -> Any:
        taken.extend(written)
        return real_writing(taken)

    def apply(plan: Any) -> Any:
        held.append(locking.tables_of(plan.writes()) <= locking.tables_of(taken))
        return real_apply(plan)

    monkeypatch.setattr(run.locking, "writing", writing)
    monkeypatch.setattr(run.apply, "apply", apply)
    ingestion.recover("his")
    assert held == [True]
    _both_are_in()


def test_quarantine_shows_what_is_committed_only(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f",无,1,,{AT}"))
    ingestion.ingest_feed("his", DAY)
    (listed,) = ingestion.quarantine_list("his")
    drop("his", "H101", "patient_2.csv", patient_csv(f",也无,1,,{AT}"), NEXT)
    env = os.environ | {"MEDLAKE_KILL_AT": "ingest.written"}
    code = "import ingestion, datetime; ingestion.ingest_feed('his', datetime.date(2026, 11, 19))"
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -signal.SIGKILL
    assert ingestion.quarantine_list("his") == [listed]
    ingestion.recover("his")
    assert [r["records"] for r in ingestion.quarantine_list("his")] == [2]


def test_a_delete_that_was_refused_is_a_delete_when_it_runs_again(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from lake import contracts

    table = contracts.contract("his").tables["diagnosis"]
    strict = tuple(replace(f, type="date") if f.name == "encounter_id" else f for f in table.fields)
    drop("his", "C201", "diagnosis_1.csv", f"ENCOUNTER_ID,SEQ,ICD10_CODE,DX_AT\nE1,1,I10.x00,{AT}\n".encode())
    ingestion.ingest_feed("his", DAY)
    gone = {"ENCOUNTER_ID": ["E1"], "SEQ": ["1"], "_op": ["D"]}
    path = drop("his", "C201", "diagnosis_2.parquet", b"", NEXT)
    pq.write_table(pa.table({n: pa.array(v, pa.string()) for n, v in gone.items()}), path)
    with monkeypatch.context() as patch:
        patch.setitem(contracts.contract("his").tables, "diagnosis", replace(table, fields=strict))
        assert ingestion.ingest_feed("his", NEXT)["quarantined"] == 1
    assert ingestion.replay("his", actor="steward")["loaded"] == 1
    assert content("silver/diagnosis", "encounter_id, is_deleted") == [("E1", True)]


def test_compaction_leaves_large_files_as_they_are(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_FILE_BYTES", 200_000)
    monkeypatch.setattr(tables, "_SMALL_BYTES", 100_000)
    monkeypatch.setattr(tables, "_MANY_FILES", 5)
    chance = random.Random(0)
    tables.append("ops/x", pa.table({"a": [chance.randbytes(150).hex() for _ in range(4000)]}))
    (large, *_) = sorted(tables.files("ops/x"), key=lambda f: -int(f["size_bytes"]))
    assert large["size_bytes"] > 200_000
    for n in range(6):
        tables.append("ops/x", pa.table({"a": [str(n)]}))
    before = tables.version("ops/x")
    assert tables.compact("ops/x")
    after = tables.files("ops/x")
    assert large["path"] in {f["path"] for f in after}
    assert len(after) < 6
    assert tables.row_count("ops/x") == tables.row_count("ops/x", before) == 4006


#: Where a worker of the schedule below may die; an empty one: it does not.
POINTS = ["ingest.landed", "ingest.staged", "ingest.begun", "ingest.bronze.patient", "ingest.silver.patient"]
POINTS += ["ingest.written", "ingest.committed", ""]


@pytest.mark.parametrize("seed", [1, 2])
def test_two_workers_on_the_same_patients_that_are_killed_again_and_again(lake_home: Path, seed: int) -> None:
    """One by the bus, one by files: the same institution's patients, each version once. The newest stamp wins."""
    chance = random.Random(seed)
    newest: dict[str, tuple[datetime, str]] = {}
    sent = 0
    minutes = chance.sample(range(600), 60)

    def version(number: int) -> tuple[str, str, datetime]:
        key, name = f"B{chance.randint(1, 4)}", f"王{number}"
        at = datetime(2026, 11, 18) + timedelta(minutes=minutes.pop())
        newest[key] = max(newest.get(key, (datetime.min, "")), (at, name))
        return key, name, at

    for turn in range(3):
        rows = [version(turn * 10 + n) for n in range(4)]
        text = patient_csv(*[f"{key},{name},1,,{at}" for key, name, at in rows])
        drop("his", "H001", f"patient_{turn}.csv", text)
        messages = [version(turn * 10 + 5 + n) for n in range(3)]
        bus = "".join(
            adt(f"M{turn}{n}", key, name, updated=f"{at:%Y%m%d%H%M%S}")
            for n, (key, name, at) in enumerate(messages)
        )
        drop("hl7v2", "H001", f"adt_{turn}.hl7", bus.encode())
        sent += len(rows)
        workers = []
        for feed in ("his", "hl7v2"):
            env = os.environ | {"MEDLAKE_KILL_AT": chance.choice(POINTS)}
            code = f"import ingestion, datetime; ingestion.ingest_feed('{feed}', datetime.date(2026, 11, 18))"
            workers.append(subprocess.Popen([sys.executable, "-c", code], env=env))
        assert {w.wait() for w in workers} <= {0, -signal.SIGKILL}
    his, bus_done = ingestion.ingest_feed("his", DAY), ingestion.ingest_feed("hl7v2", DAY)
    assert content("silver/patient", "patient_local_id, name") == sorted(
        (key, name) for key, (_, name) in newest.items()
    )
    assert len(content("silver/hl7v2_message", "message_control_id")) == 9
    places = content("bronze/his/patient", "source_file, source_line, patient_local_id")
    assert len(set(places)) == len(places)
    total = ledger.totals()
    assert his["received"] == sent
    assert total["received"] == sum(total[n] for n in ("loaded", "duplicate", "quarantined"))
    assert len(places) == his["tables"]["patient"]["loaded"] + bus_done["tables"]["patient"]["loaded"]
    assert ledger.open_batches() == []
