"""One JSON array as a file: elements to rows, each with its number; what is no object, and what breaks off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingestion import routing
from ingestion.readers import json_array
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

TABLE = contract("cssd").tables["cssd_trace"]
ROW = {
    "PACKAGE_ID": "B1",
    "循环号": "1",
    "step_code": "wash",
    "STEP_AT": "2026-11-18 08:00:00",
    "TEMP_C": 134.5,
}


def read(path: Path, content: bytes) -> Collected:
    sink = Collected()
    file = landed(path / "cssd_trace_1.json", content)
    assert routing.kind_of(file, "cssd") == "json_array"
    json_array.read(file, TABLE, sink)
    return sink


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_elements_are_rows_in_their_order(
    lake_home: Path, tmp_path: Path, indent: int | None, mark: bytes
) -> None:
    elements = [ROW | {"PACKAGE_ID": f"B{n}", "more": n} for n in range(1, 4)]
    sink = read(tmp_path, mark + json.dumps(elements, indent=indent, ensure_ascii=False).encode())
    rows = sink.tables["cssd_trace"]
    assert [(r["source_line"], r["package_id"], r["cycle_no"]) for r in rows] == [
        (1, "B1", "1"), (2, "B2", "1"), (3, "B3", "1"),
    ]  # fmt: skip
    assert rows[0]["temp_c"] == "134.5" and json.loads(rows[2]["_extra"]) == {"more": 3}
    assert sink.notices == [("E221", {"columns": "more", "sheet": None})] and sink.rejects == []


def test_an_element_that_is_no_object_is_refused_with_its_number(lake_home: Path, tmp_path: Path) -> None:
    sink = read(tmp_path, json.dumps([ROW, 7, ROW | {"PACKAGE_ID": "B2"}]).encode())
    assert [(r.code, r.line, r.raw) for r in sink.rejects] == [("E217", 2, "7")]
    assert [r["source_line"] for r in sink.tables["cssd_trace"]] == [1, 3]


def test_an_array_that_breaks_off_is_refused(lake_home: Path, tmp_path: Path) -> None:
    sink = read(tmp_path, json.dumps([ROW, ROW]).encode()[:-20])
    assert sink.codes() == ["E216"]


def test_lines_stay_with_the_reader_of_lines(lake_home: Path, tmp_path: Path) -> None:
    file = landed(tmp_path / "cssd_trace_1.json", json.dumps(ROW).encode())
    assert routing.kind_of(file, "cssd") == "ndjson"
