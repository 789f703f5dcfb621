"""FHIR deliveries through the whole engine: manifests, corrections, deletions, results and their reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ingestion
from lake.settings import settings
from tests.ingestion_world import DAY, NEXT, content, drop
from tests.integration.test_imaging_ingest import current, medlake
from tests.unit.test_imaging_fhir_manifest import export
from tests.unit.test_imaging_fhir_mapping import observation, report


def deliver(*resources: dict[str, Any], day: Any = DAY, name: str = "a") -> dict[str, Any]:
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in resources)
    drop("fhir", "H101", f"{name}.ndjson", text.encode(), day)
    return ingestion.ingest_feed("fhir_r4", day)


def at(instant: str) -> dict[str, Any]:
    return {"meta": {"lastUpdated": f"2026-11-18T{instant}:00Z"}}


def claim(*lines: int) -> dict[str, Any]:
    item = {"productOrService": {"text": "床位费"}, "quantity": {"value": 1}, "net": {"value": 30}}
    more = {"encounter": [{"reference": "Encounter/e1"}], "servicedDate": "2026-11-18"}
    return {"resourceType": "Claim", "id": "k1", "item": [item | more | {"sequence": n} for n in lines]}


def test_a_corrected_claim_loses_the_lines_it_no_longer_has(lake_home: Path) -> None:
    deliver(claim(1, 2, 3) | at("01:00"))
    assert current("fee_item", "fee_id") == [("k1/1",), ("k1/2",), ("k1/3",)]
    done = deliver(claim(1, 3) | at("02:00"), name="b")
    assert (done["quarantined"], current("fee_item", "fee_id")) == (0, [("k1/1",), ("k1/3",)])
    deliver(claim(1, 2, 3) | at("01:30"), name="late")  # an older version, late: nothing comes back
    assert current("fee_item", "fee_id") == [("k1/1",), ("k1/3",)]


def test_results_move_under_their_report_whenever_it_comes(lake_home: Path) -> None:
    deliver(observation("o1", valueString="阴性"), observation("o2", valueString="阳性"))
    assert current("lab_result", "report_id, seq") == [("o1", 1), ("o2", 1)]
    deliver(report("r1", "o2", "o1"), day=NEXT)
    assert current("lab_result", "report_id, seq, value_text") == [("r1", 1, "阳性"), ("r1", 2, "阴性")]
    assert current("lab_report", "report_id") == [("r1",)]
    deliver(observation("o1", valueString="弱阳性"), day=NEXT, name="corrected")
    assert current("lab_result", "report_id, seq, value_text") == [("r1", 1, "阳性"), ("r1", 2, "弱阳性")]


def test_a_history_bundle_newest_first_with_a_deletion(lake_home: Path) -> None:
    def entry(method: str, version: int, hour: str, gender: str = "male") -> dict[str, Any]:
        found: dict[str, Any] = {
            "fullUrl": "https://his.example.cn/fhir/Patient/p1",
            "request": {"method": method, "url": "Patient/p1"},
            "response": {"etag": f'W/"{version}"', "lastModified": f"2026-11-18T{hour}:00Z"},
        }
        if method != "DELETE":
            found["resource"] = {"resourceType": "Patient", "id": "p1", "gender": gender} | at(hour)
        return found

    steps = [entry("PUT", 1, "01:00"), entry("DELETE", 2, "02:00"), entry("PUT", 3, "03:00", "female")]
    bundle = {"resourceType": "Bundle", "type": "history", "entry": steps[::-1]}
    drop("fhir", "H101", "history.json", json.dumps(bundle).encode())
    done = ingestion.ingest_feed("fhir", DAY)
    assert (done["tables"]["fhir_resource"]["received"], done["quarantined"]) == (3, 0)
    assert current("patient", "patient_local_id, sex_code") == [("p1", "2")]
    assert current("fhir_resource", "version_id") == [("3",)]
    gone = {"resourceType": "Bundle", "type": "history", "entry": [entry("DELETE", 4, "04:00")]}
    drop("fhir", "H101", "history.json", json.dumps(gone).encode(), NEXT)
    ingestion.ingest_feed("fhir", NEXT)
    assert current("patient", "patient_local_id") == current("fhir_resource", "resource_id") == []


def test_what_a_table_requires_and_a_resource_lacks_is_refused_with_the_elements_path(
    lake_home: Path,
) -> None:
    done = deliver({"resourceType": "Encounter", "id": "e1", "class": {"code": "AMB"}} | at("01:00"))
    assert (done["tables"]["fhir_resource"]["loaded"], done["tables"]["encounter"]["quarantined"]) == (1, 1)
    ((place, codes, reason),) = content("quarantine/his/encounter", "place, errors, reason_zh")
    assert place.endswith("a.ndjson:1 Encounter.subject")
    assert "E210:patient_local_id" in codes and "E210:started_at" in codes and "Encounter.subject" in reason


def test_an_export_is_imported_by_the_command(lake_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    export(folder)
    words = ("import", str(folder), "--org", "H101", "--date", DAY.isoformat())
    code, told = medlake("fhir", *words)
    assert code == 0 and told["manifest"] == "manifest.json"
    counts = told["tables"]["fhir_resource"]
    assert (counts["received"], counts["loaded"], counts["quarantined"]) == (5, 4, 1)
    ((place, code_),) = content("quarantine/fhir/fhir_resource", "place, error_code")
    assert code_ == "E259" and "errors.ndjson" in place
    export(folder, patients=3)
    code, told = medlake("fhir", *words)
    assert code == 1 and "E258" in json.dumps(told)


def test_a_file_that_does_not_hold_what_the_manifest_announces_fails_alone(lake_home: Path) -> None:
    folder = settings().sources_dir / DAY.isoformat() / "fhir" / "H101"
    folder.mkdir(parents=True)
    export(folder, patients=3)
    (folder / "Group.ndjson").write_text('{"resourceType":"Group","id":"g"}\n')
    done = ingestion.ingest_feed("fhir", DAY)
    assert len(done["failed_batches"]) == 1
    kinds = {row[0] for row in current("fhir_resource", "resource_type")}
    assert kinds == {"Group"}


def test_two_deliveries_of_the_same_resources_are_duplicates(lake_home: Path) -> None:
    first = deliver(report("r1", "o1"), observation("o1", valueString="x"))
    again = deliver(report("r1", "o1"), observation("o1", valueString="x"), name="again")
    assert first["loaded"] == 4 and again["loaded"] - first["loaded"] == 0
    assert again["duplicate"] == 4
