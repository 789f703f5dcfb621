"""HL7 v2 through the whole way: one batch fills tables of several contracts, deletes, refuses, and balances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ingestion
from lake import duck, tables
from tests.ingestion_world import DAY, NEXT, adt, content, drop, oru

PV1 = "PV1|1|I|心内科^302^05" + "|" * 16 + "Z1" + "|" * 25 + "20261110090000\r"


def admitted(event: str, updated: str) -> str:
    return adt(f"M{event}", "P1", updated=updated).replace("ADT^A04", f"ADT^{event}") + PV1


def balanced(result: dict[str, Any]) -> None:
    assert result["received"] == result["loaded"] + result["duplicate"] + result["quarantined"]


def current(table: str, columns: str) -> list[tuple[Any, ...]]:
    """What a consumer sees: deleted rows are hidden."""
    with duck.connect() as con:
        duck.create_views(con, {f"silver/{table}": tables.version(f"silver/{table}")})
        return con.execute(f"SELECT {columns} FROM silver.{table} ORDER BY ALL").fetchall()


def test_one_file_fills_the_tables_of_several_contracts(lake_home: Path) -> None:
    result = oru("R1", "R1", "OBX|1|NM|2345-7^葡萄糖^LN||5.6|mmol/L|3.9-6.1|N|||F\r")
    charge = (
        "MSH|^~\\&|HIS|H001|||20261118||DFT^P03|F1|P|2.5\rPID|1||P1^^^H001^MR\r"
        f"{PV1}FT1|1|FEE1||20261118|20261118|CG|X1^血常规|||2|20|10\rFT1|2|||20261118|20261118|CG|X2^尿常规|||1|8|8\r"
    )
    drop("hl7v2", "H001", "all.hl7", (admitted("A01", "20261118081500") + result + charge).encode())
    told = ingestion.ingest_feed("hl7v2", DAY)
    balanced(told)
    assert {name: t["loaded"] for name, t in told["tables"].items()} == {
        "hl7v2_message": 3,
        "patient": 1,
        "encounter": 1,
        "inpatient_encounter": 1,
        "lab_report": 1,
        "lab_result": 1,
        "fee_item": 1,
    }
    assert content("silver/inpatient_encounter", "inpatient_id, bed_no, status_code") == [
        ("Z1", "05", "in_hospital")
    ]
    assert content("silver/lab_result", "report_id, item_code, value_num") == [("R1", "2345-7", 5.6)]
    refused = content("quarantine/his/fee_item", "error_code, place, reason_en")
    assert [(code, place.rsplit(" ", 1)[1]) for code, place, _ in refused] == [("E210", "FT1-2")]
    again = ingestion.ingest_paths(
        [drop("hl7v2", "H001", "again.hl7", charge.encode(), NEXT)], "hl7v2", data_date=NEXT
    )
    balanced(again)
    assert again["loaded"] == 0, "known messages and rows are duplicates, also in another file"


def test_a_cancelled_admission_is_a_tombstone_and_a_cancelled_stay(lake_home: Path) -> None:
    drop("hl7v2", "H001", "1.hl7", admitted("A01", "20261118081500").encode())
    ingestion.ingest_feed("hl7v2", DAY)
    assert current("encounter", "encounter_id") == [("Z1",)]
    drop("hl7v2", "H001", "2.hl7", admitted("A11", "20261119081500").encode(), NEXT)
    balanced(ingestion.ingest_feed("hl7v2", NEXT))
    assert current("encounter", "encounter_id") == []
    assert content("silver/encounter", "encounter_id, is_deleted") == [("Z1", True)]
    assert current("inpatient_encounter", "status_code") == [("cancelled",)]


def test_the_same_results_over_two_doors_are_one(lake_home: Path) -> None:
    text = oru("R1", "R1", "OBX|1|NM|2345-7^葡萄糖^LN||5.6|mmol/L|3.9-6.1|N|||F\r").encode()
    drop("lis", "H101", "a.hl7", text)
    drop("hl7v2", "H101", "a.hl7", text)
    first = ingestion.ingest_feed("lis", DAY)
    second = ingestion.ingest_feed("hl7v2", DAY)
    assert first["tables"]["lab_result"]["loaded"] == 1
    assert second["tables"]["lab_result"] == {"received": 1, "loaded": 0, "duplicate": 1, "quarantined": 0}
    assert second["tables"]["hl7v2_message"]["loaded"] == 1
    assert len(content("silver/lab_result")) == len(content("bronze/lis/lab_result")) == 1


def test_a_batch_file_that_lacks_messages_fails_alone(lake_home: Path) -> None:
    whole = "BHS|^~\\&|LIS\r" + adt("M1", "P1") + adt("M2", "P2") + "BTS|2\r"
    short = "BHS|^~\\&|LIS\r" + adt("M3", "P3") + "BTS|2\r"
    drop("hl7v2", "H001", "whole.hl7", whole.encode())
    drop("hl7v2", "H001", "short.hl7", short.encode())
    ingestion.ingest_feed("hl7v2", DAY)
    assert [r[0] for r in content("silver/hl7v2_message", "message_control_id")] == ["M1", "M2"]
    assert [r[0] for r in content("silver/patient", "patient_local_id")] == ["P1", "P2"]
    mended = "BHS|^~\\&|LIS\r" + adt("M3", "P3") + adt("M4", "P4") + "BTS|2\r"
    drop("hl7v2", "H001", "mended.hl7", mended.encode())
    ingestion.ingest_feed("hl7v2", DAY)
    assert len(content("silver/hl7v2_message")) == 4


def test_documents_are_taken_by_the_feed_emr(lake_home: Path) -> None:
    text = (
        "MSH|^~\\&|EMR|H001|||20261118||MDM^T02|D1|P|2.5\rEVN||20261118081500\rPID|1||P1^^^H001^MR\r"
        f"{PV1}TXA|1|500.53^出院小结||20261118090000||20261118080000||||||DOC1|||||AU\rOBX|1|TX|8648-8^入院诊断^LN||高血压\r"
    )
    drop("emr", "H001", "mdm.hl7", (text + adt("M1", "P1")).encode())
    told = ingestion.ingest_feed("emr", DAY)
    balanced(told)
    assert content("silver/emr_document", "doc_id, status_code, content_text") == [
        ("DOC1", "signed", "高血压")
    ]
    assert content("silver/emr_section", "doc_id, seq, content_text") == [("DOC1", 1, "高血压")]
    assert [r[0] for r in content("quarantine/emr/emr_document", "error_code")] == ["E215"]
