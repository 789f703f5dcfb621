"""Which files are deliveries, which institution and table they are of, and where they land."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ingestion import landing, prepare, routing
from ingestion.sources import SourceFile, at_paths, in_drop
from lake.contracts import contract
from lake.errors import MedlakeError
from tests.ingestion_world import DAY, drop, landed


@pytest.mark.parametrize(
    ("feed", "name", "table"),
    [
        ("his", "patient_20261118.csv", "patient"),
        ("his", "prescription_item_2024_01.csv", "prescription_item"),
        ("his", "ENCOUNTER.CSV", "encounter"),
        ("his", "patients.csv", None),
        ("public_health", "高血压随访_C201.xlsx", "htn_visit"),
        ("public_health", "htn_visit/2024.xlsx", "htn_visit"),
        ("iot", "telemetry_1.ndjson", "vital_reading"),
        ("iot", "binding_1.ndjson", "device_binding"),
        ("fhir", "anything.json", "fhir_resource"),
    ],
)
def test_the_table_is_in_the_file_name(feed: str, name: str, table: str | None) -> None:
    found = routing.table_of(name, contract(feed))
    assert (found.name if found else None) == table


def test_the_format_shows_in_the_first_bytes(tmp_path: Path) -> None:
    def kind(name: str, content: bytes, feed: str = "his") -> str:
        return routing.kind_of(landed(tmp_path / name, content), feed)

    assert kind("patient_1.csv", b"MSH|^~\\&|A") == "hl7v2"
    assert kind("patient_1.csv", b"MSHX,NAME") == "delimited"
    assert kind("patient_1.csv", b"PK\x03\x04") == "workbook"
    assert kind("x.exe", b"MZ") == "unknown"
    assert kind("noname", b"x", "pacs") == "dicom"


def test_the_drop_names_the_institution_and_skips_what_is_no_delivery(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", b"x")
    drop("his", "C201", "sub/encounter_1.csv", b"x")
    for name in (".hidden.csv", "~$lock.xlsx", "patient_2.csv.part", "Thumbs.db"):
        drop("his", "H101", name, b"x")
    assert [(f.org_code, f.name) for f in in_drop("his", DAY)] == [
        ("C201", "sub/encounter_1.csv"),
        ("H101", "patient_1.csv"),
    ]
    assert in_drop("lis", DAY) == []


def test_paths_name_the_institution_by_folder_else_the_caller_does(tmp_path: Path) -> None:
    (tmp_path / "H103" / "x").mkdir(parents=True)
    (tmp_path / "H103" / "x" / "patient_1.csv").write_bytes(b"x")
    (tmp_path / "patient_2.csv").write_bytes(b"x")
    found = {(f.org_code, f.name) for f in at_paths([tmp_path], "C205")}
    assert found == {("H103", "x/patient_1.csv"), ("C205", "patient_2.csv")}


def test_a_missing_path_is_a_numbered_error(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        at_paths([tmp_path / "nothing.csv"], None)
    assert caught.value.code == "E201"
    assert "nothing.csv" in str(caught.value)


def _hashed(tmp_path: Path, name: str, content: bytes, org: str = "H101") -> landing.Hashed:
    path = tmp_path / org / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return landing.hash_file(SourceFile(path, name, org))


def test_landing_is_immutable_and_keeps_both_versions_of_a_name(lake_home: Path, tmp_path: Path) -> None:
    first = landing.land("his", DAY, [_hashed(tmp_path, "patient_1.csv", b"one")])
    again = landing.land("his", DAY, [_hashed(tmp_path, "patient_1.csv", b"one")])
    second = landing.land("his", DAY, [_hashed(tmp_path, "patient_1.csv", b"two")])
    assert first[0].source_file == again[0].source_file == "his/2026-11-18/H101/patient_1.csv"
    assert second[0].source_file != first[0].source_file
    assert (first[0].path.read_bytes(), second[0].path.read_bytes()) == (b"one", b"two")
    assert stat.S_IMODE(first[0].path.stat().st_mode) == 0o444


def test_a_large_delivery_is_split(lake_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake.settings import settings

    monkeypatch.setenv("MEDLAKE_BATCH_MAX_BYTES", "1024")
    settings.cache_clear()
    files = [
        _hashed(tmp_path, f"patient_{i}.csv", b"x" * n) for i, n in enumerate((600, 500, 2000, 100, 100))
    ]
    assert [[f.bytes for f in b] for b in prepare.split_by_bytes(files)] == [[600], [500], [2000], [100, 100]]
    assert prepare.split_by_bytes([]) == [[]]
