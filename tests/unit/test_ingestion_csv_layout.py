"""CSV saved from county spreadsheets: headers of two rows, line breaks in labels, totals, UTF-16 in pieces."""

from __future__ import annotations

import codecs
import io
from pathlib import Path

import pyarrow as pa
import pytest

from ingestion.readers import delimited, text
from ingestion.readers.rows import extras
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

HTN = contract("public_health").tables["htn_visit"]


def read(tmp_path: Path, content: bytes, *, window: int = delimited.WINDOW) -> Collected:
    sink = Collected()
    delimited.read(landed(tmp_path / "htn_visit_1.csv", content), HTN, sink, window=window)
    return sink


def test_a_group_over_two_labels_with_no_merge_to_tell(tmp_path: Path) -> None:
    content = "高血压登记表,,,,\n随访ID,档案ID,血压,,录入时间\n,,收缩压,舒张压,\nV1,A1,140,90,x\n"
    row = read(tmp_path, content.encode()).tables["htn_visit"][0]
    assert (row["source_line"], row["sbp_mmhg"], row["dbp_mmhg"], row["recorded_at"]) == (4, "140", "90", "x")


def test_a_line_break_inside_a_label(tmp_path: Path) -> None:
    content = '随访ID,档案ID,"收缩压\n(mmHg)",录入时间\nV1,A1,140,x\nV2,A2,141,y\n'
    rows = read(tmp_path, content.encode("gb18030")).tables["htn_visit"]
    assert [(r["source_line"], r["visit_id"], r["sbp_mmhg"]) for r in rows] == [
        (3, "V1", "140"),
        (4, "V2", "141"),
    ]


def test_totals_and_printed_headers_are_told_with_their_lines(tmp_path: Path) -> None:
    head = "随访ID,档案ID,收缩压,录入时间"
    content = f"{head}\nV1,A1,140,x\n小计,,140,\n{head}\nV2,A2,141,y\n总 计,,281,\n"
    sink = read(tmp_path, content.encode())
    assert [(r["source_line"], r["visit_id"]) for r in sink.tables["htn_visit"]] == [(2, "V1"), (5, "V2")]
    told = [c["what_zh"] for k, c in sink.notices if k == "E226"]
    assert told == ["重复的表头行 1 行未作为记录（第 4 行）；合计/小计行 2 行未作为记录（第 3, 6 行）"]


def test_what_is_left_out_is_told_once_for_the_whole_file(tmp_path: Path) -> None:
    rows = [f"V{i},A,140,x" if i % 5 else "小计,,9,x" for i in range(1, 200)]
    content = "\n".join(["随访ID,档案ID,收缩压,录入时间", *rows]).encode()
    sink = read(tmp_path, content, window=211)
    assert len(sink.tables["htn_visit"]) == 160
    told = [c["what_en"] for k, c in sink.notices if k == "E226"]
    assert told == ["39 rows of totals are no records (rows 6, 11, 16, 21, 26 …)"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [True, False])
def test_utf16_in_windows_with_and_without_its_mark(tmp_path: Path, encoding: str, mark: bool) -> None:
    lines = [
        "随访ID\t档案ID\t收缩压\t录入时间",
        *(f"V{i}\tA{i}\t{100 + i}\t2026-01-05 10:00" for i in range(300)),
    ]
    boms = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    content = (boms[encoding] if mark else b"") + "\r\n".join(lines).encode(encoding)
    sink = read(tmp_path, content, window=501)
    assert [(r["source_line"], r["visit_id"]) for r in sink.tables["htn_visit"]] == [
        (i + 2, f"V{i}") for i in range(300)
    ]
    assert not sink.rejects


@pytest.mark.parametrize("sample", ["随访ID,档案ID\n".encode(), b"a,b\n1,2\n", "姓名".encode("gb18030"), b""])
def test_other_encodings_are_not_taken_for_utf16(sample: bytes) -> None:
    assert text.wide_encoding(sample) is None
    assert b"".join(text.blocks(io.BytesIO(sample), 3)) == sample


def test_a_unit_in_a_csv_header(tmp_path: Path) -> None:
    content = "随访ID;档案ID;体重[斤];身高(cm);备用\nV1;A1;131;170;z\n"
    row = read(tmp_path, content.encode()).tables["htn_visit"][0]
    assert row["_extra"] == '{"#units": {"weight_kg": "斤"}, "备用": "z"}'
    assert row["height_cm"] == "170"


def test_two_blocks_side_by_side_in_csv(tmp_path: Path) -> None:
    content = "随访ID,档案ID,收缩压,,随访ID,档案ID,收缩压\nV1,A1,140,,V2,A2,141\nV3,A3,142,,,,\n"
    rows = read(tmp_path, content.encode()).tables["htn_visit"]
    assert sorted((r["source_line"], r["visit_id"]) for r in rows) == [(2, "V1"), (2, "V2"), (3, "V3")]


def test_extras_escape_what_json_needs_and_leave_out_the_empty() -> None:
    columns = [
        pa.chunked_array([pa.array(['a"b\\', "", None])]),
        pa.chunked_array([pa.array(["换\n行", "", "x"])]),
    ]
    assert extras(['列"1', "列2"], columns, {}, 3).to_pylist() == [
        '{"列\\"1": "a\\"b\\\\", "列2": "换\\n行"}',
        None,
        '{"列2": "x"}',
    ]
    assert extras([], [], {}, 2).to_pylist() == [None, None]
    assert extras([], [], {"weight_kg": "斤"}, 1).to_pylist() == ['{"#units": {"weight_kg": "斤"}}']


def test_a_column_with_excels_text_mark_is_not_plain() -> None:
    from ingestion.stage import is_plain

    assert is_plain(pa.chunked_array([pa.array(["429", "5'"])]))
    assert not is_plain(pa.chunked_array([pa.array(["429", "'429"])]))
