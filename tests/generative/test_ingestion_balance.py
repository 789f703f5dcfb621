"""Random dirty deliveries: the ledger balances, counts are those of a simple oracle, and nothing comes twice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

import ingestion
from lake import ledger
from lake.settings import settings as lake_settings
from tests.ingestion_world import DAY, content, drop, patient_csv


@contextmanager
def fresh_lake() -> Iterator[None]:
    """Hypothesis runs many examples within one test, so each opens a lake of its own."""
    before = os.environ.get("MEDLAKE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDLAKE_HOME"] = folder
        lake_settings.cache_clear()
        try:
            yield
        finally:
            if before is None:
                del os.environ["MEDLAKE_HOME"]
            else:
                os.environ["MEDLAKE_HOME"] = before
            lake_settings.cache_clear()


_ID = st.sampled_from(["P1", "P2", "P3", "", "4.29E+17"])
_BIRTH = st.sampled_from(["1958-03-12", "溶血", ""])
_AT = st.sampled_from(["2026-11-18 08:00:00", "2026-11-17 08:00:00", "", "昨天"])
_GOOD = st.tuples(_ID, st.sampled_from(["王", "李"]), st.sampled_from(["男", "9"]), _BIRTH, _AT).map(",".join)
_RAGGED = st.sampled_from(["P1,王", "a,b,c,d,e,f,g"])
_ROWS = st.lists(st.one_of(_GOOD, _GOOD, _GOOD, _RAGGED), max_size=8)
_DELIVERY = st.dictionaries(
    st.sampled_from(["H101/patient_1.csv", "H101/patient_2.csv", "C201/patient_1.csv"]), _ROWS
)


def expected(days: list[dict[str, list[str]]]) -> tuple[dict[str, int], set[tuple[str, str, str]]]:
    """The oracle: one row after the other, a dictionary per key. Returns counts and (org, id, name) of silver."""
    counts = dict.fromkeys(("received", "loaded", "duplicate", "quarantined"), 0)
    silver: dict[tuple[str, str], tuple[str, str]] = {}
    files: dict[tuple[str, tuple[str, ...]], int] = {}
    for delivery in days:
        seen: set[tuple[str, str]] = set()
        start = dict(silver)
        committed = dict(files)
        for place, rows in sorted(delivery.items()):
            org = place.split("/")[0]
            counts["received"] += len(rows)
            if (org, tuple(rows)) in committed:
                counts["duplicate"] += len(rows)
                continue
            files[(org, tuple(rows))] = len(rows)
            for row in rows:
                cells = row.split(",")
                bad = (
                    len(cells) != 5
                    or cells[0] in ("", "4.29E+17")
                    or cells[3] == "溶血"
                    or cells[4] in ("", "昨天")
                )
                if bad:
                    counts["quarantined"] += 1
                    continue
                key = (org, cells[0])
                if (org, row) in seen or (key in start and start[key][1] == row):
                    counts["duplicate"] += 1
                    if key in silver and silver[key][0] == cells[4]:
                        silver[key] = (cells[4], row)
                    continue
                seen.add((org, row))
                counts["loaded"] += 1
                if key not in silver or cells[4] >= silver[key][0]:
                    silver[key] = (cells[4], row)
    return counts, {(org, pid, row.split(",")[1]) for (org, pid), (_, row) in silver.items()}


@given(st.lists(_DELIVERY, min_size=1, max_size=2))
@settings(max_examples=15, deadline=None)
def test_ledger_and_silver_agree_with_the_oracle(days: list[dict[str, list[str]]]) -> None:
    with fresh_lake():
        for number, delivery in enumerate(days):
            day = date(DAY.year, DAY.month, DAY.day + number)
            for place, rows in delivery.items():
                org, name = place.split("/")
                drop("his", org, name, patient_csv(*rows), day)
            got = ingestion.ingest_feed("his", day)
            assert got["received"] == got["loaded"] + got["duplicate"] + got["quarantined"]
            for batch_id in got["batches"]:
                assert all(line.balances for line in ledger.lines_of(batch_id))
        counts, silver = expected(days)
        assert ledger.totals() == counts
        assert set(content("silver/patient", "org_code, patient_local_id, name")) == silver
        assert len(content("bronze/his/patient")) == counts["loaded"]
        assert len(content("quarantine/his/patient")) == counts["quarantined"]
