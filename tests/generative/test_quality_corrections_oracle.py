"""Any order of extracts, hand-ins and kills against a simple oracle: one record, one corrected field."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

import ingestion
from lake import correction_book as book
from lake import ledger
from tests.ingestion_world import content, drop

FIRST = date(2026, 11, 1)
HEAD = "visit_id,archive_id,visited_on,sbp_mmhg,recorded_at\n"


class Oracle:
    """What silver shows and what became of the corrections, by the words of the issue."""

    def __init__(self) -> None:
        self.source: int | None = None
        self.waiting: int | None = None
        self.states: list[str] = []

    def extract(self, value: int) -> None:
        self.source, before = value, self.source
        if self.waiting is None or value == before:
            return
        self.states[-1] = "confirmed" if value == self.waiting else "superseded"
        self.waiting = None

    def hand_in(self, value: int) -> None:
        if self.waiting is not None:
            self.states[-1] = "replaced"
        settled = value == self.source
        self.states.append("confirmed" if settled else "waiting_for_source")
        self.waiting = None if settled else value

    @property
    def shown(self) -> int | None:
        return self.source if self.waiting is None else self.waiting


def extract(day: date, value: int) -> None:
    row = f"V1,A1,2026-10-01,{value},{day} 09:00:00\n"
    drop("public_health", "C201", f"htn_visit_{day}.csv", (HEAD + row).encode(), day)


def hand_in(day: date, shown: int, value: int, digest: str) -> None:
    """A workbook as ``quality.corrections.workbook`` lays it out, with one changed cell."""
    made = Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.append(["visit_id", "sbp_mmhg", book.PROBLEMS, *book.HIDDEN])
    sheet.append(["随访ID", "收缩压", "规则与问题"])
    given = f'{{"visit_id": "V1", "sbp_mmhg": "{shown}"}}'
    sheet.append(["V1", str(value), "", "htn_visit", "C201", "V1", digest, day.isoformat(), given])
    made.save(drop("correction", "C201", "mended.xlsx", b"", day))


def ingest(feed: str, day: date, kill_at: str) -> None:
    if kill_at:
        code = f"import ingestion, datetime; ingestion.ingest_feed('{feed}', datetime.date.fromisoformat('{day}'))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"MEDLAKE_KILL_AT": kill_at}, check=False
        )
        assert done.returncode == -signal.SIGKILL
    ingestion.ingest_feed(feed, day)


def silver() -> tuple[Any, ...]:
    return content("silver/htn_visit", "sbp_mmhg, raw_hash")[0]


@pytest.mark.parametrize("seed", [1])
def test_silver_and_states_follow_the_oracle(lake_home: Path, seed: int) -> None:
    draw, oracle, values = random.Random(seed), Oracle(), (80, 128, 118)
    kills = {3: "ingest.silver.correction", 5: "ingest.overlay.htn_visit", 7: "ingest.written"}
    for n in range(9):
        day = FIRST + timedelta(days=n)
        choice = draw.choice(values)
        if n == 0 or draw.random() < 0.5:
            extract(day, choice)
            ingest("public_health", day, "ingest.written" if n == 3 and seed == 1 else "")
            oracle.extract(choice)
        elif choice != oracle.shown:
            shown, digest = silver()
            hand_in(day, int(shown), choice, digest)
            ingest("correction", day, kills.get(n, "") if seed == 1 else "")
            oracle.hand_in(choice)
        assert silver()[0] == oracle.shown, f"day {n}"
        kept = content("overlay/htn_visit", "handed_in_on, state") if oracle.states else []
        assert [s for _, s in sorted(kept)] == oracle.states, f"day {n}"
    assert ledger.open_batches() == []
    before = silver(), content("overlay/htn_visit", "*")
    for n in range(9):  # every day again
        for feed in ("public_health", "correction"):
            ingestion.ingest_feed(feed, FIRST + timedelta(days=n))
    assert (silver(), content("overlay/htn_visit", "*")) == before


@pytest.mark.parametrize(
    "point",
    ["ingest.silver.correction", "ingest.overlay.htn_visit", "ingest.written", "ingest.committed"],
)
def test_a_killed_hand_in_is_finished(lake_home: Path, point: str) -> None:
    extract(FIRST, 80)
    ingestion.ingest_feed("public_health", FIRST)
    hand_in(FIRST, 80, 128, silver()[1])
    ingest("correction", FIRST, point)
    assert silver()[0] == 128
    assert content("overlay/htn_visit", "state") == [("waiting_for_source",)]
    assert content("silver/correction", "value_before, value_after, cell") == [("80.0", "128.0", "B3")]
    assert ledger.open_batches() == []
