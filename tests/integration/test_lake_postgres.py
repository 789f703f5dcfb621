"""The operational database on a real PostgreSQL: ledger, runs and audit under a real ingest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect

import ingestion
from lake import audit, ledger, ops, runs
from lake.access_tables import audit_person
from tests.ingestion_world import DAY, NEXT, content, drop, oru, patient_csv
from tests.servers.postgres import Postgres
from tests.worklist_world import home

AT = "2026-11-18 08:00:00"


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_server: Postgres) -> Iterator[Path]:
    with home(tmp_path / "var", postgres_server.create("ops")) as folder:
        yield folder
        ops.engine().dispose()


def test_a_feed_is_ingested_with_its_ledger_on_postgresql(on_postgres: Path) -> None:
    drop(
        "his",
        "H101",
        "patient_1.csv",
        patient_csv(f"P1,王小东,M,1958-03-12,{AT}", f"P2,李,女,,{AT}", "P3,bad"),
    )
    first = ingestion.ingest_feed("his", DAY)
    counts = ("received", "loaded", "duplicate", "quarantined")
    assert [first[n] for n in counts] == [3, 2, 0, 1]
    assert ops.engine().dialect.name == "postgresql"
    assert not (on_postgres / "ops").exists()  # nothing went to SQLite beside it
    again = ingestion.ingest_feed("his", DAY)
    assert [again[n] for n in counts] == [3, 2, 0, 1] and again["batch_id"] == first["batch_id"]
    drop("his", "H101", "patient_2.csv", patient_csv(f"P1,王小东,M,1958-03-12,{AT}"), NEXT)
    assert [ingestion.ingest_feed("his", NEXT)[n] for n in counts] == [1, 0, 1, 0]
    rows = ledger.by_feed()
    assert [(r["feed"], r["data_date"], r["received"]) for r in rows] == [("his", NEXT, 1), ("his", DAY, 3)]
    assert all(type(r["received"]) is int for r in rows)
    assert ledger.totals() == {"received": 4, "loaded": 2, "duplicate": 1, "quarantined": 1}
    assert sorted(content("silver/patient", "patient_local_id")) == [("P1",), ("P2",)]
    run = runs.open_run(DAY)
    assert runs.get_run(DAY) == runs.open_run(DAY) == run and "silver/patient" in run.versions
    assert ledger.begin("x", "his", DAY, contract_version="1", writes=[]).received_at.tzinfo is not None


def test_a_batch_of_messages_that_fails_is_undone_on_postgresql(
    on_postgres: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake import tables
    from lake.errors import MedlakeError

    drop(
        "lis",
        "H001",
        "oru_1.hl7",
        oru("M1", "R1", "OBX|1|NM|K^血钾^L^2823-3^^LN||4.1|mmol/L|3.5-5.3|N|||F").encode(),
    )

    def unbalanced(*args: object, **kwargs: object) -> object:
        raise MedlakeError("E105")

    monkeypatch.setattr(ledger, "commit", unbalanced)
    with pytest.raises(MedlakeError, match="E105"):
        ingestion.ingest_feed("lis", DAY)
    monkeypatch.undo()
    assert ingestion.ingest_feed("lis", DAY)["quarantined"] == 0
    assert tables.row_count("silver/lab_report") == 1


def test_the_audit_chain_holds_when_many_write_at_once(on_postgres: Path) -> None:
    def write(number: int) -> int:
        return audit.record(
            "read", actor=f"a{number}", purpose="test", tables=[], fields=[], rows=number, result="ok"
        )

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(pool.map(write, range(80)))
    assert numbers == list(range(1, 81))
    assert audit.verify() == 80


def test_processes_that_start_at_once_make_the_tables_once(on_postgres: Path) -> None:
    code = "from lake import ops; ops.engine(); print('ok')"
    several = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [p.communicate()[0].strip() for p in several] == ["ok"] * 4
    assert set(ops.metadata.tables) <= set(inspect(ops.engine()).get_table_names())


def test_a_forked_process_has_connections_of_its_own(on_postgres: Path) -> None:
    import os

    audit.record("read", actor="parent", purpose="test", tables=[], fields=[], rows=0, result="ok")
    child = os.fork()
    if child == 0:
        try:
            audit.record("read", actor="child", purpose="test", tables=[], fields=[], rows=0, result="ok")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    audit.record("read", actor="parent", purpose="test", tables=[], fields=[], rows=0, result="ok")
    assert audit.verify() == 3


def test_residents_of_an_entry_are_kept_on_postgresql(on_postgres: Path) -> None:
    entry = {
        "action": "export",
        "actor": "li",
        "purpose": "public_health",
        "tables": [],
        "fields": [],
        "rows": 2,
    }
    audit.record(**entry, result="ok", persons=["e2", 'e"1'])
    assert audit.verify() == 1
    with ops.engine().begin() as connection:
        assert sorted(p.empi_id for p in connection.execute(audit_person.select())) == ['e"1', "e2"]
