"""The batch after the lane: what a real ingest brings to silver is asked for once, whoever was first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import ingestion
import worklist
from ingestion import fastlane
from lake import ledger
from tests.ingestion_world import DAY, drop, oru

AT = datetime(2026, 11, 18, 1, 30, tzinfo=UTC)


def obx(
    seq: int,
    code: str,
    name: str,
    text: str,
    *,
    loinc: str = "",
    unit: str = "",
    status: str = "F",
    flag: str = "",
) -> str:
    kind = "NM" if text[0].isdigit() else "ST"
    item = f"{code}^{name}^L^{loinc}^^LN" if loinc else f"{code}^{name}^L"
    return f"OBX|{seq}|{kind}|{item}||{text}|{unit}|||{flag}||{status}|||20261118085500\r"


RESULTS = (
    obx(1, "K", "血钾", "7.1", loinc="2823-3", unit="mmol/L"),
    obx(2, "NA", "血钠", "140", loinc="2951-2", unit="mmol/L"),
    obx(3, "HIV", "HIV Ab", "待确证"),
    obx(4, "HBS", "HBsAg", "阴性"),
    obx(5, "PLT", "血小板", "12", loinc="777-3", unit="10^9/L", status="X"),
)


def lab_day(results: str = "".join(RESULTS)) -> None:
    drop("lis", "H101", "oru_1.hl7", oru("M1", "R1", results).encode())
    ingestion.ingest_feed("lis", DAY)


def row(seq: str, code: str, name: str, text: str, **more: str) -> dict[str, str]:
    return {
        "report_id": "R1", "seq": seq, "item_code": code, "item_name": name, "value_text": text,
        "patient_local_id": "P1", "requesting_org_code": "C201", "observed_at": "20261118085500",
    } | more  # fmt: skip


def test_what_the_lane_did_not_see_is_asked_for_by_the_batch(lake_home: Path) -> None:
    lab_day()
    first = fastlane.reconcile(DAY)
    assert first == {
        "found": 2,
        "known": 0,
        "asked": 2,
        "missed_by_lane": 0,
    }  # nothing came through the lane here
    assert fastlane.reconcile(DAY) == {"found": 2, "known": 2, "asked": 0, "missed_by_lane": 0}
    worklist.take_requests()
    found = {(i.kind, i.subject, i.org_code) for i in worklist.items()}
    assert found == {
        ("critical_value", "lab_report/H101/R1", "H101"),
        ("infectious_positive", "lab_report/H101/R1", "H101"),
    }


def test_what_the_lane_asked_for_the_batch_knows(lake_home: Path) -> None:
    lane = [
        row("1", "K", "血钾", "7.1", loinc_code="2823-3", unit="mmol/L"),
        row("4", "HBS", "HBsAg", "阴性"),
    ]
    assert fastlane.offer("lab_result", lane, "H101", AT) == 1
    lab_day()
    assert fastlane.reconcile(DAY) == {"found": 2, "known": 1, "asked": 1, "missed_by_lane": 1}
    worklist.take_requests()
    assert len(worklist.items()) == 2


def test_one_batch_alone_can_be_reconciled(lake_home: Path) -> None:
    lab_day(RESULTS[0])
    drop(
        "lis",
        "H101",
        "oru_2.hl7",
        oru("M2", "R2", obx(1, "K", "血钾", "2.1", loinc="2823-3", unit="mmol/L")).encode(),
    )
    ingestion.ingest_feed("lis", DAY)
    batches = ledger.committed("lis", DAY)
    assert len(batches) == 2
    assert [fastlane.reconcile(batch_id=b)["asked"] for b in (*batches, *batches)] == [1, 1, 0, 0]


def test_an_empty_lake_reconciles_to_nothing(lake_home: Path) -> None:
    assert fastlane.reconcile(DAY) == {"found": 0, "known": 0, "asked": 0, "missed_by_lane": 0}


def cold_csv(minutes: range, temp: float, start: datetime = AT) -> bytes:
    lines = ["sensor,seq,ts_device,location_kind,temp"]
    lines += [
        f"S1,{m},{(start + timedelta(minutes=m)).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ},冰箱,{temp}"
        for m in minutes
    ]
    return ("\n".join(lines) + "\n").encode()


def cold_rows(minutes: range, temp: float) -> list[dict[str, str]]:
    return [
        {
            "sensor_id": "S1", "seq": str(m), "device_at": f"{AT + timedelta(minutes=m):%Y-%m-%dT%H:%M:%SZ}",
            "temp_c": str(temp), "location_kind_code": "冰箱",
        }
        for m in minutes
    ]  # fmt: skip


def cold_day(name: str, content: bytes) -> None:
    drop("iot", "C201", name, content)
    told = ingestion.ingest_feed("iot", DAY)
    assert told["quarantined"] == 0 and told["failed_files"] == 0, told


def test_a_cold_chain_episode_is_the_same_from_the_lane_and_from_silver(lake_home: Path) -> None:
    assert (
        fastlane.offer("cold_chain_reading", cold_rows(range(7), 9.5), "C201", AT + timedelta(minutes=7)) == 1
    )
    cold_day("cold_chain_reading_1.csv", cold_csv(range(7), 9.5))
    assert fastlane.reconcile(DAY) == {"found": 1, "known": 1, "asked": 0, "missed_by_lane": 0}


def test_an_episode_that_the_lane_saw_begin_later_is_not_asked_for_again(lake_home: Path) -> None:
    """The lane lost the first readings (a receiver was down): it told of minute 2 on, the batch sees minute 0 on."""
    assert (
        fastlane.offer("cold_chain_reading", cold_rows(range(2, 9), 9.5), "C201", AT + timedelta(minutes=9))
        == 1
    )
    cold_day("cold_chain_reading_1.csv", cold_csv(range(9), 9.5))
    assert fastlane.reconcile(DAY)["asked"] == 0


def test_an_episode_that_only_the_batch_sees_is_missed_by_the_lane(lake_home: Path) -> None:
    fastlane.offer("cold_chain_reading", cold_rows(range(2), 5.0), "C201", AT)
    cold_day("cold_chain_reading_1.csv", cold_csv(range(10, 20), 12.0))
    assert fastlane.reconcile(DAY) == {"found": 1, "known": 0, "asked": 1, "missed_by_lane": 1}
    assert fastlane.reconcile(DAY)["asked"] == 0


def test_a_laboratorys_own_critical_values_come_with_the_batch(lake_home: Path) -> None:
    lines = [
        "EVENT_ID,SOURCE_KIND_CODE,REPORT_ID,ITEM_CODE,ITEM_NAME,VALUE_TEXT,DETECTED_AT,STATUS_CODE,SOURCE_UPDATED_AT",
        "V1,lab,R1,K,血钾,7.1,2026-11-18 09:00:00,detected,2026-11-18 09:00:00",
        "V2,lab,R9,K,血钾,7.1,2026-11-18 09:00:00,closed,2026-11-18 09:00:00",
    ]
    drop("lis", "H101", "critical_value_event_1.csv", ("\n".join(lines) + "\n").encode())
    lab_day(RESULTS[0])
    told = fastlane.reconcile(DAY)
    assert (told["found"], told["asked"]) == (2, 1)  # the result and its event are one request
