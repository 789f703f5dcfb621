"""The whole correction loop on a tiny lake with real ingestion."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ingestion
from lake import ledger, tables
from quality import corrections
from tests.corrections_world import DAY, HEAD, check, deliver, edited, pressures, swap, visit
from tests.ingestion_world import content, drop

D1 = DAY


def four(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result[n] for n in ("received", "loaded", "duplicate", "quarantined"))


def states() -> list[str]:
    return sorted(r["state"] for r in corrections.corrections())


@pytest.fixture
def out(lake_home: Path) -> str:
    """A workbook of a day on which V1's pressures are swapped."""
    deliver(D1, visit(1, 80, 128), visit(2, 130))
    check(D1)
    return str(corrections.out("C201")["path"])


def swap_and_note(sheet: Any, at: dict[str, int]) -> None:
    swap(sheet, at)
    sheet.parent.properties.title = "saved again"


def test_from_finding_to_confirmed(out: str) -> None:
    path = Path(out)
    assert path.stat().st_mode & 0o777 == 0o600
    assert four(edited(path, swap, D1)) == (2, 2, 0, 0)
    assert pressures() == [("V1", 128.0, 80.0), ("V2", 130.0, 80.0)]
    assert states() == ["waiting_for_source"] * 2
    assert {(w["record_key"], w["field"]) for w in corrections.waiting(D1)} == {
        ("V1", "sbp_mmhg"),
        ("V1", "dbp_mmhg"),
    }
    # the next extract has the old value, once unchanged and once in a row that changed elsewhere
    d2, d3, d4 = (D1 + timedelta(days=n) for n in (1, 2, 3))
    deliver(d2, visit(1, 80, 128), visit(2, 131, at=d2))
    deliver(d3, visit(1, 80, 128, at=d3))
    assert pressures() == [("V1", 128.0, 80.0), ("V2", 131.0, 80.0)]
    assert states() == ["waiting_for_source"] * 2
    wrote = corrections.write(d3)
    assert (wrote["records"], wrote["files"], wrote["no_layout"]) == (1, 1, [])
    assert corrections.write(d3)["unchanged"] == 1
    (file,) = Path(wrote["out"]).rglob("*.csv")
    head, row = list(csv.reader(file.open(encoding="utf-8-sig")))
    assert ",".join(head) == HEAD
    assert dict(zip(head, row, strict=True)) | {} == dict(
        zip(head, visit(1, 128, 80, at=d3).split(","), strict=True)
    )
    # the source imports that file and delivers it
    drop("public_health", "C201", "htn_visit_new.csv", file.read_bytes(), d4)
    ingestion.ingest_feed("public_health", d4)
    assert pressures()[0] == ("V1", 128.0, 80.0)
    assert states() == ["confirmed"] * 2
    assert corrections.waiting(d4) == [] and len(corrections.waiting(d3)) == 2
    assert corrections.write(d4)["waiting"] == 0
    assert ledger.open_batches() == []
    assert tables.exists("overlay/htn_visit")


def test_a_third_value_of_the_source_wins_and_is_told(out: str) -> None:
    edited(out, swap, D1)
    deliver(D1 + timedelta(days=1), visit(1, 118, 80, at=D1 + timedelta(days=1)))
    assert pressures()[0] == ("V1", 118.0, 80.0)
    assert states() == ["confirmed", "superseded"]


def test_what_cannot_be_taken_is_refused_by_number_and_cell(out: str) -> None:
    deliver(D1 + timedelta(days=1), visit(2, 131, at=D1 + timedelta(days=1)))

    def wrong(sheet: Any, at: dict[str, int]) -> None:
        swap(sheet, at)
        sheet.cell(3, at["sbp_mmhg"]).value = "高"
        sheet.cell(3, at["visit_way_code"]).value = "外星"
        sheet.cell(3, at["visit_id"]).value = "V9"

    before = pressures()
    assert four(edited(out, wrong, D1)) == (4, 1, 0, 3)
    told = content("quarantine/correction/correction", "error_code, source_sheet, place, reason_zh")
    assert [t[0] for t in told] == ["E435", "E436", "E437"]
    assert all(t[1] in t[3] and t[2].split()[-1] in t[3] for t in told), "sheet and cell are named"
    assert [p[1:] for p in pressures()] == [(80.0, 80.0), before[1][1:]]


def test_another_institution_and_a_changed_record_are_refused(out: str) -> None:
    assert four(edited(out, swap, D1, org="C202")) == (2, 0, 0, 2)
    deliver(D1 + timedelta(days=1), visit(1, 81, 128, at=D1 + timedelta(days=1)))
    assert four(edited(out, swap, D1 + timedelta(days=1))) == (2, 0, 0, 2)
    codes = content("quarantine/correction/correction", "error_code")
    assert codes == [("E433",), ("E433",), ("E434",), ("E434",)]
    assert pressures()[0] == ("V1", 81.0, 128.0) and not tables.exists("overlay/htn_visit")


def test_handing_in_again_changes_nothing(out: str) -> None:
    edited(out, swap, D1)
    held = content("silver/htn_visit"), content("overlay/htn_visit", "*")
    assert ingestion.ingest_feed("correction", D1)["loaded"] == 2
    # another file: a workbook says when it was saved, and a person may save it again
    assert four(edited(out, swap_and_note, D1 + timedelta(days=1)))[1] == 0
    assert (content("silver/htn_visit"), content("overlay/htn_visit", "*")) == held


def test_a_plain_file_of_corrections_is_refused(lake_home: Path) -> None:
    drop("correction", "C201", "correction.csv", b"correction_id,table_name\n1,htn_visit\n", D1)
    assert ingestion.ingest_feed("correction", D1)["failed_files"] == 1
