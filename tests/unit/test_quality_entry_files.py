"""Rules over any file: the same findings whatever its format, each cell at its line, nothing of the lake touched."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from lake.errors import MedlakeError
from quality import entry

pytestmark = pytest.mark.usefixtures("lake_home")

HEADER = [
    "随访编号",
    "档案编号",
    "随访日期",
    "收缩压(mmHg)",
    "dbp_mmhg",
    "此次随访分类",
    "随访方式",
    "心率",
    "备注列",
]
FIELDS = [
    "visit_id",
    "archive_id",
    "visited_on",
    "sbp_mmhg",
    "dbp_mmhg",
    "visit_class_code",
    "visit_way_code",
    "heart_rate_bpm",
]
ROWS = [
    ["V1", "A1", "2026-11-01", "128", "80", "1", "1", "72", "好"],
    ["V2", "A2", "2026/11/02", "80", "128", "1", "1", "72", "第一行\n第二行"],
    ["V3", "A3", "2026-13-40", "128", "80", "1", "1", "abc", ""],
    ["V4", "A4", "2026-11-03", "128", "80", "1", "1", "", "心率未填"],
]


def labels() -> list[str]:
    """The header in the contract's words: labels, an English name, a unit, and a column that nobody knows."""
    from lake.contracts import table_contract

    known = {f.name: f.label_zh for f in table_contract("htn_visit").fields}
    made = [known[f] for f in FIELDS]
    made[3], made[4] = f"{made[3]}(mmHg)", "dbp_mmhg"
    return [*made, "备注列"]


def as_csv(
    path: Path, *, encoding: str = "utf-8", delimiter: str = ",", header: list[str] | None = None
) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header or labels())
        writer.writerows(ROWS)
    return path


def as_xlsx(path: Path) -> Path:
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet("十一月")
        sheet.write_row(0, 0, ["高血压随访登记"])
        for number, row in enumerate([labels(), *ROWS], start=1):
            sheet.write_row(number, 0, row)
    return path


def as_parquet(path: Path) -> Path:
    columns = zip(*ROWS, strict=True)
    pq.write_table(pa.table({n: list(c) for n, c in zip([*FIELDS, "memo"], columns, strict=True)}), path)
    return path


def lines(path: Path) -> dict[tuple[int, str], list[dict[str, str]]]:
    found: dict[tuple[int, str], list[dict[str, str]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((int(row["line"]), row["rule_id"]), []).append(row)
    return found


def checked(path: Path, out: Path | None = None, **more: Any) -> dict[str, Any]:
    return entry.check_file(path, "htn_visit", out=out, **more)


@pytest.mark.parametrize(("encoding", "delimiter"), [("gbk", ","), ("utf-8-sig", ";"), ("utf-16", "\t")])
def test_a_csv_of_any_encoding_has_its_cells_at_their_lines(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    out = tmp_path / "out.csv"
    told = checked(as_csv(tmp_path / "in.csv", encoding=encoding, delimiter=delimiter), out)
    assert (told["rows"], told["as_of"], told["unread_cells"]) == (4, "2026-11-03", 2)
    assert told["unknown_columns"] == ["备注列"]
    assert told["findings"] == sum(told["by_rule"].values()) == sum(told["by_severity"].values()) > 0
    found = lines(out)
    assert told["cells"] == sum(map(len, found.values()))
    # the third record starts on line 5: the second holds a line break
    assert {r["field"] for r in found[5, "TYPE"]} == {"visited_on", "heart_rate_bpm"}
    swapped = [rows for (line, rule), rows in found.items() if line == 3 and rule != "TYPE"]
    cells = {(r["field"], r["value"]) for rows in swapped for r in rows}
    assert ("sbp_mmhg", "80") in cells
    assert all(r["message_zh"] and r["remedy_zh"] for rows in swapped for r in rows)
    assert {line for line, _ in found} <= {2, 3, 5, 6}


def test_workbook_and_parquet_find_the_same(tmp_path: Path) -> None:
    plain = checked(as_csv(tmp_path / "in.csv"))
    for path, shift in ((as_xlsx(tmp_path / "in.xlsx"), 3), (as_parquet(tmp_path / "in.parquet"), 1)):
        out = tmp_path / f"{path.name}.csv"
        told = checked(path, out)
        same = ("rows", "as_of", "findings", "by_rule", "unread_cells", "evaluated", "not_evaluated")
        assert {k: told[k] for k in same} == {k: plain[k] for k in same}
        assert {r["line"] for r in lines(out)[shift + 2, "TYPE"]} == {str(shift + 2)}


def test_every_output_holds_every_cell(tmp_path: Path) -> None:
    source = as_csv(tmp_path / "in.csv")
    counts = [checked(source, tmp_path / f"out{s}")["cells"] for s in (".csv", ".parquet", ".xlsx")]
    assert len(set(counts)) == 1
    assert pq.read_table(tmp_path / "out.parquet").num_rows == counts[0]
    sheet = CalamineWorkbook.from_path(str(tmp_path / "out.xlsx")).get_sheet_by_index(0).to_python()
    assert len(sheet) == counts[0] + 1
    assert sheet[0][:4] == ["行号", "记录", "机构", "规则"]


def test_the_day_may_be_given_and_a_mapping_names_columns(tmp_path: Path) -> None:
    header = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"]
    source = as_csv(tmp_path / "in.csv", header=header)
    mapping = tmp_path / "map.yaml"
    mapping.write_text("".join(f"{f}: {h}\n" for f, h in zip(FIELDS, header, strict=False)), "utf-8")
    told = checked(source, mapping=mapping, as_of=date(2026, 10, 1))
    assert told["as_of"] == "2026-10-01"
    assert "GEN-002" in told["by_rule"]  # the visits lie ahead of that day
    assert told["by_rule"] != checked(source, mapping=mapping)["by_rule"]


def test_a_row_of_another_width_is_left_out_and_counted(tmp_path: Path) -> None:
    source = as_csv(tmp_path / "in.csv")
    text = source.read_text("utf-8").splitlines()
    source.write_text("\n".join([*text[:2], "V9,A9,2026-11-01", *text[2:]]) + "\n", "utf-8")
    out = tmp_path / "out.csv"
    told = checked(source, out)
    assert (told["rows"], told["skipped_rows"]) == (4, 1)


@pytest.mark.parametrize(
    ("content", "table", "number"),
    [
        ("", "htn_visit", "E445"),
        ("a,b\n1,2\n", "htn_visit", "E446"),
        ("visit_id,visit_id\n1,2\n", "htn_visit", "E446"),
        ("visit_id\nV1\n", "no_such", "E440"),
        ("visit_id\nV1\n", "htn_visit", "E446"),
        ("visit_id\nV1\n", "doctor_quarter", "E440"),
    ],
)
def test_what_cannot_be_checked_is_told(tmp_path: Path, content: str, table: str, number: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text(content, "utf-8")
    with pytest.raises(MedlakeError) as error:
        entry.check_file(source, table)
    assert error.value.code == number


def test_outputs_and_inputs_that_are_none(tmp_path: Path) -> None:
    source = as_csv(tmp_path / "in.csv")
    for bad in (tmp_path / "out.docx", tmp_path / "nowhere" / "out.csv"):
        with pytest.raises(MedlakeError, match="E445"):
            checked(source, bad)
    for name, content in (
        ("x.xlsx", b"no workbook"),
        ("x.parquet", b"PAR0"),
        ("x.csv", b"\xff\xfe\xff\x00\xd8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MedlakeError, match="E445"):
            checked(tmp_path / name)
    with pytest.raises(MedlakeError, match="E445"):
        checked(tmp_path / "absent.csv")
