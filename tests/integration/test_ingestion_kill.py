"""SIGKILL at every named point, then run again: the lake holds what an undisturbed run gives, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ingestion
from ingestion import apply, prepare
from ingestion.plan import Plan
from lake import ledger, runs, tables
from lake.errors import MedlakeError
from lake.settings import settings
from tests.ingestion_world import DAY, NEXT, adt, content, drop, lake_content, patient_csv

POINTS = [
    "ingest.landed",
    "ingest.read",
    "ingest.staged",
    "ingest.begun",
    "ingest.bronze.patient",
    "ingest.quarantine.patient",
    "ingest.silver.patient",
    "ingest.silver.diagnosis",
    "ingest.written",
    "ingest.committed",
]
DIAGNOSIS = (
    "ENCOUNTER_ID,SEQ,ICD10_CODE,DX_AT\nE1,1,I10.x00,2026-11-18 08:00:00\nE1,x,I10.x00,2026-11-18 08:00:00\n"
)


def deliver() -> None:
    """Two days: on the second P1 comes again unchanged, P2 changed, P3 new, one row is bad, one ragged."""
    at = "2026-11-18 08:00:00"
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,男,1958-03-12,{at}", f"P2,李,女,,{at}"))
    rows = (
        f"P1,王,男,1958-03-12,{at}",
        "P2,李四,女,,2026-11-19 08:00:00",
        f"P3,赵,外星,,{at}",
        "P4,,1,坏,x",
        "P5,1",
    )
    drop("his", "H101", "patient_2.csv", patient_csv(*rows), NEXT)
    drop("his", "H001", "adt_2.hl7", (adt("M1", "P1") + adt("M2", "P2")).encode(), NEXT)
    drop("his", "C201", "diagnosis_2.csv", DIAGNOSIS.encode(), NEXT)
    drop("his", "C201", "encounter_2.csv", b"", NEXT)


def run(env: dict[str, str], kill_at: str = "") -> int:
    code = f"import ingestion, datetime; ingestion.ingest_feed('his', datetime.date({NEXT.year}, {NEXT.month}, {NEXT.day}))"
    kill = {"MEDLAKE_KILL_AT": kill_at} if kill_at else {}
    return subprocess.run(
        [sys.executable, "-c", code], env=env | kill, check=False, capture_output=True
    ).returncode


Undisturbed = tuple[dict[str, list[tuple[object, ...]]], dict[str, int]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """What the lake holds, and the ledger's totals, after two days without a kill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("plain")))
        settings.cache_clear()
        deliver()
        ingestion.ingest_feed("his", DAY)
        ingestion.ingest_feed("his", NEXT)
        found = lake_content(), ledger.totals()
    settings.cache_clear()
    yield found


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_and_a_rerun_give_the_same_tables(
    undisturbed: Undisturbed, lake_home: Path, point: str
) -> None:
    expected, total = undisturbed
    deliver()
    ingestion.ingest_feed("his", DAY)
    before = ledger.visible()
    env = dict(os.environ)
    assert run(env, kill_at=point) == -signal.SIGKILL
    if point != "ingest.committed":
        assert ledger.visible() == before, "nothing of a killed batch is visible"
        assert runs.open_run(NEXT).versions == before
    assert run(env) == 0
    assert lake_content() == expected
    assert ledger.totals() == total
    assert ledger.open_batches("his") == []
    assert list((settings().home / "staging" / "his").iterdir()) == []


def test_an_error_while_writing_leaves_nothing_visible_and_a_rerun_succeeds(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver()
    ingestion.ingest_feed("his", DAY)
    before, rows = ledger.visible(), content("silver/patient")
    real = tables.append

    def full_disk(name: str, *given: object, **named: object) -> int:
        if name == "silver/diagnosis":
            raise OSError(28, "No space left on device")
        return real(name, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(apply.tables, "append", full_disk)
    with pytest.raises(OSError, match="No space left"):
        ingestion.ingest_feed("his", NEXT)
    assert content("silver/patient") == rows
    assert set(ledger.visible()) == set(before)
    assert not tables.exists("silver/diagnosis")
    monkeypatch.undo()
    monkeypatch.setenv("MEDLAKE_HOME", str(lake_home))
    settings.cache_clear()
    again = ingestion.ingest_feed("his", NEXT)
    assert again["batch_id"].endswith(".2")
    assert again["received"] == again["loaded"] + again["duplicate"] + again["quarantined"]
    assert len(content("silver/diagnosis")) == 1


def test_a_batch_that_does_not_balance_is_undone(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver()
    real = prepare.plans.save

    def lossy(plan: Plan) -> None:
        """Count one row more than was written."""
        plan.lines = [replace(line, received=line.received + 1) for line in plan.lines]
        real(plan)

    monkeypatch.setattr(prepare.plans, "save", lossy)
    with pytest.raises(MedlakeError) as caught:
        ingestion.ingest_feed("his", DAY)
    assert caught.value.code == "E105"
    assert ledger.visible() == {}
    assert tables.names() == []


def test_two_processes_at_once_take_turns(lake_home: Path) -> None:
    deliver()
    ingestion.ingest_feed("his", DAY)
    env = dict(os.environ)
    code = "import ingestion, datetime; print(ingestion.ingest_feed('his', datetime.date(2026, 11, 19))['received'])"
    both = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) for _ in range(2)]
    received = [int(p.communicate()[0]) for p in both]
    assert received[0] == received[1] == 10
    assert len(ledger.committed("his", NEXT)) == 1
