"""The workbook an officer opens: what each cell is, what the note says, and that the bytes repeat."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest

from lake.errors import MedlakeError
from products.export_query import Header
from products.export_sheet import guard, sheet_name, write_workbook

HEADERS = [
    Header("identity.name", "姓名", "text", 4, "", ""),
    Header("identity.id_no", "证件号码", "text", 4, "", ""),
    Header("last_sbp_mmhg", "收缩压", "number", 3, "mmHg", ""),
    Header("carded_on", "建卡日期", "date", 3, "", ""),
    Header("seen_at", "就诊时间", "instant", 3, "", ""),
    Header("is_controlled", "血压控制", "flag", 3, "", ""),
]
UGLY = [
    ("=1+1", "429701195003040018", 151.5, date(2026, 1, 2), datetime(2026, 1, 2, 8, 30), "是"),
    ("@SUM(A1)", "00123", 90, None, None, None),
    ("\t王小东", "-7", None, date(1901, 1, 1), None, "否"),
    ("王<&>\"'小\x07东", "+86139", 0, date(2026, 12, 31), None, "是"),
    ("https://example.org", "", 1e-3, None, None, "否"),
]


def facts(written: int, sheets: int) -> list[tuple[str, str]]:
    return [
        ("计划行数", str(len(UGLY))),
        ("实际行数", str(written)),
        ("数据工作表", str(sheets)),
        ("用途", "=danger"),
    ]


def make(path: Path, rows: list[tuple] = UGLY, rows_per_sheet: int = 1_048_576) -> openpyxl.Workbook:
    write_workbook(path, HEADERS, iter(rows), title_zh="名册", facts=facts, rows_per_sheet=rows_per_sheet)
    return openpyxl.load_workbook(path)


def test_cells_are_what_they_should_be(tmp_path: Path) -> None:
    sheet = make(tmp_path / "a.xlsx")["名册"]
    assert [c.value for c in sheet[1]] == [h.label_zh for h in HEADERS]
    assert sheet.max_row == 1 + len(UGLY)
    assert sheet["A2"].value == "'=1+1" and sheet["A2"].data_type == "s"
    assert sheet["B2"].value == "429701195003040018" and sheet["B2"].data_type == "s"
    assert sheet["B3"].value == "00123"
    assert sheet["C2"].value == 151.5 and sheet["C4"].value is None
    assert sheet["D2"].value == datetime(2026, 1, 2) and sheet["D2"].number_format == "yyyy-mm-dd"
    assert sheet["E2"].value == datetime(2026, 1, 2, 8, 30)
    assert sheet["F2"].value == "是" and sheet["F3"].value is None
    assert sheet["A6"].hyperlink is None


def test_no_cell_is_a_formula_and_none_becomes_one_through_csv(tmp_path: Path) -> None:
    book = make(tmp_path / "a.xlsx")
    text = io.StringIO()
    writer = csv.writer(text)
    for sheet in book:
        for row in sheet.iter_rows():
            assert all(cell.data_type != "f" for cell in row)
            writer.writerow([cell.value for cell in row])
    for row in csv.reader(io.StringIO(text.getvalue())):
        assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in row)


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_guard(text: str) -> None:
    assert guard(text) == "'" + text


@pytest.mark.parametrize("text", ["", "王", "1-2", " =1", "a=b"])
def test_guard_leaves_plain_text(text: str) -> None:
    assert guard(text) == text


def test_header_stays_in_sight_and_can_be_filtered(tmp_path: Path) -> None:
    sheet = make(tmp_path / "a.xlsx")["名册"]
    assert sheet.freeze_panes == "A2" and sheet.auto_filter.ref == "A1:F6"
    assert sheet["A1"].font.bold and sheet["A1"].fill.start_color.rgb == "FF0F5C63"
    assert sheet.column_dimensions["B"].width > 18


def test_note_sheet_states_rows_and_columns(tmp_path: Path) -> None:
    note = make(tmp_path / "a.xlsx")["导出说明"]
    lines = {row[0].value: row[1].value for row in note.iter_rows(min_row=3, max_row=6)}
    assert lines == {"计划行数": "5", "实际行数": "5", "数据工作表": "1", "用途": "'=danger"}
    listed = [[c.value for c in row[:5]] for row in note.iter_rows(min_row=9)]
    assert listed[2] == ["3", "收缩压", "last_sbp_mmhg", "3", "mmHg"]
    assert len(listed) == len(HEADERS)


def test_a_full_sheet_is_followed_by_another(tmp_path: Path) -> None:
    rows = [(f"n{i}", str(i), i, None, None, None) for i in range(7)]
    book = make(tmp_path / "a.xlsx", rows, rows_per_sheet=4)
    assert book.sheetnames == ["名册", "名册(2)", "名册(3)", "导出说明"]
    found = [r[1].value for name in book.sheetnames[:3] for r in book[name].iter_rows(min_row=2)]
    assert found == [str(i) for i in range(7)]
    assert [book[n].max_row for n in book.sheetnames[:3]] == [4, 4, 2]


def test_exactly_full_does_not_open_an_empty_sheet(tmp_path: Path) -> None:
    rows = [(f"n{i}", str(i), i, None, None, None) for i in range(3)]
    assert make(tmp_path / "a.xlsx", rows, rows_per_sheet=4).sheetnames == ["名册", "导出说明"]


def test_no_row_is_still_a_workbook(tmp_path: Path) -> None:
    book = make(tmp_path / "a.xlsx", [])
    assert book["名册"].max_row == 1 and book["导出说明"]["B4"].value == "0"


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path / "a.xlsx")
    make(tmp_path / "b.xlsx")
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def test_a_text_that_excel_would_drop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError) as error:
        make(tmp_path / "a.xlsx", [("x" * 32_768, "1", 1, None, None, None)])
    assert error.value.code == "E627" and "姓名" in error.value.zh and "xxx" not in str(error.value)


def test_no_row_of_a_person_is_written_outside_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "does-not-exist"))
    make(tmp_path / "a.xlsx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xlsx"]


def test_sheet_names_are_legal() -> None:
    assert sheet_name("a/b:c*d?e[f]g'h\\", 1) == "abcdefgh"
    assert sheet_name("", 2) == "数据(2)"
    assert len(sheet_name("长" * 40, 12)) <= 31
