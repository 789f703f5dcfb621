"""County workbooks at their ugliest: merged headers and cells, totals, months, two blocks, percentages, date systems."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.datetime import MAC_EPOCH

from ingestion.readers import workbook
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

FEED = contract("public_health")
HTN, EXAM, ARCHIVE = (FEED.tables[n] for n in ("htn_visit", "ph_exam", "ph_archive"))


def read(path: Path, table: Any = HTN) -> Collected:
    sink = Collected()
    workbook.read(landed(path), table, sink)
    return sink


def save(path: Path, rows: list[list[Any]], merges: tuple[str, ...] = (), **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    for number, (name, content) in enumerate({"一月": rows, **sheets}.items()):
        sheet = book.active if number == 0 else book.create_sheet()
        assert sheet is not None
        sheet.title = name
        for row in content:
            sheet.append(row)
        if number == 0:
            for merge in merges:
                sheet.merge_cells(merge)
    book.save(path)
    return path


def told(sink: Collected, code: str) -> list[str]:
    return [c.get("what_zh", "") for k, c in sink.notices if k == code]


def test_a_header_of_two_rows_with_a_merged_group(tmp_path: Path) -> None:
    rows = [
        ["高血压患者随访登记表", None, None, None, None],
        ["随访ID", "档案ID", "血压(mmHg)", None, "录入\n时间"],
        [None, None, "收缩压", "舒张压", None],
        ["V1", "A1", 140, 90, "2026-01-05 10:00"],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows, ("A1:E1", "A2:A3", "B2:B3", "C2:D2", "E2:E3")))
    assert sink.tables["htn_visit"] == [
        {
            "visit_id": "V1",
            "archive_id": "A1",
            "sbp_mmhg": "140",
            "dbp_mmhg": "90",
            "recorded_at": "2026-01-05 10:00",
            "source_line": 4,
            "source_sheet": "一月",
        }
    ]


def test_a_header_of_three_rows_where_the_lowest_label_alone_says_nothing(tmp_path: Path) -> None:
    rows = [
        ["体检ID", "档案ID", "体检日期", "血压", None, None, None],
        [None, None, None, "左侧", None, "右侧", None],
        [None, None, None, "收缩压", "舒张压", "收缩压", "舒张压"],
        ["E1", "A1", date(2026, 3, 1), 120, 80, 130, 85],
    ]
    merges = ("A1:A3", "B1:B3", "C1:C3", "D1:G1", "D2:E2", "F2:G2")
    row = read(save(tmp_path / "a.xlsx", rows, merges), EXAM).tables["ph_exam"][0]
    assert [row[n] for n in ("sbp_l_mmhg", "dbp_l_mmhg", "sbp_r_mmhg", "dbp_r_mmhg")] == [
        "120",
        "80",
        "130",
        "85",
    ]
    assert row["exam_on"] == "2026-03-01"


def test_a_label_that_stands_under_two_groups_is_not_guessed(tmp_path: Path) -> None:
    rows = [
        ["随访ID", "档案ID", "上次", None, "本次", None],
        [None, None, "收缩压", "舒张压", "收缩压", "舒张压"],
        ["V1", "A1", 150, 95, 140, 90],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows, ("C1:D1", "E1:F1")))
    row = sink.tables["htn_visit"][0]
    assert "sbp_mmhg" not in row
    assert (
        row["_extra"]
        == '{"上次/收缩压": "150", "上次/舒张压": "95", "本次/收缩压": "140", "本次/舒张压": "90"}'
    )


def test_a_row_of_units_below_the_header_belongs_to_it(tmp_path: Path) -> None:
    rows = [["随访ID", "档案ID", "体重", "收缩压"], [None, None, "斤", "(mmHg)"], ["V1", "A1", 130, 140]]
    sink = read(save(tmp_path / "a.xlsx", rows))
    assert [(r["source_line"], r["weight_kg"], r["_extra"]) for r in sink.tables["htn_visit"]] == [
        (3, "130", '{"#units": {"weight_kg": "斤"}}')
    ]
    assert [c["given"] for k, c in sink.notices if k == "E227"] == ["斤"]


def test_two_rows_of_names_one_in_chinese_one_of_the_source(tmp_path: Path) -> None:
    names = [f.physical_name for f in HTN.fields[:3]]
    rows = [[f.label_zh for f in HTN.fields[:3]], names, ["V1", "A1", "2026-01-05"]]
    assert [r["visit_id"] for r in read(save(tmp_path / "a.xlsx", rows)).tables["htn_visit"]] == ["V1"]


def test_cells_merged_downwards_count_for_every_row_and_are_told(tmp_path: Path) -> None:
    rows = [
        ["随访ID", "档案ID", "收缩压"],
        ["V1", "A1", 140],
        ["V2", None, 141],
        ["V3", None, 142],
        ["V4", "A2", 143],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows, ("B2:B4",)))
    assert [r["archive_id"] for r in sink.tables["htn_visit"]] == ["A1", "A1", "A1", "A2"]
    assert told(sink, "E226") == ["1 列中的纵向合并单元格已向下填充 2 处"]


def test_totals_notes_sections_and_repeated_headers_are_left_out_and_told(tmp_path: Path) -> None:
    head = ["随访ID", "档案ID", "收缩压", "舒张压"]
    rows: list[list[Any]] = [
        head,
        [1, 2, 3, 4],
        ["解放村", None, None, None],
        ["V1", "A1", 140, 90],
        ["合 计", None, 140, 90],
        head,
        ["V2", "A2", 150, 95],
        ["本月总计", None, 290, 185],
        ["填表人：张三", None, "审核：李四", None],
    ]
    rows[1] = ["甲", "乙", 1, 2]
    sink = read(save(tmp_path / "a.xlsx", rows, ("A3:D3",)))
    assert [(r["source_line"], r["visit_id"]) for r in sink.tables["htn_visit"]] == [
        (2, "甲"),
        (4, "V1"),
        (7, "V2"),
    ]
    first, second = told(sink, "E226")
    assert "重复的表头行 1 行未作为记录（第 6 行）" in first
    assert "合计/小计行 2 行未作为记录（第 5, 8 行）" in first
    assert "注释/签章行 1 行未作为记录（第 9 行）" in first
    assert second == "1 个横向合并的分段标题行未作为记录"


def test_a_row_that_numbers_the_columns_is_no_record(tmp_path: Path) -> None:
    labels = ["随访ID", "档案ID", "收缩压", "舒张压", "心率", "身高", "体重"]
    rows = [labels, ["甲", "乙", 1, 2, 3, 4, 5], ["V1", "A1", 1, 2, 3, 4, 5]]
    sink = read(save(tmp_path / "a.xlsx", rows))
    assert [r["visit_id"] for r in sink.tables["htn_visit"]] == ["V1"]
    assert told(sink, "E226") == ["列号行 1 行未作为记录（第 2 行）"]


def test_two_blocks_side_by_side_are_two_records_a_row(tmp_path: Path) -> None:
    head = ["随访ID", "档案ID", "收缩压"]
    rows = [
        [*head, None, *head],
        ["V1", "A1", 140, None, "V9", "A9", 150],
        ["V2", "A2", 141, None, None, None, None],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows))
    assert sorted((r["source_line"], r["visit_id"], r["sbp_mmhg"]) for r in sink.tables["htn_visit"]) == [
        (2, "V1", "140"),
        (2, "V9", "150"),
        (3, "V2", "141"),
    ]
    assert told(sink, "E226") == ["表头并排出现 2 次，每行按 2 条记录读取"]


def test_a_second_table_further_down_is_read_by_its_own_header(tmp_path: Path) -> None:
    rows = [
        ["随访ID", "档案ID", "收缩压"],
        ["V1", "A1", 140],
        [],
        ["档案ID", "随访ID", "舒张压", "收缩压"],
        ["A2", "V2", 90, 150],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows))
    got = [
        (r["source_line"], r["visit_id"], r["archive_id"], r["sbp_mmhg"]) for r in sink.tables["htn_visit"]
    ]
    assert got == [(2, "V1", "A1", "140"), (5, "V2", "A2", "150")]
    assert "本表内有 2 个不同的表头，各按其下方的行读取" in told(sink, "E226")


def test_months_as_columns_are_kept_and_told(tmp_path: Path) -> None:
    rows = [["随访ID", "档案ID", "1月", "2月", "3月"], ["V1", "A1", 140, 141, 142]]
    sink = read(save(tmp_path / "a.xlsx", rows))
    assert sink.tables["htn_visit"][0]["_extra"] == '{"1月": "140", "2月": "141", "3月": "142"}'
    assert any("3 个月份列（宽表）" in t for t in told(sink, "E226"))


@pytest.mark.parametrize("code", ["0%", "0.00%", '0.0"%"', "0.0%;[Red]-0.0%"])
def test_percentages_are_read_as_excel_shows_them(tmp_path: Path, code: str) -> None:
    path = save(
        tmp_path / "a.xlsx", [["体检ID", "档案ID", "糖化血红蛋白"], ["E1", "A1", 0.065], ["E2", "A2", 6.5]]
    )
    book = openpyxl.load_workbook(path)
    sheet = book.active
    assert sheet is not None
    sheet["C2"].number_format = code
    book.save(path)
    assert [r["hba1c_pct"] for r in read(path, EXAM).tables["ph_exam"]] == ["6.5%", "6.5"]


def test_day_numbers_of_the_1904_system_are_shifted_and_told(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.epoch = MAC_EPOCH
    sheet = book.active
    assert sheet is not None
    for row in (
        ["随访ID", "档案ID", "随访日期"],
        ["V1", "A1", date(2026, 1, 5)],
        ["V2", "A2", 44565],
        ["V3", "A3", "2026-01-06"],
    ):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    sink = read(tmp_path / "a.xlsx")
    assert [r["visited_on"] for r in sink.tables["htn_visit"]] == ["2026-01-05", "46027", "2026-01-06"]
    assert told(sink, "E226") == ["工作簿使用 1904 日期系统，1 个日期序列号已换算"]


def test_units_in_the_header_convert_refuse_or_are_doubted(tmp_path: Path) -> None:
    rows = [
        ["随访ID", "档案ID", "体重（斤）", "身高(尺)", "收缩压(kg)", "心率(手测)", "舒张压㎜Hg"],
        ["V1", "A1", 130, 5.1, 140, 70, 90],
    ]
    sink = read(save(tmp_path / "a.xlsx", rows))
    row = sink.tables["htn_visit"][0]
    assert row["_extra"] == '{"#units": {"weight_kg": "斤", "height_cm": "尺"}, "收缩压(kg)": "140"}'
    assert "sbp_mmhg" not in row
    assert (row["heart_rate_bpm"], row["dbp_mmhg"]) == ("70", "90")
    doubts = [(c["column"], c["what_zh"]) for k, c in sink.notices if k == "E227"]
    assert doubts == [
        ("体重（斤）", "已按此换算"),
        ("身高(尺)", "已按此换算"),
        ("收缩压(kg)", "量纲不同，该列未采用"),
        ("心率(手测)", "该写法未登记，按契约单位读取"),
    ]


def test_a_learned_synonym_names_a_column(tmp_path: Path) -> None:
    rows = [["随访ID", "档案ID", "高压", "低压"], ["V1", "A1", 140, 90]]
    row = read(save(tmp_path / "a.xlsx", rows)).tables["htn_visit"][0]
    assert (row["sbp_mmhg"], row["dbp_mmhg"]) == ("140", "90")


def test_a_long_sheet_comes_in_chunks_with_exact_row_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "CHUNK_ROWS", 7)
    rows = [["随访ID", "档案ID", "收缩压"], *([f"V{i}", None if i % 3 else f"A{i}", 140] for i in range(40))]
    merges = tuple(f"B{r}:B{min(r + 2, 41)}" for r in range(2, 41, 3))
    got = read(save(tmp_path / "a.xlsx", rows, merges)).tables["htn_visit"]
    assert [(r["source_line"], r["archive_id"]) for r in got] == [(i + 2, f"A{i - i % 3}") for i in range(40)]


def test_an_archive_with_entities_is_not_expanded(tmp_path: Path) -> None:
    import zipfile

    path = save(tmp_path / "a.xlsx", [["随访ID", "档案ID"], ["V1", "A1"]])
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as target:
        for item in source.namelist():
            data = source.read(item)
            if item == "xl/styles.xml":
                data = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>' + data.split(b"?>", 1)[-1]
            target.writestr(item, data)
    assert [r["visit_id"] for r in read(tmp_path / "b.xlsx").tables["htn_visit"]] == ["V1"]
