"""Workbooks as counties export them. Made with XlsxWriter, read with ours; row numbers are Excel's."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import xlsxwriter

from ingestion.readers import workbook
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

VISIT = contract("public_health").tables["htn_visit"]
HEAD = ["随访ID", "档案ID", "随访日期", "收缩压(mmHg)", "录入时间"]


def book(path: Path, sheets: dict[str, list[list[Any]]], *, merged_title: bool = True) -> Path:
    made = xlsxwriter.Workbook(str(path))
    day = made.add_format({"num_format": "yyyy-mm-dd"})
    for name, rows in sheets.items():
        sheet = made.add_worksheet(name)
        if merged_title and rows:
            sheet.merge_range(0, 0, 0, 4, "高血压患者随访服务记录表")
        for r, row in enumerate(rows):
            for c, cell in enumerate(row):
                if isinstance(cell, (date, datetime)):
                    sheet.write_datetime(r, c, cell, day)
                elif cell is not None:
                    sheet.write(r, c, cell)
    made.close()
    return path


def read(path: Path) -> Collected:
    sink = Collected()
    workbook.read(landed(path), VISIT, sink)
    return sink


def test_title_note_header_sheets_and_row_numbers(tmp_path: Path) -> None:
    rows = [[None], ["导出时间：2026-11-18"], HEAD]
    sheets = {
        "一月": [
            *rows,
            ["V1", "A1", "2026-01-05", "140", "2026-01-05 10:00:00"],
            ["V2", "A2", 46027, 138, None],
        ],
        "二月": [*rows, ["V3", "A1", date(2026, 2, 3), 135.5, datetime(2026, 2, 3, 9, 30)]],
    }
    sink = read(book(tmp_path / "htn_visit_C201.xlsx", sheets))
    got = [(r["source_sheet"], r["source_line"], r["visit_id"]) for r in sink.tables["htn_visit"]]
    assert got == [("一月", 4, "V1"), ("一月", 5, "V2"), ("二月", 4, "V3")]
    last = sink.tables["htn_visit"][2]
    assert (last["visited_on"], last["sbp_mmhg"], last["recorded_at"]) == (
        "2026-02-03",
        "135.5",
        "2026-02-03 09:30:00",
    )
    assert sink.tables["htn_visit"][1]["visited_on"] == "46027"


def test_a_long_number_shows_what_excel_made_of_it(tmp_path: Path) -> None:
    rows = [
        [None],
        HEAD,
        ["V1", 429701195803120017, "2026-01-05", 140, "x"],
        ["V2", "429701195803120017", "x", 1, "x"],
    ]
    sink = read(book(tmp_path / "htn_visit_1.xlsx", {"s": rows}))
    assert [r["archive_id"] for r in sink.tables["htn_visit"]] == [
        "4.29701195803120E+17",
        "429701195803120017",
    ]


def test_an_empty_sheet_and_a_sheet_without_header_are_rejected_the_others_go_on(tmp_path: Path) -> None:
    good = [[None], HEAD, ["V1", "A1", "2026-01-05", 140, "x"]]
    sink = read(book(tmp_path / "htn_visit_1.xlsx", {"空": [], "说明": [["t"], ["请勿修改"]], "好": good}))
    assert [(r.code, r.sheet, r.table) for r in sink.rejects] == [
        ("E208", "空", "file"),
        ("E205", "说明", "file"),
    ]
    assert len(sink.tables["htn_visit"]) == 1


def test_blank_rows_and_the_foot_of_the_form_are_no_records(tmp_path: Path) -> None:
    rows = [[None], HEAD, ["V1", "A1", "2026-01-05", 140, "x"], [], ["合计", 1], ["制表人：张三"]]
    sink = read(book(tmp_path / "htn_visit_1.xlsx", {"s": rows}))
    assert [r["source_line"] for r in sink.tables["htn_visit"]] == [3]


def test_an_unknown_column_is_kept_and_told(tmp_path: Path) -> None:
    rows = [[None], [*HEAD, "乡镇自编号"], ["V1", "A1", "2026-01-05", 140, "x", "乡-7"]]
    sink = read(book(tmp_path / "htn_visit_1.xlsx", {"s": rows}))
    assert sink.tables["htn_visit"][0]["_extra"] == '{"乡镇自编号": "乡-7"}'
    assert "E221" in [code for code, _ in sink.notices]


def test_what_is_no_workbook_is_rejected(tmp_path: Path) -> None:
    for content in (b"PK\x03\x04broken", b"not a workbook", b"\xd0\xcf\x11\xe0" + b"\0" * 600):
        sink = Collected()
        workbook.read(landed(tmp_path / "htn_visit_1.xlsx", content), VISIT, sink)
        assert sink.codes() == ["E209"]
        assert sink.rejects[0].table == "file"


def test_a_truncated_workbook_is_rejected(tmp_path: Path) -> None:
    path = book(tmp_path / "htn_visit_1.xlsx", {"s": [[None], HEAD, ["V1", "A1", "2026-01-05", 140, "x"]]})
    path.write_bytes(path.read_bytes()[:-200])
    sink = read(path)
    assert sink.codes() == ["E209"]
