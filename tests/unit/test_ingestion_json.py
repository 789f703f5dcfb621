"""NDJSON and FHIR: broken lines keep their number, unknown keys are kept, resources stay whole."""

from __future__ import annotations

import json
from pathlib import Path

from ingestion.readers import fhir, ndjson
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

READING = contract("iot").tables["vital_reading"]
RESOURCE = contract("fhir").tables["fhir_resource"]
GOOD = '{"device":"D1","seq":%d,"metric":"8480-6","value":121.5,"unit":"mmHg","ts_device":"2026-11-18T08:00:00+08:00"}'


def read(tmp_path: Path, content: bytes, *, window: int = ndjson.WINDOW) -> Collected:
    sink = Collected()
    ndjson.read(landed(tmp_path / "telemetry_1.ndjson", content), READING, sink, window=window)
    return sink


def test_lines_become_text_with_their_numbers(tmp_path: Path) -> None:
    content = ("\ufeff" + GOOD % 1 + "\r\n\n" + GOOD % 2).encode()
    rows = read(tmp_path, content).tables["vital_reading"]
    assert [(r["source_line"], r["seq"], r["value"]) for r in rows] == [(1, "1", "121.5"), (3, "2", "121.5")]


def test_broken_foreign_and_undecodable_lines_are_rejected_where_they_stand(tmp_path: Path) -> None:
    lines = [GOOD % 1, '{"device":"D1","seq":', "[1,2]", GOOD % 4, '"text"']
    content = "\n".join(lines).encode() + b'\n{"device":"\xff"}\n'
    sink = read(tmp_path, content)
    assert [r["source_line"] for r in sink.tables["vital_reading"]] == [1, 4]
    assert sorted((r.line, r.code) for r in sink.rejects) == [
        (2, "E216"),
        (3, "E217"),
        (5, "E217"),
        (6, "E206"),
    ]
    assert next(r for r in sink.rejects if r.line == 2).raw == '{"device":"D1","seq":'


def test_unknown_keys_are_kept_and_told_once(tmp_path: Path) -> None:
    line = GOOD % 1
    sink = read(tmp_path, "\n".join([line, line[:-1] + ',"rssi":-61,"fw":{"v":"1.2"}}'] * 2).encode())
    extra = [r["_extra"] for r in sink.tables["vital_reading"]]
    assert [json.loads(e) if e else None for e in extra] == [None, {"rssi": -61, "fw": {"v": "1.2"}}] * 2
    assert [code for code, _ in sink.notices] == ["E221"]


def test_windows_change_nothing(tmp_path: Path) -> None:
    lines = [GOOD % i if i % 11 else "{broken" for i in range(300)]
    content = "\n".join(lines).encode()
    whole, pieces = read(tmp_path, content), read(tmp_path, content, window=333)
    assert whole.tables == pieces.tables
    assert [(r.line, r.raw) for r in whole.rejects] == [(r.line, r.raw) for r in pieces.rejects]


def fhir_read(path: Path, content: str) -> Collected:
    sink = Collected()
    fhir.read(landed(path, content.encode()), RESOURCE, sink)
    return sink


def test_a_bundle_gives_one_row_per_resource_and_keeps_decimals(tmp_path: Path) -> None:
    bundle = """{"resourceType":"Bundle","type":"transaction","entry":[
      {"resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","profile":["http://x"]}}},
      {"request":{"method":"GET"}},
      {"resource":{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},
                   "valueQuantity":{"value":1.10}}},
      {"resource":{"id":"no-type"}}]}"""
    sink = fhir_read(tmp_path / "b.json", bundle)
    rows = sink.tables["fhir_resource"]
    assert [
        (r["resource_type"], r["resource_id"], r["version_id"], r["subject_reference"]) for r in rows
    ] == [
        ("Patient", "p1", "3", None),
        ("Observation", "o1", None, "Patient/p1"),
    ]
    assert '"value":1.10' in rows[1]["content"]
    assert [(r.code, r.place) for r in sink.rejects] == [
        ("E224", "Bundle.entry[2]"),
        ("E219", "Bundle.entry[4]"),
    ]


def test_fhir_ndjson_by_line(tmp_path: Path) -> None:
    content = '{"resourceType":"Patient","id":"1"}\n{"resourceType":\n\n{"resourceType":"Patient","id":"2"}\n'
    sink = fhir_read(tmp_path / "Patient.ndjson", content)
    assert [(r["source_line"], r["resource_id"]) for r in sink.tables["fhir_resource"]] == [
        (1, "1"),
        (4, "2"),
    ]
    assert [(r.code, r.line) for r in sink.rejects] == [("E216", 2)]


def test_what_is_no_json_is_one_rejected_file(tmp_path: Path) -> None:
    for content in ("<Patient/>", "{", "[" * 100_000):
        sink = fhir_read(tmp_path / "b.json", content)
        assert [(r.code, r.table) for r in sink.rejects] == [("E219", "file")]
