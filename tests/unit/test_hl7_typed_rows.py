"""Which typed rows each kind of message gives, and what cancelling, deleting and merging events do to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingestion.readers import hl7v2
from lake.contracts import contract
from tests.ingestion_world import Collected, landed


def segment(kind: str, **fields: str) -> str:
    """A segment of its fields by number (``f3=...``)."""
    at = {int(name[1:]): value for name, value in fields.items()}
    return "|".join([kind, *(at.get(n, "") for n in range(1, max(at) + 1))])


EVN = "EVN||20261118081500||||20261118080000"
PID = "PID|1||P1^^^H001^MR||王小东||19580312|M"
OUT = segment("PV1", f1="1", f2="O", f3="内科", f7="D1^赵", f19="E1", f44="20261118075500")
IN = segment(
    "PV1", f1="1", f2="I", f3="心内科^302^05", f7="D1^赵", f19="Z1", f44="20261110090000", f45="{out}"
)


def message(kind: str, *segments: str) -> str:
    header = f"MSH|^~\\&|HIS|H001|MEDLAKE|GROUP|20261118081600||{kind}|M1|P|2.5.1||||||UNICODE UTF-8"
    return "\r".join([header, *segments]) + "\r"


def read(tmp_path: Path, feed: str, *messages: str) -> Collected:
    sink = Collected()
    hl7v2.read(landed(tmp_path / "x.hl7", "".join(messages).encode()), contract(feed), sink)
    return sink


def rows(tmp_path: Path, table: str, *messages: str, feed: str = "hl7v2") -> list[dict[str, Any]]:
    """What is filled of a table's rows."""
    found = read(tmp_path, feed, *messages).tables.get(table, [])
    return [{k: v for k, v in row.items() if v not in (None, "")} for row in found]


def one(tmp_path: Path, table: str, *messages: str) -> dict[str, Any]:
    (found,) = rows(tmp_path, table, *messages)
    return found


def test_a_registration_at_the_outpatients_gives_patient_and_visit(tmp_path: Path) -> None:
    visit = one(tmp_path, "encounter", message("ADT^A04", EVN, PID, OUT))
    assert visit == {
        "encounter_id": "E1",
        "patient_local_id": "P1",
        "class_code": "O",
        "dept_code": "内科",
        "doctor_id": "D1",
        "started_at": "20261118075500",
        "source_updated_at": "20261118081500",
        "source_line": 4,
        "org_code": "H001",
    }
    assert rows(tmp_path, "inpatient_encounter", message("ADT^A04", EVN, PID, OUT)) == []


def test_a_visit_without_a_number_or_before_it_began_is_none(tmp_path: Path) -> None:
    for kind, segment in (
        ("ADT^A04", "PV1|1|O"),
        ("ADT^A05", OUT),
        ("ADT^A31", OUT),
        ("ADT^A04", OUT.replace("|O|", "|N|")),
    ):
        assert rows(tmp_path, "encounter", message(kind, EVN, PID, segment)) == []


@pytest.mark.parametrize(
    ("event", "out", "status", "discharged", "op"),
    [
        ("A01", "", "in_hospital", None, None),
        ("A03", "20261118070000", "discharged", "20261118070000", None),
        ("A03", "", "discharged", "20261118080000", None),  # EVN-6: when it happened
        ("A11", "", "cancelled", None, "D"),
        ("A13", "20261118070000", "in_hospital", None, None),
    ],
)
def test_an_inpatient_is_admitted_discharged_and_either_is_cancelled(
    tmp_path: Path, event: str, out: str, status: str, discharged: str | None, op: str | None
) -> None:
    text = message(f"ADT^{event}", EVN, PID, IN.format(out=out))
    stay = one(tmp_path, "inpatient_encounter", text)
    assert (stay["status_code"], stay.get("discharged_at")) == (status, discharged)
    assert (stay["inpatient_id"], stay["admitted_at"], stay["bed_no"]) == ("Z1", "20261110090000", "05")
    visit = one(tmp_path, "encounter", text)
    assert (visit.get("ended_at"), visit.get("_op")) == (discharged, op)


def test_an_admission_without_its_time_began_when_the_event_did(tmp_path: Path) -> None:
    plain = IN.format(out="").replace("20261110090000", "")
    assert (
        one(tmp_path, "inpatient_encounter", message("ADT^A01", EVN, PID, plain))["admitted_at"]
        == "20261118080000"
    )
    assert "admitted_at" not in one(tmp_path, "inpatient_encounter", message("ADT^A08", EVN, PID, plain))


def test_a_merge_points_the_retired_number_to_the_one_that_stays(tmp_path: Path) -> None:
    both = rows(tmp_path, "patient", message("ADT^A40", EVN, PID, "MRG|P0^^^H001^MR"))
    assert [(r["patient_local_id"], r.get("merged_into_patient_id"), r.get("is_active")) for r in both] == [
        ("P1", None, None),
        ("P0", "P1", "0"),
    ]
    assert both[1]["name"] == "王小东"


def test_a_deleted_person_is_a_tombstone(tmp_path: Path) -> None:
    assert one(tmp_path, "patient", message("ADT^A29", EVN, PID))["_op"] == "D"
    assert "_op" not in one(tmp_path, "patient", message("ADT^A28", EVN, PID))


def test_diagnoses_are_numbered_and_another_code_system_is_no_icd10(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        "diagnosis",
        message(
            "ADT^A01",
            EVN,
            PID,
            IN.format(out=""),
            "DG1|1||I10.x00^高血压^ICD10||20261118|A",
            "DG1|1||401.9^HTN^I9C",
        ),
    )
    assert [(r["seq"], r.get("icd10_code"), r["inpatient_id"]) for r in found] == [
        ("1", "I10.x00", "Z1"),
        ("2", None, "Z1"),
    ]
    assert found[0]["dx_name"] == "高血压"
    assert found[1]["dx_at"] == "20261118081500"


def test_allergies_have_a_key_of_patient_and_allergen_and_iam_may_delete_one(tmp_path: Path) -> None:
    first = one(tmp_path, "allergy", message("ADT^A01", EVN, PID, "AL1|1|DA|^青霉素|SV|皮疹~休克|20200105"))
    assert first["allergy_id"] == "P1|青霉素"
    assert (first["allergen_type_code"], first["severity_code"], first["reaction"]) == (
        "medication",
        "high",
        "皮疹; 休克",
    )
    assert first["onset_on"] == "20200105"
    gone = one(tmp_path, "allergy", message("ADT^A60", EVN, PID, "IAM|1|FA|P9^花生|||D"))
    assert (gone["allergy_id"], gone["_op"]) == ("P1|P9", "D")
    assert "onset_on" not in one(tmp_path, "allergy", message("ADT^A01", EVN, PID, "AL1|1|DA|^碘|||202001"))


SCH = "SCH|A7^HIS|R7^HIS||||||专家|||^^^20261120093000"


def test_an_appointment_is_made_cancelled_and_deleted(tmp_path: Path) -> None:
    made = one(
        tmp_path,
        "registration",
        message("SIU^S12", SCH, PID, OUT, "RGS|1", "AIL|1||门诊三楼", "AIP|1||D9^钱"),
    )
    assert (made["reg_no"], made["patient_local_id"], made["visit_on"], made["doctor_id"]) == (
        "R7",
        "P1",
        "20261120",
        "D9",
    )
    assert (made["dept_code"], made["is_cancelled"], made["appointment_at"]) == (
        "门诊三楼",
        "0",
        "20261120093000",
    )
    off = one(tmp_path, "registration", message("SIU^S15", SCH, PID))
    assert (off["is_cancelled"], off["cancelled_at"]) == ("1", "20261118081600")
    assert one(tmp_path, "registration", message("SIU^S17", SCH, PID))["_op"] == "D"


@pytest.mark.parametrize(
    ("orc", "status"),
    [
        ("NW|O1", "active"),
        ("CA|O1", "revoked"),
        ("DC|O1", "revoked"),
        ("HD|O1", "on_hold"),
        ("SC|O1|||CM", "completed"),
    ],
)
def test_orders_follow_their_control_code(tmp_path: Path, orc: str, status: str) -> None:
    order = one(
        tmp_path, "clinical_order", message("ORM^O01", PID, OUT, f"ORC|{orc}", "OBR|1|O1||CT01^头颅CT平扫^L")
    )
    assert (order["order_id"], order["item_name"], order["status_code"]) == ("O1", "头颅CT平扫", status)


def test_each_order_takes_its_own_details(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        "clinical_order",
        message(
            "OMP^O09",
            PID,
            IN.format(out=""),
            "ORC|NW|O1",
            "RXO|A1^阿司匹林|100||mg",
            "RXR|PO",
            "ORC|NW|O2",
            "RXO|B1^青霉素|80||万U",
        ),
    )
    assert [(r["order_id"], r["item_name"], r["dose"], r.get("route_code")) for r in found] == [
        ("O1", "阿司匹林", "100", "PO"),
        ("O2", "青霉素", "80", None),
    ]
    assert {r["order_type_code"] for r in found} == {"1"}
    assert {r["inpatient_id"] for r in found} == {"Z1"}


def test_a_prescription_is_numbered_item_by_item(tmp_path: Path) -> None:
    items = rows(
        tmp_path,
        "prescription_item",
        message(
            "RDE^O11",
            PID,
            OUT,
            "ORC|NW|O1||G5",
            "RXE||A1^阿莫西林|0.5||g|||||24|粒",
            "ORC|NW|O2||G5",
            "RXE||B1^布洛芬|0.3||g",
        ),
    )
    assert [(r["rx_no"], r["item_no"], r["drug_code"], r["drug_name"]) for r in items] == [
        ("G5", "1", "A1", "阿莫西林"),
        ("G5", "2", "B1", "布洛芬"),
    ]
    assert (items[0]["dose"], items[0]["dose_unit"], items[0]["qty"], items[0]["unit"]) == (
        "0.5",
        "g",
        "24",
        "粒",
    )


def test_credits_are_negative_and_payments_are_no_charge(tmp_path: Path) -> None:
    def charge(number: str, kind: str, amount: str) -> str:
        return f"FT1|1|{number}||20261118|20261118|{kind}|X1^血常规|||2|{amount}|10"

    text = message(
        "DFT^P03", EVN, PID, OUT, charge("F1", "CG", "20"), charge("F2", "CD", "20"), charge("F3", "PY", "99")
    )
    found = rows(tmp_path, "fee_item", text)
    assert [(r["fee_id"], r["amount"]) for r in found] == [("F1", "20"), ("F2", "-20")]
    assert (found[0]["encounter_id"], found[0]["qty"], found[0]["unit_price"]) == ("E1", "2", "10")
    nothing = read(tmp_path, "his", message("DFT^P03", EVN, PID, OUT, charge("F3", "PY", "99")))
    assert [r.code for r in nothing.rejects] == ["E215"], "a message that gives no row is told, not dropped"


TXA = segment(
    "TXA",
    f1="1",
    f2="500.53^出院小结",
    f4="20261118090000",
    f5="D1",
    f6="20261118080000",
    f9="D2^孙",
    f12="DOC1",
    f17="{state}",
)


def test_a_document_has_sections_and_may_be_cancelled(tmp_path: Path) -> None:
    sections = ("OBX|1|TX|8648-8^入院诊断^LN||高血压~糖尿病", "OBX|2|FT|11535-2^出院诊断^LN||好转\\.br\\出院")
    text = message("MDM^T02", EVN, PID, IN.format(out=""), TXA.format(state="AU"), *sections)
    document = one(tmp_path, "emr_document", text)
    assert (document["doc_id"], document["doc_type_code"], document["title"]) == (
        "DOC1",
        "500.53",
        "出院小结",
    )
    assert (document["status_code"], document["author_id"], document["created_at"]) == (
        "signed",
        "D2",
        "20261118080000",
    )
    assert document["content_text"] == "高血压; 糖尿病\n好转\n出院"
    parts = rows(tmp_path, "emr_section", text)
    assert [(p["doc_id"], p["seq"], p["section_name"], p["content_text"]) for p in parts] == [
        ("DOC1", "1", "入院诊断", "高血压; 糖尿病"),
        ("DOC1", "2", "出院诊断", "好转\n出院"),
    ]
    assert (
        one(tmp_path, "emr_document", message("MDM^T11", EVN, PID, OUT, TXA.format(state="DI")))[
            "status_code"
        ]
        == "voided"
    )


def test_embedded_files_are_no_text(tmp_path: Path) -> None:
    text = message(
        "MDM^T02",
        EVN,
        PID,
        OUT,
        TXA.format(state="AU"),
        "OBX|1|ED|PDF^报告^L||HIS^application^pdf^Base64^JVBERi0x",
    )
    assert "content_text" not in one(tmp_path, "emr_section", text)


OBR = segment(
    "OBR",
    f1="{n}",
    f2="O{n}",
    f3="R{n}",
    f4="BIO^生化^L",
    f7="20261118080000",
    f22="20261118090000",
    f24="{kind}",
    f25="F",
)


def test_specimens_and_remarks_go_with_their_own_report(tmp_path: Path) -> None:
    text = message(
        "ORU^R01",
        PID,
        OUT,
        *("ORC|RE|O1||A1", OBR.format(n=1, kind="CH"), "NTE|1||溶血", "NTE|2||已复查"),
        *("OBX|1|NM|K^钾||5.1", "NTE|1||复测", "SPM|1|S1||血清"),
        *(OBR.format(n=2, kind="CH"), "OBX|1|NM|NA^钠||140|||HH"),
    )
    reports = rows(tmp_path, "lab_report", text)
    assert [(r["report_id"], r.get("specimen_id"), r.get("apply_no"), r.get("remark")) for r in reports] == [
        ("R1", "S1", "A1", "溶血\n已复查"),
        ("R2", None, None, None),
    ]
    results = rows(tmp_path, "lab_result", text)
    assert [(r["report_id"], r["item_code"], r.get("remark"), r.get("is_critical")) for r in results] == [
        ("R1", "K", "复测", None),
        ("R2", "NA", None, "1"),
    ]
    assert one(tmp_path, "specimen", text)["specimen_type_code"] == "血清"


def test_a_flag_that_is_not_known_is_no_flag(tmp_path: Path) -> None:
    text = message("ORU^R01", PID, OUT, OBR.format(n=1, kind=""), "OBX|1|NM|K^钾||5.1|||↑")
    result = one(tmp_path, "lab_result", text)
    assert result["abnormal_flag"] == "↑"
    assert "is_critical" not in result


def test_an_imaging_report_is_no_laboratory_report(tmp_path: Path) -> None:
    text = message(
        "ORU^R01",
        PID,
        OUT,
        OBR.format(n=1, kind="CT"),
        "OBX|1|TX|1^所见^L||两肺纹理清晰",
        "OBX|2|TX|1&IMP^印象^L||未见异常",
    )
    assert rows(tmp_path, "lab_report", text) == rows(tmp_path, "lab_result", text) == []
    report = one(tmp_path, "imaging_report", text)
    assert (report["exam_no"], report["modality_code"]) == ("R1", "CT")
    assert (report["finding"], report["impression"]) == ("两肺纹理清晰", "未见异常")


def test_a_second_patient_in_a_message_takes_nothing_of_the_first(tmp_path: Path) -> None:
    second = "PID|2||P2^^^H001^MR||李四||19700101|F"
    text = message(
        "ORU^R01",
        PID,
        OUT,
        OBR.format(n=1, kind=""),
        "OBX|1|NM|K||5",
        second,
        OBR.format(n=2, kind=""),
        "OBX|1|NM|K||6",
    )
    found = rows(tmp_path, "lab_report", text)
    assert [(r["patient_local_id"], r.get("encounter_id")) for r in found] == [("P1", "E1"), ("P2", None)]
    orphan = read(
        tmp_path,
        "lis",
        message("ORU^R01", PID, OBR.format(n=1, kind=""), "OBX|1|NM|K||5", second, "OBX|1|NM|K||6"),
    )
    assert [(r.code, r.table, r.context["segment"]) for r in orphan.rejects] == [
        ("E214", "lab_result", "OBR")
    ]


def test_z_segments_stay_with_the_first_row_of_their_message(tmp_path: Path) -> None:
    z = ("ZPI|1|社区签约^家庭医生", "ZZZ")
    found = rows(
        tmp_path, "patient", message("ADT^A04", EVN, PID, *z), message("ADT^A04", EVN, PID), feed="his"
    )
    assert found[0]["_extra"] == '{"Z": ["ZPI|1|社区签约^家庭医生", "ZZZ"]}'
    assert "_extra" not in found[1]


def test_results_for_the_fast_lane_carry_their_report(tmp_path: Path) -> None:
    text = message("ORU^R01", PID, OUT, OBR.format(n=1, kind=""), "OBX|1|NM|2823-3^血钾^LN||7.1|mmol/L")
    (row,) = hl7v2.results_with_report(text.encode())
    wanted = {
        "report_id": "R1", "seq": "1", "loinc_code": "2823-3", "value_text": "7.1", "patient_local_id": "P1",
        "birth_date": "19580312", "sex_code": "M", "encounter_id": "E1", "panel_name": "生化", "dept_code": "内科",
        "requesting_org_code": "GROUP",
    }  # fmt: skip
    assert {k: row[k] for k in wanted} == wanted
    assert hl7v2.results_with_report(b"no message") == []
