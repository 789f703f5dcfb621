"""Deliveries end to end: what is loaded, refused, repeated; empty days, bad files, changed files."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import ingestion
from lake import ledger, tables
from lake.errors import MedlakeError
from lake.settings import settings
from tests.ingestion_world import DAY, NEXT, adt, content, drop, lake_content, oru, patient_csv

AT = "2026-11-18 08:00:00"


def four(result: dict[str, object]) -> tuple[object, ...]:
    return tuple(result[n] for n in ("received", "loaded", "duplicate", "quarantined"))


def test_an_empty_day_is_a_committed_batch(lake_home: Path) -> None:
    result = ingestion.ingest_feed("pacs", DAY)
    assert four(result) == (0, 0, 0, 0)
    assert result["batch_id"] == ledger.committed("pacs", DAY)[0]
    assert ingestion.ingest_feed("pacs", DAY)["batch_id"] == result["batch_id"]
    assert tables.names() == []


def test_a_day_of_his_in_csv_gb18030_and_hl7(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王小东,M,1958-03-12,{AT}"))
    drop("his", "H103", "patient_1.csv", patient_csv(f"P1,䶮㛃,女,1960/1/2,{AT}").decode().encode("gb18030"))
    drop("his", "H001", "adt_1.hl7", adt("M1", "P1").encode())
    result = ingestion.ingest_feed("his", DAY)
    assert four(result) == (3, 3, 0, 0)
    columns = (
        "org_code, patient_local_id, name, sex_code, birth_date, source_file, source_line, source_updated_at"
    )
    assert content("silver/patient", columns) == [
        ("H001", "P1", "王小东", "1", date(1958, 3, 12), "his/2026-11-18/H001/adt_1.hl7", 3, _utc(0, 15)),
        ("H101", "P1", "王小东", "1", date(1958, 3, 12), "his/2026-11-18/H101/patient_1.csv", 2, _utc(0, 0)),
        ("H103", "P1", "䶮㛃", "2", date(1960, 1, 2), "his/2026-11-18/H103/patient_1.csv", 2, _utc(0, 0)),
    ]


def _utc(hour: int, minute: int) -> datetime:
    return datetime(2026, 11, 18, hour, minute, tzinfo=UTC)


def test_redelivery_changes_nothing_and_counts_as_duplicates(lake_home: Path, tmp_path: Path) -> None:
    rows = (f"P1,王,男,,{AT}", f"P2,李,女,,{AT}", "P3,bad")
    drop("his", "H101", "patient_1.csv", patient_csv(*rows))
    first = ingestion.ingest_feed("his", DAY)
    assert four(first) == (3, 2, 0, 1)
    before = lake_content()
    assert four(ingestion.ingest_feed("his", DAY)) == four(first)  # the same run again
    drop("his", "H101", "patient_renamed.csv", patient_csv(*rows), NEXT)
    assert four(ingestion.ingest_feed("his", NEXT)) == (3, 0, 3, 0)
    (tmp_path / "H101").mkdir()
    given = tmp_path / "H101" / "patient_9.csv"
    given.write_bytes(patient_csv(*rows))
    for _ in range(2):
        assert four(ingestion.ingest_paths([given], "his", data_date=NEXT)) == (3, 0, 3, 0)
    assert lake_content() == before
    landed = sorted(
        p.name for p in settings().landing_dir.rglob("*.csv") if not p.name.startswith("manifest")
    )
    assert landed == ["patient_1.csv"]


def test_the_same_bytes_from_another_institution_are_its_own(lake_home: Path) -> None:
    for org in ("H101", "H102"):
        drop("his", org, "patient_1.csv", patient_csv(f"P1,王,男,,{AT}"))
    assert four(ingestion.ingest_feed("his", DAY)) == (2, 2, 0, 0)


def test_a_late_file_of_a_date_is_taken_by_the_next_run(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,男,,{AT}"))
    ingestion.ingest_feed("his", DAY)
    drop("his", "C201", "patient_1.csv", patient_csv(f"P1,李,男,,{AT}"))
    result = ingestion.ingest_feed("his", DAY)
    assert four(result) == (2, 2, 0, 0)
    assert len(result["batches"]) == 2


def test_newest_wins_and_an_older_one_does_not(lake_home: Path) -> None:
    def names() -> list[tuple[object, ...]]:
        return content("silver/patient", "name")

    drop(
        "his",
        "H101",
        "patient_1.csv",
        patient_csv("P1,新,男,,2026-11-18 09:00:00", "P1,旧,男,,2026-11-18 08:00:00"),
    )
    assert four(ingestion.ingest_feed("his", DAY)) == (2, 2, 0, 0)
    assert names() == [("新",)]
    drop("his", "H101", "patient_2.csv", patient_csv("P1,更旧,男,,2026-11-17 09:00:00"), NEXT)
    ingestion.ingest_feed("his", NEXT)
    assert names() == [("新",)]
    drop("his", "H101", "patient_3.csv", patient_csv("P1,更新,男,,2026-11-19 09:00:00"), NEXT)
    ingestion.ingest_feed("his", NEXT)
    assert names() == [("更新",)]
    assert len(content("bronze/his/patient")) == 4


def test_bad_files_are_named_and_the_others_go_on(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,男,,{AT}"))
    drop("his", "H101", "encounter_1.csv", b"")
    drop("his", "H101", "unknown_1.csv", b"A,B\n1,2\n")
    drop("his", "H101", "diagnosis_1.csv", b"x,y,z\n1,2,3\n")
    drop("his", "H101", "referral_1.pdf", b"%PDF-1.7")
    drop("his", "H101", "prescription_item_1.xlsx", b"PK\x03\x04 broken")
    result = ingestion.ingest_feed("his", DAY)
    assert four(result) == (6, 1, 0, 5)
    assert result["failed_files"] == 5
    rows = content("quarantine/his/file", "error_code, source_file, reason_zh, remedy_en, org_code")
    assert [(code, file.split("/")[-1]) for code, file, *_ in rows] == [
        ("E203", "encounter_1.csv"),
        ("E204", "unknown_1.csv"),
        ("E205", "diagnosis_1.csv"),
        ("E209", "prescription_item_1.xlsx"),
        ("E220", "referral_1.pdf"),
    ]
    assert all(reason and remedy and org == "H101" for _, _, reason, remedy, org in rows)


def test_a_refused_record_keeps_place_reason_and_content(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,男,,{AT}", "P2,李,男,1958-99-99,"))
    drop("his", "H001", "adt_1.hl7", adt("M1", "P1").replace("19580312", "fruehling").encode())
    ingestion.ingest_feed("his", DAY)
    columns = "place, error_code, errors, field, reason_zh, raw, source_line"
    hl7_row, csv_row = content("quarantine/his/patient", columns)
    assert csv_row[:4] == (
        "his/2026-11-18/H101/patient_1.csv:3 BIRTH_DATE",
        "E211",
        "E211:birth_date,E210:source_updated_at",
        "birth_date",
    )
    assert json.loads(csv_row[5])["BIRTH_DATE"] == "1958-99-99"
    assert "1958-99-99" not in csv_row[4], "a value of a record is no part of an error's text"
    assert (hl7_row[0], hl7_row[6]) == ("his/2026-11-18/H001/adt_1.hl7:3 PID-7", 3)


def test_unknown_codes_go_to_the_inbox_and_unknown_columns_to_the_notices(lake_home: Path) -> None:
    head = "PATIENT_LOCAL_ID,SEX_CODE,SOURCE_UPDATED_AT,备注"
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,外星,{AT},x", f"P2,外星,{AT},", header=head))
    result = ingestion.ingest_feed("his", DAY)
    assert four(result) == (2, 2, 0, 0)
    inbox = content("ops/unmapped_code", "code_system, feed, org_code, source_code, records")
    assert inbox == [("sex", "his", "H101", "外星", 2)]
    assert content("silver/patient", "DISTINCT sex_code") == [("外星",)]
    notices = content("ops/ingest_notice", "notice_code, source_file, text_zh")
    assert [n[0] for n in notices] == ["E221", "E222"]
    assert "备注" in notices[0][2]
    assert content("bronze/his/patient", "_extra")[0] == ('{"备注": "x"}',)


def test_a_laboratory_day(lake_home: Path) -> None:
    obx = "OBX|1|NM|GLU^葡萄糖^L^2345-7||5.60|mmol/L|3.9-6.1|↑|||F|||20261118085500\r"
    drop("lis", "H105", "oru_1.hl7", oru("M1", "R1", obx).encode())
    result = ingestion.ingest_feed("lis", DAY)
    assert four(result) == (2, 2, 0, 0)
    columns = "org_code, requesting_org_code, patient_local_id, encounter_id, reported_at"
    assert content("silver/lab_report", columns) == [("H105", "C201", "P1", "E77", _utc(1, 0))]
    columns = "report_id, seq, loinc_code, value_num, abnormal_flag, ref_low, ref_high"
    assert content("silver/lab_result", columns) == [("R1", 1, "2345-7", 5.6, "H", 3.9, 6.1)]


def test_the_institution_is_the_folders_else_the_callers_else_the_senders_else_the_default(
    lake_home: Path, tmp_path: Path
) -> None:
    def orgs(feed: str, table: str) -> list[tuple[object, ...]]:
        return content(f"silver/{table}", "DISTINCT org_code")

    message = tmp_path / "adt_1.hl7"
    message.write_bytes(adt("M1", "P1").replace("|HIS|H001|", "|HIS|H104|").encode())
    ingestion.ingest_paths([message], "his", data_date=DAY)
    assert orgs("his", "patient") == [("H104",)]
    ingestion.ingest_paths([message], "his", org_code="C205", data_date=DAY)
    assert orgs("his", "patient") == [("C205",), ("H104",)]
    (tmp_path / "C206").mkdir()
    ingestion.ingest_paths(
        [message.rename(tmp_path / "C206" / "adt_1.hl7")], "his", org_code="C205", data_date=DAY
    )
    assert orgs("his", "patient") == [("C205",), ("C206",), ("H104",)]
    table = tmp_path / "patient_1.csv"
    table.write_bytes(patient_csv(f"P9,王,男,,{AT}"))
    ingestion.ingest_paths([table], "his", data_date=DAY)
    assert ("H001",) in orgs("his", "patient")


def test_readings_are_appended_once(lake_home: Path) -> None:
    line = '{"device":"D1","seq":%d,"metric":"8480-6","value":121,"unit":"mmHg","ts_device":"2026-11-18T08:0%d:00+08:00"}\n'
    drop("iot", "C201", "telemetry_1.ndjson", (line % (1, 1) + line % (2, 2)).encode())
    drop("iot", "C201", "telemetry_2.ndjson", (line % (2, 2) + line % (3, 3) + "{broken\n").encode(), NEXT)
    assert four(ingestion.ingest_feed("iot", DAY)) == (2, 2, 0, 0)
    assert four(ingestion.ingest_feed("iot", NEXT)) == (3, 1, 1, 1)
    assert content("silver/vital_reading", "seq, device_at") == [
        (1, _utc(0, 1)),
        (2, _utc(0, 2)),
        (3, _utc(0, 3)),
    ]


def test_a_delivery_above_the_limit_becomes_several_batches(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLAKE_BATCH_MAX_BYTES", "1024")
    settings.cache_clear()
    for i in range(4):
        rows = [f"P{i}-{n},王,男,,{AT}" for n in range(20)]
        drop("his", "H101", f"patient_{i}.csv", patient_csv(*rows))
    result = ingestion.ingest_feed("his", DAY)
    assert four(result) == (80, 80, 0, 0)
    assert len(result["batches"]) == 4
    assert len(content("silver/patient")) == 80


def test_an_unreadable_file_and_a_missing_path(lake_home: Path, tmp_path: Path) -> None:
    with pytest.raises(MedlakeError, match="E201"):
        ingestion.ingest_paths([tmp_path / "nothing"], "his", data_date=DAY)
    with pytest.raises(MedlakeError, match="E102"):
        ingestion.ingest_paths([tmp_path], "no_such_feed", data_date=DAY)


def test_the_manifest_names_every_file_with_its_hash(lake_home: Path) -> None:
    import csv
    import hashlib

    body = patient_csv(f"P1,王,男,,{AT}")
    drop("his", "H101", "patient_1.csv", body)
    batch_id = ingestion.ingest_feed("his", DAY)["batch_id"]
    path = settings().landing_dir / "his" / DAY.isoformat() / f"manifest-{batch_id}.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["path"], r["sha256"], int(r["bytes"]), r["org_code"]) for r in rows] == [
        ("his/2026-11-18/H101/patient_1.csv", hashlib.sha256(body).hexdigest(), len(body), "H101")
    ]


def test_no_value_of_a_record_reaches_the_log(lake_home: Path) -> None:
    drop(
        "his", "H101", "patient_1.csv", patient_csv(f"GEHEIM1,绝密名,外星码,1958-99-99,{AT}", "GEHEIM2,绝密")
    )
    drop("his", "H001", "adt_1.hl7", adt("M1", "GEHEIM3", "绝密人").replace("19580312", "坏").encode())
    ingestion.ingest_feed("his", DAY)
    log = (settings().log_dir / "medlake.jsonl").read_text("utf-8")
    assert "batch_committed" in log
    assert not [w for w in ("GEHEIM", "绝密", "外星码", "1958") if w in log]
