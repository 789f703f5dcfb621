"""Real inputs that nobody here wrote (``MEDLAKE_SAMPLES``): every file is loaded or refused with place and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ingestion
from lake.settings import PROJECT_ROOT, settings
from tests.ingestion_world import DAY, content

SAMPLES = Path(settings().samples_dir)
pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"no samples under {SAMPLES}; set MEDLAKE_SAMPLES"
)


def ingest(folder: str, feed: str) -> dict[str, Any]:
    return ingestion.ingest_paths([SAMPLES / folder], feed, data_date=DAY)


def test_all_hl7_messages_are_kept(lake_home: Path) -> None:
    files = [p for p in (SAMPLES / "hl7v2").rglob("*") if p.is_file()]
    result = ingest("hl7v2", "hl7v2")
    assert result["tables"]["hl7v2_message"]["loaded"] == len(files) == 68
    assert result["tables"]["hl7v2_message"]["received"] == 68
    assert result["received"] == result["loaded"] + result["duplicate"] + result["quarantined"]
    assert result["tables"].keys() >= {
        "patient",
        "encounter",
        "registration",
        "fee_item",
        "emr_document",
        "lab_result",
    }
    assert len(content("silver/hl7v2_message")) == 68
    assert {row[0] for row in content("silver/hl7v2_message", "message_type")} >= {
        "ADT",
        "ORU",
        "VXU",
        "MDM",
        "RDE",
    }


@pytest.mark.parametrize(("feed", "table"), [("his", "patient"), ("lis", "lab_report")])
def test_each_message_of_another_feed_is_loaded_or_refused_with_segment_and_reason(
    lake_home: Path, feed: str, table: str
) -> None:
    result = ingest("hl7v2", feed)
    assert result["received"] == result["loaded"] + result["duplicate"] + result["quarantined"]
    assert result["tables"][table]["loaded"] > 0
    refused = content(f"quarantine/{feed}/{table}", "place, reason_zh, remedy_en, raw, source_file")
    assert all(
        place.rsplit(" ", 1)[1][:3].isupper() and zh and en and raw for place, zh, en, raw, _ in refused
    )
    bronze = content(f"bronze/{feed}/{table}", "source_file")
    seen = {r[-1] for r in refused} | {b[0] for b in bronze}
    everything = [p for p in (SAMPLES / "hl7v2").rglob("*") if p.is_file()]
    lost = {p.name for p in everything} - {Path(f).name for f in seen}
    assert len(lost) <= result["duplicate"]


def test_all_images_are_rows_or_refused_and_the_chinese_name_is_right(lake_home: Path) -> None:
    files = [p for p in (SAMPLES / "dicom").rglob("*") if p.is_file()]
    result = ingest("dicom", "pacs")
    counts = result["tables"]["imaging_instance"]
    assert counts == {"received": len(files), "loaded": 37, "duplicate": 0, "quarantined": 3}
    assert len(content("silver/imaging_study")) == 15 and len(content("silver/imaging_series")) == 21
    named = {Path(f).name: n for f, n in content("bronze/pacs/imaging_instance", "source_file, name")}
    assert named["chrX2.dcm"] == "王小东"
    assert named["chrX1.dcm"] == "王小東"
    assert {"MR_truncated.dcm", "MR_small_bigendian.dcm", "badVR.dcm", "rtdose.dcm"} <= set(named)
    refused = content("quarantine/pacs/imaging_instance", "source_file, place, reason_zh")
    assert all(place.endswith("SOPInstanceUID") and reason for _, place, reason in refused)


def test_the_fhir_bundles_balance(lake_home: Path) -> None:
    files = sorted((SAMPLES / "fhir_r4").glob("*.json"))
    entries = [entry for f in files for entry in json.loads(f.read_text("utf-8"))["entry"]]
    result = ingest("fhir_r4", "fhir")
    counts = {table: (n["received"], n["loaded"]) for table, n in result["tables"].items()}
    assert counts == {
        "fhir_resource": (len(entries), 1891),
        "patient": (5, 5),
        "encounter": (184, 184),
        "inpatient_encounter": (17, 17),
        "diagnosis": (5, 0),  # SNOMED CT where ICD-10 is required
        "vaccination_record": (243, 243),
        "emr_document": (184, 184),
    }
    refused = content("quarantine/his/diagnosis", "place, errors")
    assert [(p.rsplit(" ", 1)[1], e) for p, e in refused] == [("Condition.code", "E210:icd10_code")] * 5
    rows = content("silver/fhir_resource", "resource_type, resource_id, content")
    wanted = sorted((e["resource"]["resourceType"], e["resource"]["id"]) for e in entries)
    assert [(kind, rid) for kind, rid, _ in rows] == wanted
    by_key = {(k, i): json.loads(c) for k, i, c in rows}
    assert all(by_key[(e["resource"]["resourceType"], e["resource"]["id"])] == e["resource"] for e in entries)


def test_a_second_delivery_of_all_samples_changes_nothing(lake_home: Path) -> None:
    first = ingest("hl7v2", "hl7v2")
    before = content("silver/hl7v2_message")
    again = ingest("hl7v2", "hl7v2")
    assert (again["received"], again["duplicate"], again["loaded"]) == (
        first["received"],
        first["received"],
        0,
    )
    assert content("silver/hl7v2_message") == before


def test_the_samples_are_not_copied_into_the_project() -> None:
    assert not list(PROJECT_ROOT.joinpath("tests").rglob("*.dcm"))
