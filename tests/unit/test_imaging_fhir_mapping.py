"""Resources to typed rows: each mapping by a resource as a server sends it, references however they are written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ingestion.readers import fhir
from ingestion.readers.fhir.mapping import load, mappings
from lake.contracts import contracts, table_contract
from tests.ingestion_world import Collected, landed

LAB = [
    {
        "coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}
        ]
    }
]
LOINC = "http://loinc.org"


@pytest.fixture(autouse=True)
def _home(lake_home: Path) -> None:
    """The reader looks into silver for earlier versions: an empty lake."""


def read(tmp_path: Path, *resources: dict[str, Any], name: str = "a.ndjson") -> Collected:
    content = "\n".join(json.dumps(r, ensure_ascii=False) for r in resources).encode()
    file = landed(tmp_path / name, content)
    sink = Collected()
    fhir.read_many([dataclasses.replace(file, source_file=f"fhir/2026-11-18/H101/{name}")], sink)
    return sink


def bundle(tmp_path: Path, *entries: dict[str, Any], kind: str = "transaction") -> Collected:
    node = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    return read(tmp_path, node, name="b.json")


def only(sink: Collected, table: str) -> dict[str, Any]:
    (row,) = sink.tables[table]
    return {k: v for k, v in row.items() if v is not None}


def quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def concept(code: str, text: str, system: str = LOINC) -> dict[str, Any]:
    return {
        "coding": [{"system": "urn:local", "code": "L" + code}, {"system": system, "code": code}],
        "text": text,
    }


def test_every_mapped_field_is_a_field_of_its_contract() -> None:
    known = {t for feed in contracts().values() for t in feed.tables}
    assert {m.table for m in load()} <= known
    for m in mappings():
        names = {f.name for f in table_contract(m.table).fields}
        assert set(m.fields) <= names, m.table
        assert set(table_contract(m.table).key) <= set(m.fields), m.table
        required = {f.name for f in table_contract(m.table).fields if f.required}
        assert required <= set(m.fields), (m.table, required - set(m.fields))


def test_a_patient(tmp_path: Path) -> None:
    row = only(
        read(
            tmp_path,
            {
                "resourceType": "Patient",
                "id": "p1",
                "meta": {"lastUpdated": "2026-11-18T08:00:00Z"},
                "identifier": [
                    {"type": {"coding": [{"code": "MR"}]}, "value": "M900"},
                    {"system": "urn:oid:2.16.156.10011.1.3", "value": "42970119580312001X"},
                    {"type": {"coding": [{"code": "HC"}]}, "value": "HC77"},
                ],
                "name": [
                    {"use": "nickname", "text": "小王"},
                    {"use": "official", "family": "王", "given": ["小", "东"]},
                ],
                "gender": "male",
                "birthDate": "1958-03-12",
                "telecom": [
                    {"system": "email", "value": "a@b.cn"},
                    {"system": "phone", "value": "13912345678"},
                ],
                "address": [{"state": "湖东省", "city": "湖东市", "line": ["解放路", "3号"]}],
                "contact": [
                    {"name": {"text": "李四"}, "telecom": [{"system": "phone", "value": "13800001111"}]}
                ],
                "link": [{"type": "seealso", "other": {"reference": "Patient/p0"}}],
            },
        ),
        "patient",
    )
    assert (
        row["name"] == "王小东" and row["id_no"] == "42970119580312001X" and row["health_card_no"] == "HC77"
    )
    assert row["phone"] == "13912345678" and row["addr_detail"] == "湖东省湖东市解放路3号"
    assert (row["contact_name"], row["contact_phone"]) == ("李四", "13800001111")
    assert row["source_updated_at"] == "2026-11-18T08:00:00Z" and "merged_into_patient_id" not in row
    assert json.loads(row["_extra"]) == {"fhir": "Patient/p1"}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ({"reference": "Patient/p1"}, "p1"),
        ({"reference": "https://his.example.cn/fhir/Patient/p1/_history/4"}, "p1"),
        (
            {"reference": "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"},
            "0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
        ),
        ({"reference": "Patient?identifier=http://x|M900"}, "M900"),
        ({"identifier": {"value": "M900"}}, "M900"),
        ({"reference": "#contained"}, None),
    ],
)
def test_references_however_written(tmp_path: Path, reference: dict[str, Any], expected: str | None) -> None:
    row = only(read(tmp_path, {"resourceType": "Encounter", "id": "e1", "subject": reference}), "encounter")
    assert row.get("patient_local_id") == expected


def test_urns_become_the_ids_of_the_entries_they_name_later_ones_too(tmp_path: Path) -> None:
    sink = bundle(
        tmp_path,
        {
            "fullUrl": "urn:uuid:11111111-1111-1111-1111-111111111111",
            "resource": {
                "resourceType": "Encounter",
                "id": "e7",
                "subject": {"reference": "urn:uuid:22222222-2222-2222-2222-222222222222"},
            },
        },
        {
            "fullUrl": "urn:uuid:22222222-2222-2222-2222-222222222222",
            "resource": {"resourceType": "Patient", "id": "p7"},
        },
        {"fullUrl": "urn:uuid:33333333-3333-3333-3333-333333333333", "resource": {"resourceType": "Patient"}},
    )
    assert only(sink, "encounter")["patient_local_id"] == "p7"
    assert {r["patient_local_id"] for r in sink.tables["patient"]} == {
        "p7",
        "33333333-3333-3333-3333-333333333333",
    }
    kept = {r["resource_id"]: r["content"] for r in sink.tables["fhir_resource"]}
    assert "urn:uuid:22222222" in kept["e7"]  # the resource itself stays as it came


def report(report_id: str, *results: str) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": report_id,
        "status": "final",
        "category": [{"coding": [{"code": "LAB"}]}],
        "code": concept("24323-8", "肝功能"),
        "subject": {"reference": "Patient/p1"},
        "issued": "2026-11-18T09:00:00+08:00",
        "result": [{"reference": f"Observation/{r}"} for r in results],
    }


def observation(observation_id: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": observation_id,
        "status": "final",
        "category": LAB,
        "code": concept("1742-6", "丙氨酸氨基转移酶"),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-18T08:30:00+08:00",
    } | more


def test_results_are_numbered_by_their_report_whichever_comes_first(tmp_path: Path) -> None:
    sink = read(
        tmp_path,
        observation(
            "o2",
            valueQuantity=quantity(55, "U/L") | {"comparator": ">"},
            interpretation=[{"coding": [{"code": "H"}]}],
            referenceRange=[{"low": {"value": 7}, "high": {"value": 40}, "text": "7-40"}],
        ),
        report("r1", "o1", "o2"),
        observation("o1", valueString="阴性"),
    )
    rows = {r["seq"]: r for r in sink.tables["lab_result"]}
    assert {s: (r["report_id"], r["value_text"]) for s, r in rows.items()} == {
        "1": ("r1", "阴性"),
        "2": ("r1", "55"),
    }
    second = rows["2"]
    assert (second["item_code"], second["loinc_code"], second["item_name"]) == (
        "1742-6",
        "1742-6",
        "丙氨酸氨基转移酶",
    )
    assert (second["comparator"], second["unit"], second["abnormal_flag"]) == (">", "U/L", "H")
    assert (second["ref_low"], second["ref_high"], second["ref_range_text"]) == ("7", "40", "7-40")
    assert only(sink, "lab_report")["report_id"] == "r1" and only(sink, "lab_report")["status_code"] == "F"


def test_an_observation_without_a_report_is_its_own(tmp_path: Path) -> None:
    sink = read(tmp_path, observation("o9", valueString="x"))
    assert (only(sink, "lab_report")["report_id"], only(sink, "lab_result")["report_id"]) == ("o9", "o9")
    assert only(sink, "lab_result")["seq"] == "1"


def test_components_are_results_of_their_own(tmp_path: Path) -> None:
    parts = [
        {"code": concept("1975-2", "总胆红素"), "valueQuantity": quantity(12.5, "umol/L")},
        {"code": concept("1968-7", "直接胆红素"), "valueString": "溶血"},
    ]
    sink = read(tmp_path, report("r1", "o1"), observation("o1", component=parts))
    found = [
        (r["report_id"], r["seq"], r["loinc_code"], r["value_text"], r["unit"])
        for r in sink.tables["lab_result"]
    ]
    assert found == [("r1", "1001", "1975-2", "12.5", "umol/L"), ("r1", "1002", "1968-7", "溶血", None)]


def test_a_number_keeps_its_digits(tmp_path: Path) -> None:
    text = json.dumps(observation("o1", valueQuantity=quantity(1.5, "mmol/L"))).replace("1.5", "1.50")
    sink = Collected()
    fhir.read_many([landed(tmp_path / "a.json", text.encode())], sink)
    assert only(sink, "lab_result")["value_num"] == "1.50"


def test_a_vital_sign_is_a_reading_where_a_device_measured_it(tmp_path: Path) -> None:
    pressure = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "code": concept("85354-9", "血压"),
        "effectiveDateTime": "2026-11-18T08:30:00+08:00",
        "component": [
            {"code": concept("8480-6", "收缩压"), "valueQuantity": quantity(121, "mm[Hg]")},
            {"code": concept("8462-4", "舒张压"), "valueQuantity": quantity(79, "mm[Hg]")},
        ],
    }
    sink = read(
        tmp_path, pressure | {"id": "v1", "device": {"reference": "Device/d1"}}, pressure | {"id": "v2"}
    )
    found = [(r["device_id"], r["metric_code"], r["value"], r["unit"]) for r in sink.tables["vital_reading"]]
    assert found == [("d1", "8480-6", "121", "mm[Hg]"), ("d1", "8462-4", "79", "mm[Hg]")]
    assert "lab_result" not in sink.tables


def test_a_radiology_report_an_imaging_study_and_its_series(tmp_path: Path) -> None:
    exam = {
        "resourceType": "DiagnosticReport",
        "id": "d1",
        "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "A17"}],
        "category": [{"coding": [{"code": "RAD"}]}],
        "code": {"text": "胸部CT平扫"},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-18T08:30:00+08:00",
        "conclusion": "右肺下叶结节",
        "presentedForm": [{"contentType": "text/plain", "data": "5Y+z6IK65LiL5Y+257uT6IqC"}],
    }
    study = {
        "resourceType": "ImagingStudy",
        "id": "i1",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
        "subject": {"reference": "Patient/p1"},
        "started": "2026-11-18T08:30:00+08:00",
        "modality": [{"code": "CT"}, {"code": "SR"}],
        "numberOfSeries": 2,
        "numberOfInstances": 120,
        "series": [
            {"uid": "1.2.3.1", "modality": {"code": "CT"}, "number": 1, "numberOfInstances": 119},
            {"uid": "1.2.3.2", "modality": {"code": "SR"}, "number": 2, "numberOfInstances": 1},
        ],
    }
    sink = read(tmp_path, exam, study)
    row = only(sink, "imaging_report")
    assert (row["exam_no"], row["impression"], row["finding"]) == ("A17", "右肺下叶结节", "右肺下叶结节")
    row = only(sink, "imaging_study")
    assert (row["study_instance_uid"], row["modalities"], row["instance_count"]) == ("1.2.3", "CT\\SR", "120")
    assert [(r["series_instance_uid"], r["instance_count"]) for r in sink.tables["imaging_series"]] == [
        ("1.2.3.1", "119"),
        ("1.2.3.2", "1"),
    ]


def test_conditions_of_a_problem_list_are_no_diagnoses(tmp_path: Path) -> None:
    base = {"resourceType": "Condition", "code": concept("J45.9", "哮喘", "http://hl7.org/fhir/sid/icd-10")}
    problem = {"category": [{"coding": [{"code": "problem-list-item"}]}]}
    sink = read(
        tmp_path,
        base | {"id": "c1", "encounter": {"reference": "Encounter/e1"}, "recordedDate": "2026-11-18"},
        base | {"id": "c2"} | problem,
        base | {"id": "c3"},
    )
    found = {r["dx_id"]: (r["encounter_id"], r["icd10_code"]) for r in sink.tables["diagnosis"]}
    assert found == {
        "c1": ("e1", "J45.9"),
        "c3": (None, "J45.9"),
    }  # c3 lacks its encounter: the contract refuses it
    assert sink.own_places[0]["diagnosis.encounter_id"] == "Condition.encounter"
    assert sink.own_places[0]["lab_result.item_code"].startswith("Observation.")


def test_charges_and_orders_and_prescriptions(tmp_path: Path) -> None:
    charge = {
        "resourceType": "ChargeItem",
        "id": "f1",
        "context": {"reference": "Encounter/e1"},
        "subject": {"reference": "Patient/p1"},
        "code": concept("110200001", "诊查费", "urn:local:fee"),
        "occurrenceDateTime": "2026-11-18T08:30:00+08:00",
        "quantity": {"value": 1},
        "priceOverride": {"value": 12.5, "currency": "CNY"},
    }
    claim = {
        "resourceType": "Claim",
        "id": "k1",
        "patient": {"reference": "Patient/p1"},
        "created": "2026-11-18",
        "item": [
            {
                "sequence": 1,
                "productOrService": {"text": "床位费"},
                "encounter": [{"reference": "Encounter/e1"}],
            },
            {
                "sequence": 2,
                "productOrService": {"text": "一级护理"},
                "quantity": {"value": 3},
                "unitPrice": {"value": 20},
                "net": {"value": 60},
            },
        ],
    }
    drug = {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "groupIdentifier": {"value": "RX7"},
        "encounter": {"reference": "Encounter/e1"},
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2026-11-18T08:40:00+08:00",
        "medicationCodeableConcept": concept("C08CA01", "氨氯地平", "http://www.whocc.no/atc"),
        "dosageInstruction": [
            {
                "doseAndRate": [{"doseQuantity": quantity(5, "mg")}],
                "timing": {"code": {"coding": [{"code": "QD"}]}},
            }
        ],
        "dispenseRequest": {"quantity": {"value": 28, "unit": "片"}, "expectedSupplyDuration": {"value": 28}},
    }
    sink = read(tmp_path, charge, claim, drug, drug | {"id": "m2"})
    fees = {r["fee_id"]: (r["encounter_id"], r["qty"], r["amount"]) for r in sink.tables["fee_item"]}
    assert fees == {"f1": ("e1", "1", "12.5"), "k1/2": ("e1", "3", "60")}
    items = sink.tables["prescription_item"]
    assert {(r["rx_no"], r["drug_code"], r["dose"], r["dose_unit"], r["days"]) for r in items} == {
        ("RX7", "C08CA01", "5", "mg", "28")
    }
    assert len({r["item_no"] for r in items}) == 2


def test_what_is_no_resource_is_refused_with_its_place(tmp_path: Path) -> None:
    sink = bundle(
        tmp_path,
        {
            "resource": {"resourceType": "Patient", "id": "p1"},
            "request": {"method": "PUT", "url": "Patient/p1"},
        },
        {"resource": {"resourceType": "Patientt", "id": "p2"}},
        {"request": {"method": "DELETE", "url": "Patient?identifier=x|1"}},
        {"resource": {"resourceType": "Parameters"}, "request": {"method": "PATCH", "url": "Patient/p1"}},
        {
            "request": {"method": "DELETE", "url": "Patient/p9"},
            "response": {"lastModified": "2026-11-18T01:00:00Z"},
        },
        {"resource": {"resourceType": "Patient"}, "request": {"method": "PUT", "url": "Patient/p5"}},
    )
    refused = [(r.code, r.place) for r in sink.rejects]
    assert refused == [("E256", "Bundle.entry[2]"), ("E257", "Bundle.entry[3]"), ("E257", "Bundle.entry[4]")]
    rows = {r["resource_id"]: r for r in sink.tables["fhir_resource"]}
    assert {i: r["_op"] for i, r in rows.items()} == {"p1": "U", "p9": "D", "p5": "U"}
    assert rows["p9"]["last_updated_at"] == "2026-11-18T01:00:00Z"
    assert {r["patient_local_id"] for r in sink.tables["patient"]} == {"p1", "p5"}
