"""The engine's promises beyond one feed: doors that share tables, deletes, announced counts, replay, compaction, watch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

import ingestion
from ingestion import routing
from lake import contracts, duck, ledger, ops, tables
from tests.ingestion_world import DAY, NEXT, adt, content, drop, patient_csv

INGEST = "import ingestion, datetime; ingestion.ingest_feed('{feed}', datetime.date(2026, 11, 18))"


def _current(table: str, columns: str) -> list[tuple[object, ...]]:
    with duck.connect() as con:
        duck.create_views(con, ledger.visible())
        return con.execute(f"SELECT {columns} FROM silver.{table} ORDER BY ALL").fetchall()


def _requests(kind: str) -> list[dict[str, object]]:
    with ops.engine().begin() as connection:
        found = connection.execute(select(ops.work_request).where(ops.work_request.c.kind == kind)).all()
    return [dict(r._mapping) for r in found]


def test_a_format_is_an_alias_of_its_feed(lake_home: Path) -> None:
    for alias, feed in routing.FEED_ALIASES.items():
        assert ingestion.ingest_feed(alias, DAY)["feed"] == feed


def test_two_doors_write_one_table_at_the_same_time(lake_home: Path) -> None:
    """Messages by the bus and a file of the same HIS: six writers, one table, nothing lost."""
    for n in range(3):
        drop("hl7v2", "H001", f"adt_{n}.hl7", adt(f"M{n}", f"B{n}").encode())
        drop("his", "H101", f"patient_{n}.csv", patient_csv(f"F{n},王,1,,2026-11-18 08:00:00"))
    codes = [INGEST.format(feed=feed) for feed in ("hl7v2", "his")]
    running = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    assert [p.wait() for p in running] == [0, 0]
    keys = [row[0] for row in _current("patient", "patient_local_id")]
    assert keys == ["B0", "B1", "B2", "F0", "F1", "F2"]
    assert ledger.open_batches() == []


@pytest.mark.parametrize("point", ["ingest.bronze.patient", "ingest.silver.patient", "ingest.written"])
def test_what_a_killed_door_left_is_settled_by_the_next_one(lake_home: Path, point: str) -> None:
    drop("hl7v2", "H001", "adt_1.hl7", adt("M1", "B1").encode())
    drop("his", "H101", "patient_1.csv", patient_csv("F1,王,1,,2026-11-18 08:00:00"))
    env = os.environ | {"MEDLAKE_KILL_AT": point}
    killed = subprocess.run([sys.executable, "-c", INGEST.format(feed="hl7v2")], env=env, check=False)
    assert killed.returncode == -9
    ingestion.ingest_feed("his", DAY)
    assert ledger.open_batches() == []
    assert ("F1",) in _current("patient", "patient_local_id")
    ingestion.ingest_feed("hl7v2", DAY)
    assert _current("patient", "patient_local_id") == [("B1",), ("F1",)]


def _extract(name: str, rows: list[dict[str, str | None]], day: object = DAY) -> None:
    """A database extract with its deletes, as ``medlake extract`` drops it."""
    path = drop("his", "H101", name, b"", day)  # type: ignore[arg-type]
    names = ("PATIENT_LOCAL_ID", "NAME", "SOURCE_UPDATED_AT", "_op")
    pq.write_table(pa.table({n: pa.array([r.get(n) for r in rows], pa.string()) for n in names}), path)


def test_a_deleted_record_is_a_tombstone_that_nobody_sees_and_may_come_back(lake_home: Path) -> None:
    at = "2026-11-18 0{}:00:00"
    _extract(
        "patient_1.parquet",
        [{"PATIENT_LOCAL_ID": k, "NAME": "王", "SOURCE_UPDATED_AT": at.format(1)} for k in ("P1", "P2")],
    )
    ingestion.ingest_feed("his", DAY)
    before = ledger.visible()
    _extract(
        "patient_2.parquet", [{"PATIENT_LOCAL_ID": "P1", "SOURCE_UPDATED_AT": at.format(2), "_op": "D"}], NEXT
    )
    done = ingestion.ingest_feed("his", NEXT)
    assert (done["loaded"], done["quarantined"]) == (1, 0)
    assert _current("patient", "patient_local_id") == [("P2",)]
    assert content("silver/patient", "patient_local_id, is_deleted") == [("P1", True), ("P2", False)]
    with duck.connect() as con:  # Delta keeps history: the run of the day before still sees the record
        duck.create_views(con, before)
        assert con.execute("SELECT name FROM silver.patient WHERE patient_local_id = 'P1'").fetchall() == [
            ("王",)
        ]
    again = [{"PATIENT_LOCAL_ID": "P1", "NAME": "王小", "SOURCE_UPDATED_AT": at.format(3)}]
    _extract("patient_3.parquet", again, NEXT + timedelta(days=1))
    ingestion.ingest_feed("his", NEXT + timedelta(days=1))
    assert _current("patient", "patient_local_id, name") == [("P1", "王小"), ("P2", "王")]


def test_a_delete_that_is_older_than_the_record_changes_nothing(lake_home: Path) -> None:
    _extract(
        "patient_1.parquet",
        [{"PATIENT_LOCAL_ID": "P1", "NAME": "王", "SOURCE_UPDATED_AT": "2026-11-18 05:00:00"}],
    )
    ingestion.ingest_feed("his", DAY)
    late = {"PATIENT_LOCAL_ID": "P1", "SOURCE_UPDATED_AT": "2026-11-18 04:00:00", "_op": "D"}
    _extract("patient_2.parquet", [late], NEXT)
    ingestion.ingest_feed("his", NEXT)
    assert _current("patient", "name") == [("王",)]


def test_a_file_that_is_not_what_was_announced_fails_alone(lake_home: Path) -> None:
    good = drop("his", "H101", "patient_1.csv", patient_csv("P1,王,1,,2026-11-18 08:00:00"))
    good.with_name("patient_1.csv.manifest.json").write_text(json.dumps({"records": 1}))
    bad = drop("his", "C201", "patient_1.csv", patient_csv("P2,李,2,,2026-11-18 08:00:00"))
    bad.with_name("patient_1.csv.manifest.csv").write_text("records,table\n2,patient\n")
    done = ingestion.ingest_feed("his", DAY)
    assert (done["received"], done["loaded"], done["files"]) == (1, 1, 2)
    assert len(done["failed_batches"]) == 1
    assert "E240" in [n.split()[0] for n in done["notices"]]
    assert _current("patient", "patient_local_id") == [("P1",)]
    (taken,) = ledger.announced(str(done["batch_id"]))
    assert (taken.what, taken.announced, taken.received) == ("manifest", 1, 1)
    (refused,) = ledger.announced(done["failed_batches"][0])
    assert (refused.table_name, refused.announced, refused.received) == ("patient", 2, 1)
    assert [(r["org_code"], r["announced_files"], r["refused_files"]) for r in ingestion.status(DAY)] == [
        ("H101", 1, 0)
    ]
    (request,) = _requests("quarantined_batch")
    assert request["org_code"] == "C201"
    again = ingestion.ingest_feed("his", DAY)  # the same, once more: told again, done once
    assert again["failed_batches"] == done["failed_batches"]
    bad.write_bytes(patient_csv("P2,李,2,,2026-11-18 08:00:00", "P3,张,1,,2026-11-18 08:00:00"))
    mended = ingestion.ingest_feed("his", DAY)
    assert (mended["received"], mended["loaded"]) == (3, 3)
    assert [(r["org_code"], r["announced_files"], r["refused_files"]) for r in ingestion.status(DAY)] == [
        ("C201", 1, 1),
        ("H101", 1, 0),
    ]


def test_another_content_than_the_announced_sha256_fails(lake_home: Path) -> None:
    path = drop("his", "H101", "patient_1.csv", patient_csv("P1,王,1,,2026-11-18 08:00:00"))
    path.with_name(path.name + ".manifest.json").write_text(json.dumps({"records": 1, "sha256": "0" * 64}))
    done = ingestion.ingest_feed("his", DAY)
    assert (done["received"], len(done["failed_batches"])) == (0, 1)


def test_quarantined_records_run_again_after_a_contract_was_mended(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("E1,1,,2026-11-18 08:00:00", "E2,2,I10.x00,昨天", "E3,3,I10.x00,2026-11-18 08:00:00")
    text = "ENCOUNTER_ID,SEQ,ICD10_CODE,DX_AT\n" + "\n".join(rows) + "\n"
    drop("his", "C201", "diagnosis_1.csv", text.encode())
    assert ingestion.ingest_feed("his", DAY)["quarantined"] == 2
    listed = ingestion.quarantine_list("his")
    assert {(r["error_code"], r["field"], r["records"]) for r in listed} == {
        ("E210", "icd10_code", 1),
        ("E211", "dx_at", 1),
    }
    assert all(r["replayable"] for r in listed)
    (shown,) = [
        r for r in ingestion.quarantine_show("his", actor="t", purpose="t") if r["field"] == "icd10_code"
    ]
    assert json.loads(shown["raw"])["ENCOUNTER_ID"] == "E1"

    table = contracts.contract("his").tables["diagnosis"]
    mended = tuple(f if f.name != "icd10_code" else replace(f, required=False) for f in table.fields)
    changed = replace(table, fields=mended)
    monkeypatch.setitem(contracts.contract("his").tables, "diagnosis", changed)
    done = ingestion.replay("his", actor="steward")
    assert (done["replayed"], done["loaded"], done["quarantined"], done["left"]) == (2, 1, 1, 0)
    place = content("bronze/his/diagnosis", "encounter_id, source_file, source_line")
    assert ("E1", "his/2026-11-18/C201/diagnosis_1.csv", 2) in place
    assert [r["records"] for r in ingestion.quarantine_list("his")] == [
        1
    ]  # E2 again; the first ones are done
    total = ledger.totals()
    assert total["received"] == total["loaded"] + total["duplicate"] + total["quarantined"] == 5


def test_a_file_nobody_could_read_runs_again_whole(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("his", "C201", "病人_1.csv", patient_csv("P1,王,1,,2026-11-18 08:00:00"))
    assert ingestion.ingest_feed("his", DAY)["failed_files"] == 1
    monkeypatch.setitem(routing.ALIASES, "病人", "patient")
    done = ingestion.replay("his", actor="steward")
    assert (done["replayed"], done["loaded"]) == (1, 1)
    assert _current("patient", "patient_local_id") == [("P1",)]
    assert ingestion.quarantine_list("his") == []
    assert ingestion.replay("his", actor="steward")["replayed"] == 0


def test_many_small_deliveries_become_few_files(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MANY_FILES", 5)
    for n in range(8):
        drop("his", "H101", f"patient_{n}.csv", patient_csv(f"P{n},王,1,,2026-11-18 08:00:00"))
        ingestion.ingest_feed("his", DAY)
    assert len(tables.files("bronze/his/patient")) <= 6
    assert len(_current("patient", "patient_local_id")) == 8
    assert ledger.visible("bronze/")["bronze/his/patient"] == tables.version("bronze/his/patient")


def test_a_feed_that_falls_silent_and_what_was_refused_become_work_once(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv("P1,王,1,,2026-11-18 08:00:00", ",无,1,,坏"))
    ingestion.ingest_feed("his", DAY)
    grace = contracts.contract("his").grace_hours
    (row,) = ingestion.status(DAY)
    assert (row["lag_hours"], row["is_silent"], row["completeness_pct"], row["quarantined"]) == (
        0,
        False,
        100,
        1,
    )
    later = DAY + timedelta(hours=grace) + timedelta(days=2)
    (row,) = ingestion.status(later)
    assert row["is_silent"] and row["completeness_pct"] < 100
    done = ingestion.watch(later)
    assert (done["silent"], done["refused"]) == (1, 1)
    assert done["asked"] >= 2
    assert ingestion.watch(later)["asked"] == 0
    assert len(_requests("silent_feed")) == len(_requests("quarantined_batch")) == 1
    assert tables.row_count("ops/ingest_status") == 1
