"""CSV as it comes: encodings, ragged rows, quotes that never close, unknown columns; line numbers stay exact."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from ingestion.readers import delimited, text
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

PATIENT = contract("his").tables["patient"]
HEADER = "PATIENT_LOCAL_ID,NAME,SEX_CODE,BIRTH_DATE,SOURCE_UPDATED_AT"


def read(tmp_path: Path, content: bytes, *, window: int = delimited.WINDOW) -> Collected:
    sink = Collected()
    delimited.read(landed(tmp_path / "patient_1.csv", content), PATIENT, sink, window=window)
    return sink


def lines(sink: Collected) -> list[tuple[int, str, str]]:
    return [(r["source_line"], r["patient_local_id"], r["name"]) for r in sink.tables.get("patient", [])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    content = end.join([HEADER, "P1,王小东,男,1958-03-12,2026-11-18 08:00:00", "P2,䶮㛃,女,1960-01-01,x", ""])
    sink = read(tmp_path, content.encode(encoding))
    assert lines(sink) == [(2, "P1", "王小东"), (3, "P2", "䶮㛃")]
    assert not sink.rejects


def test_a_line_in_another_encoding_is_rejected_with_its_number_and_the_others_stay(tmp_path: Path) -> None:
    rows = [HEADER.encode()] + [f"P{i},王小东,男,,x".encode() for i in range(1, 6)]
    rows[3] = b"P3,\xff\xfe\xfa,1,,x"
    sink = read(tmp_path, b"\n".join(rows))
    assert [line for line, _, _ in lines(sink)] == [2, 3, 5, 6]
    assert [(r.code, r.line) for r in sink.rejects] == [("E206", 4)]
    assert sink.rejects[0].raw == "P3,\\xff\\xfe\\xfa,1,,x"


def test_ragged_rows_are_rejected_where_they_stand(tmp_path: Path) -> None:
    content = f"{HEADER}\nP1,王,1,,x\nP2,李,1\nP3,赵,1,,x,more\n\nP4,钱,1,,x\n"
    sink = read(tmp_path, content.encode())
    assert lines(sink) == [(2, "P1", "王"), (6, "P4", "钱")]
    assert [(r.code, r.line, dict(r.context)) for r in sink.rejects] == [
        ("E207", 3, {"found": 3, "expected": 5}),
        ("E207", 4, {"found": 6, "expected": 5}),
    ]


def test_quoted_separators_and_line_breaks_belong_to_the_field(tmp_path: Path) -> None:
    content = f'{HEADER}\nP1,"王,小东",1,,x\nP2,"两\n行",1,,x\nP3,"说""话""",1,,x\nP4,赵,1,,x\n'
    sink = read(tmp_path, content.encode())
    assert lines(sink) == [(2, "P1", "王,小东"), (3, "P2", "两\n行"), (5, "P3", '说"话"'), (6, "P4", "赵")]


def test_a_quote_that_never_closes_costs_its_own_line_only(tmp_path: Path) -> None:
    content = f'{HEADER}\nP1,王,1,,x\nP2,"李,1,,x\nP3,赵,1,,x\nP4,钱,1,,x\n'
    sink = read(tmp_path, content.encode())
    assert lines(sink) == [(2, "P1", "王"), (4, "P3", "赵"), (5, "P4", "钱")]
    assert [(r.code, r.line, r.raw) for r in sink.rejects] == [("E207", 3, 'P2,"李,1,,x')]


def test_two_stray_quotes_do_not_swallow_the_rows_between(tmp_path: Path) -> None:
    content = f'{HEADER}\nP1,"王,1,,x\nP2,李,1,,x\nP3,赵,1,,x\nP4,"钱,1,,x\nP5,孙,1,,x\n'
    sink = read(tmp_path, content.encode())
    assert [i for _, i, _ in lines(sink)] == ["P2", "P3", "P5"]
    assert [r.line for r in sink.rejects] == [2, 5]


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    sink = read(tmp_path, f'{HEADER}\nP1,5"管"子,1,,x\nP2,李,1,,x\n'.encode())
    assert lines(sink) == [(2, "P1", '5"管"子'), (3, "P2", "李")]


def test_rows_of_separators_only_are_no_records(tmp_path: Path) -> None:
    sink = read(tmp_path, f"{HEADER}\nP1,王,1,,x\n,,,,\n,,,,\n".encode())
    assert len(lines(sink)) == 1
    assert not sink.rejects


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_the_separator_is_found_by_the_header(tmp_path: Path, separator: str) -> None:
    content = f"{HEADER}\nP1,王,1,,x\n".replace(",", separator)
    assert lines(read(tmp_path, content.encode())) == [(2, "P1", "王")]


def test_titles_before_the_header_and_labels_instead_of_names(tmp_path: Path) -> None:
    content = "患者登记表,,,\n制表日期 2026-11-18,,,\n机构内患者ID,姓名,性别（代码）,源更新时间\nP1,王,1,x\n"
    sink = read(tmp_path, content.encode())
    assert lines(sink) == [(4, "P1", "王")]
    assert sink.tables["patient"][0]["sex_code"] == "1"


def test_an_unknown_column_is_kept_and_told(tmp_path: Path) -> None:
    sink = read(tmp_path, f"{HEADER},民族备注\nP1,王,1,,x,白族\nP2,李,1,,x,\n".encode())
    assert [r["_extra"] for r in sink.tables["patient"]] == ['{"民族备注": "白族"}', None]
    assert ("E221", {"columns": "民族备注", "sheet": None}) in sink.notices


def test_a_file_without_a_known_header_is_rejected_whole(tmp_path: Path) -> None:
    sink = read(tmp_path, b"a,b,c\n1,2,3\n")
    assert [(r.code, r.table) for r in sink.rejects] == [("E205", "file")]
    assert not sink.tables


def test_a_header_alone_is_an_empty_delivery(tmp_path: Path) -> None:
    sink = read(tmp_path, (HEADER + "\n").encode())
    assert not sink.tables
    assert not sink.rejects


def test_windows_change_nothing(tmp_path: Path) -> None:
    rows = [f'P{i},"王\n{i}",1,,x' if i % 7 == 0 else f"P{i},王{i},1,,x" for i in range(500)]
    rows[100] = "P100,ragged"
    content = "\n".join([HEADER, *rows]).encode()
    whole, pieces = read(tmp_path, content), read(tmp_path, content, window=97)
    assert lines(whole) == lines(pieces)
    assert [(r.code, r.line) for r in whole.rejects] == [(r.code, r.line) for r in pieces.rejects]
    assert len(lines(whole)) == 499


def test_decode_tells_utf8_from_gb18030() -> None:
    assert text.decode("姓名".encode("gb18030")).encoding == "gb18030"
    assert text.decode("姓名".encode()).encoding == "utf-8"
    assert text.decode(codecs.BOM_UTF8 + b"a").data == b"a"
