"""What a bulk export says about itself is held against what is there; an import request reaches no other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingestion.pull import fhir as folder
from ingestion.readers import fhir
from ingestion.readers.fhir import manifest
from lake.errors import MedlakeError
from tests.ingestion_world import Collected, landed

PATIENTS = '{"resourceType":"Patient","id":"1"}\n\n{"resourceType":"Patient","id":"2"}\n'
GONE = (
    '{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/7"}},'
    '{"request":{"method":"DELETE","url":"Encounter/8"}}]}\n'
)
OUTCOME = '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing"}]}\n'


def export(tmp_path: Path, **counts: int) -> Path:
    """A folder with three files and a manifest in the shape of the Bulk Data IG."""
    for name, text in (
        ("Patient.000.ndjson", PATIENTS),
        ("deleted.ndjson", GONE),
        ("errors.ndjson", OUTCOME),
    ):
        (tmp_path / name).write_text(text)
    base = "https://fhir.example.cn/bulk/42/"
    node = {
        "transactionTime": "2026-11-18T00:00:00Z",
        "request": "https://fhir.example.cn/$export",
        "requiresAccessToken": True,
        "output": [
            {"type": "Patient", "url": base + "Patient.000.ndjson", "count": counts.get("patients", 2)}
        ],
        "deleted": [{"type": "Bundle", "url": base + "deleted.ndjson?x=1", "count": 1}],
        "error": [
            {"type": "OperationOutcome", "url": base + "errors.ndjson", "count": counts.get("errors", 1)}
        ],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(node))
    return tmp_path


def read(path: Path, *names: str) -> Collected:
    sink = Collected()
    chosen = [path / n for n in names] or sorted(p for p in path.iterdir() if p.is_file())
    fhir.read_many([landed(p, number=i) for i, p in enumerate(chosen)], sink)
    return sink


@pytest.fixture(autouse=True)
def _home(lake_home: Path) -> None:
    """The reader looks into silver: an empty lake."""


def test_an_export_is_read_with_its_deletions_its_errors_and_its_counts(tmp_path: Path) -> None:
    sink = read(export(tmp_path))
    rows = {(r["resource_type"], r["resource_id"]): r["_op"] for r in sink.tables["fhir_resource"]}
    assert rows == {
        ("Patient", "1"): "U",
        ("Patient", "2"): "U",
        ("Patient", "7"): "D",
        ("Encounter", "8"): "D",
    }
    assert [(r.code, r.file.name, r.line) for r in sink.rejects] == [("E259", "errors.ndjson", 1)]
    assert sorted(sink.announced) == [
        ("fhir_resource", 1, "error.count"),
        ("fhir_resource", 2, "output.count"),
    ]
    assert not sink.notices


def test_a_manifest_in_another_batch_still_speaks_for_its_files(tmp_path: Path) -> None:
    sink = read(export(tmp_path), "Patient.000.ndjson")
    assert sink.announced == [("fhir_resource", 2, "output.count")]


def test_a_file_that_is_missing_is_told_of_the_manifest(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "deleted.ndjson").unlink()
    sink = read(tmp_path)
    assert [(r.code, r.file.name, r.table) for r in sink.rejects if r.code == "E258"] == [
        ("E258", "manifest.json", "file")
    ]


def test_another_type_than_announced_is_noticed(tmp_path: Path) -> None:
    export(tmp_path)
    (tmp_path / "Patient.000.ndjson").write_text(PATIENTS + '{"resourceType":"Group","id":"g"}\n')
    ((code, context),) = read(tmp_path).notices
    assert code == "E258" and "Group in a file of Patient" in context["detail"]


def parameters(*urls: str, kind: str = "application/fhir+ndjson") -> dict[str, Any]:
    inputs = [
        {"name": "input", "part": [{"name": "type", "valueCode": "Patient"}, {"name": "url", "valueUri": u}]}
        for u in urls
    ]
    return {"resourceType": "Parameters", "parameter": [{"name": "inputFormat", "valueCode": kind}, *inputs]}


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//host/share/a.ndjson",
        "../secrets/sources.yaml",
        "/etc/passwd",
        "a/../../b.ndjson",
        "a%2f..%2fb.ndjson",
        "..",
        "",
    ],
)
def test_an_import_request_can_name_only_files_beside_it(tmp_path: Path, url: str) -> None:
    (tmp_path / "import.json").write_text(json.dumps(parameters("Patient.ndjson", url)))
    (tmp_path / "Patient.ndjson").write_text(PATIENTS)
    found = manifest.parse(tmp_path / "import.json")
    assert found is not None and set(found.files) == {"Patient.ndjson"} and len(found.problems) == 1
    with pytest.raises(MedlakeError) as caught:
        folder.import_folder(tmp_path)
    assert caught.value.code == "E258" and (url not in str(caught.value) or len(url) < 3)


def test_an_import_request_as_parameters_or_as_plain_json_is_no_resource(tmp_path: Path) -> None:
    plain = {
        "inputFormat": "application/fhir+ndjson",
        "inputSource": "https://his.example.cn",
        "input": [{"type": "Patient", "url": "./Patient.ndjson"}],
    }
    for node in (parameters("Patient.ndjson"), plain):
        (tmp_path / "import.json").write_text(json.dumps(node))
        (tmp_path / "Patient.ndjson").write_text(PATIENTS)
        assert folder.check(tmp_path)["problems"] == []
        sink = read(tmp_path)
        assert {r["resource_type"] for r in sink.tables["fhir_resource"]} == {"Patient"} and not sink.rejects


def test_parameters_that_are_no_request_are_a_resource(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"resourceType":"Parameters","id":"x","parameter":[{"name":"a"}]}')
    assert manifest.parse(tmp_path / "p.json") is None


def test_check_tells_counts_strangers_and_formats(tmp_path: Path) -> None:
    export(tmp_path, patients=3)
    (tmp_path / "stranger.ndjson").write_text(PATIENTS)
    found = folder.check(tmp_path)
    assert (found["manifest"], found["files"], found["announced"], found["records"]) == (
        "manifest.json",
        4,
        5,
        4,
    )
    assert found["problems"] == [
        "Patient.000.ndjson: 3 announced, 2 there",
        "stranger.ndjson is not in the manifest",
    ]
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "import.json").write_text(
        json.dumps(parameters("stranger.ndjson", kind="application/parquet"))
    )
    assert "inputFormat" in folder.check(tmp_path)["problems"][0]


def test_check_of_no_folder(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        folder.check(tmp_path / "absent")
    assert caught.value.code == "E201"
