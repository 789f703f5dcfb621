"""A month of deliveries asked for at once: shown first, worked off by partition, resumed after a kill, balanced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from ingestion import backfill
from lake import ledger, tables
from lake.errors import MedlakeError
from tests.ingestion_world import drop, patient_csv

FIRST = date(2026, 10, 1)
DAYS = 31
LAST = FIRST + timedelta(days=DAYS - 1)
ORGS = ("H101", "C201")


def _month() -> None:
    """Two institutions deliver every day but the 13th; one patient is delivered again each day, newer."""
    for n in range(DAYS):
        day = FIRST + timedelta(days=n)
        if day.day == 13:
            continue
        for org in ORGS:
            rows = [f"P{n},王{n},1,19580312,{day} 08:00:00", f"ALWAYS,李四,2,19600101,{day} 09:00:00"]
            drop("his", org, f"patient_{day:%Y%m%d}.csv", patient_csv(*rows), day)


def test_a_preview_tells_what_would_be_done_and_does_nothing(lake_home: Path) -> None:
    _month()
    rows = backfill.preview(["his"], FIRST, LAST, org_codes=["H101"])
    assert [r["action"] for r in rows].count("load") == DAYS - 1
    assert {r["action"] for r in rows if r["data_date"].day == 13} == {"empty"}
    assert all(r["files"] == 1 for r in rows if r["action"] == "load")
    assert not tables.exists("silver/patient")
    assert len(list(backfill.as_lines(rows))) == DAYS


def test_a_month_runs_unattended_and_balances(lake_home: Path) -> None:
    _month()
    assert backfill.request("r1", ["his"], FIRST, LAST) == ["his"]
    done = backfill.run("r1", "his")
    assert (done["partitions"], done["done"]) == (DAYS, DAYS)
    assert done["received"] == 2 * 2 * (DAYS - 1)
    assert done["received"] == done["loaded"] + done["duplicate"] + done["quarantined"]
    assert (
        tables.row_count("silver/patient") == 2 * (DAYS - 1) + 2
    )  # ALWAYS is one current row an institution
    assert backfill.request("r1", ["his"], FIRST, LAST) == []
    assert {r["action"] for r in backfill.preview(["his"], FIRST, LAST)} == {"skip", "empty"}
    assert backfill.run("r1", "his") == done


def test_one_institution_first_and_the_rest_later(lake_home: Path) -> None:
    _month()
    backfill.request("one", ["his"], FIRST, FIRST, org_codes=["H101"])
    assert backfill.run("one", "his")["received"] == 2
    backfill.request("all", ["his"], FIRST, FIRST)
    assert backfill.run("all", "his")["received"] == 4  # what is in of that date, both deliveries
    assert ledger.totals()["received"] == 4


RUN = "import sys; from ingestion import backfill; print(backfill.run('r', 'his'))"


def test_a_killed_run_goes_on_where_it_was(lake_home: Path) -> None:
    _month()
    backfill.request("r", ["his"], FIRST, FIRST + timedelta(days=4))
    env = os.environ | {"MEDLAKE_KILL_AT": "ingest.written"}
    killed = subprocess.run([sys.executable, "-c", RUN], env=env, check=False)
    assert killed.returncode == -9
    states = [p["state"] for p in backfill.partitions("r")]
    assert states == ["running", *["planned"] * 4]
    done = backfill.run("r", "his")
    assert (done["done"], done["received"], done["loaded"]) == (5, 20, 20)
    assert [p["attempts"] for p in backfill.partitions("r")] == [2, 1, 1, 1, 1]


def test_a_partition_that_fails_is_told_and_the_others_are_filled(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _month()
    backfill.request("r", ["his"], FIRST, FIRST + timedelta(days=2))
    import ingestion

    honest = ingestion.ingest_feed

    def second_day_fails(feed: str, day: date, **given: object) -> dict[str, object]:
        if day == FIRST + timedelta(days=1):
            raise MedlakeError("E105", batch_id="b", received=2, loaded=1, duplicate=0, quarantined=0)
        return honest(feed, day, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(ingestion, "ingest_feed", second_day_fails)
    for attempt in (1, 2, 2):  # capped at two
        with pytest.raises(MedlakeError) as told:
            backfill.run("r", "his", attempts=2)
        assert told.value.code == "E249"
        assert [p["state"] for p in backfill.partitions("r")] == ["done", "failed", "done"]
        assert [p["attempts"] for p in backfill.partitions("r")] == [1, attempt, 1]
    assert json.loads(backfill.partitions("r")[1]["result"]) == {"error": "E105"}


def test_a_period_that_ends_before_it_begins_is_refused(lake_home: Path) -> None:
    with pytest.raises(MedlakeError) as told:
        backfill.preview(["his"], LAST, FIRST)
    assert told.value.code == "E248"
