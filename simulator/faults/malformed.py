"""Records that a reader must quarantine, load with the original code, or count as duplicates."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.faults.record import World

Damage = dict[tuple[date, str, str], list[str]]
CSV_ORGS = ("H102", "H103", "C203", "C212")


def _encounter(key: str, patient: str, at: str, **change: str) -> list[str]:
    row = {
        "encounter_id": key, "patient_local_id": patient, "class_code": "AMB", "dept_code": "0301", "doctor_id": "D001",
        "started_at": at, "ended_at": at, "chief_complaint": "复诊", "sbp_mmhg": "128",
        "dbp_mmhg": "78", "disposition_code": "home", "total_fee": "86.5", "insurance_pay": "50",
        "source_updated_at": at,
    }  # fmt: skip
    return list((row | change).values())


def build(world: World) -> Damage:
    """Damaged records by file, each logged. A handful per daily delivery, and none in the history."""
    damage: Damage = defaultdict(list)
    for data_date in world.window.data_dates[1:]:
        _his(world, damage, data_date)
        _hl7(world, damage, data_date)
        _iot(world, damage, data_date)
        _public_health(world, damage, data_date)
    return damage


def _orgs_with_rows(world: World, table: str, data_date: date, among: tuple[str, ...]) -> list[str]:
    """Institutions that deliver this table on this date: damage needs a file to lie in."""
    rows = world.tables[table]
    here = rows.filter(pc.equal(rows["deliver_on"], pa.scalar(data_date, pa.date32())))["org_code"]
    found = set(pc.unique(here.combine_chunks()).to_pylist())
    return [org for org in among if org in found]


def _his(world: World, damage: Damage, data_date: date) -> None:
    patients = world.tables["patient"]
    at = f"{data_date.isoformat()} 10:00:00"
    for org in _orgs_with_rows(world, "encounter", data_date, CSV_ORGS):
        known = patients.filter(pc.equal(patients["org_code"], org))["patient_local_id"]
        someone = known[0].as_py() if len(known) else "P0"
        stamp = f"{data_date:%Y%m%d}"
        cases = {
            "bad_row": (f"BR{stamp}", "", ["BR" + stamp, someone, "AMB"]),
            "bad_date": (f"BD{stamp}", "started_at", _encounter(f"BD{stamp}", someone, at, started_at="2026-13-45 25:61:00")),
            "missing_key": ("", "encounter_id", _encounter("", someone, at)),
            "unknown_code": (f"UC{stamp}", "class_code", _encounter(f"UC{stamp}", someone, at, class_code="特需")),
        }  # fmt: skip
        for kind, (key, fields, cells) in cases.items():
            damage[data_date, org, "encounter"].append(",".join(cells))
            world.note_text(data_date, "encounter", org, key, kind, fields)


def _hl7(world: World, damage: Damage, data_date: date) -> None:
    stamp = f"{data_date:%Y%m%d}"
    for org in _orgs_with_rows(world, "lab_report", data_date, ("H001", "H103")):
        head = f"MSH|^~\\&|LIS|{org}|HIS|{org}|{stamp}090000||ORU^R01^ORU_R01|BAD{stamp}"
        end = "|P|2.5.1||||||UNICODE UTF-8\r"
        obr = f"OBR|1|A{stamp}1^HIS|LBAD{stamp}1^LIS|P01^血常规^L|||{stamp}080000\r"
        orphan = f"{head}1{end}{obr}OBX|1|NM|WBC^白细胞计数^L||5.1|10*9/L\r"
        empty = f"{head}2{end}PID|1||{org}NOBODY^^^{org}^MR||测试甲||19800101|M\rPV1|1|O\r"
        for number, (kind, text) in enumerate(
            (("broken_segment", orphan), ("missing_segment", empty)), start=1
        ):
            damage[data_date, org, "lab_report"].append(text)
            world.note_text(
                data_date, "lab_report", org, f"BAD{stamp}{number}", kind, "PID" if number == 1 else "OBR"
            )


def _iot(world: World, damage: Damage, data_date: date) -> None:
    centres = tuple(f"C{n}" for n in range(201, 219))
    for org in _orgs_with_rows(world, "vital_reading", data_date, centres)[:3]:
        device = {
            "device": f"BADDEV{org}",
            "seq": 1,
            "metric": "8867-4",
            "value": 71,
            "unit": "/min",
            "ts_device": f"{data_date}T08:00:00+08:00",
        }
        cut = json.dumps(device, ensure_ascii=False)[:40]
        wrong = json.dumps(device | {"seq": 2, "value": "七十一"}, ensure_ascii=False)
        keyless = json.dumps(
            {k: v for k, v in device.items() if k != "device"} | {"seq": 3}, ensure_ascii=False
        )
        for kind, fields, text in (
            ("broken_json", "", cut),
            ("bad_number", "value", wrong),
            ("missing_key", "device_id", keyless),
        ):
            damage[data_date, org, "vital_reading"].append(text)
            world.note_text(data_date, "vital_reading", org, f"BADDEV{org}", kind, fields)


def _public_health(world: World, damage: Damage, data_date: date) -> None:
    stamp = f"{data_date:%Y%m%d}"
    centres = tuple(f"C{n}" for n in range(201, 219))
    for org in _orgs_with_rows(world, "htn_visit", data_date, centres)[:3]:
        width = 32
        archive = world.tables["ph_archive"]
        someone = archive.filter(pc.equal(archive["org_code"], org))["archive_id"][0].as_py()
        typed = f"{data_date.isoformat()} 15:00:00"
        bad_date = [f"GSBD{stamp}", someone, "2026-02-30", *[""] * (width - 4), typed]
        no_key = ["", someone, data_date.isoformat(), *[""] * (width - 4), typed]
        for kind, fields, cells in (
            ("bad_date", "visited_on", bad_date),
            ("missing_key", "visit_id", no_key),
        ):
            damage[data_date, org, "htn_visit"].append(",".join(cells))
            world.note_text(data_date, "htn_visit", org, cells[0], kind, fields)


def imaging(world: World) -> None:
    """Which DICOM files are cut short or empty, and which declare a character set that their bytes do not have."""
    table = world.tables["imaging_instance"]
    size = table.num_rows
    draw = world.rng.random(size)
    charset = np.where(draw < 0.86, "GB18030", np.where(draw < 0.96, "ISO_IR 100", "none"))
    damage = np.full(size, "", dtype=object)
    daily = np.flatnonzero(
        (world.array("imaging_instance", "deliver_on") > np.datetime64(world.window.history_end))
        & (world.array("imaging_instance", "deliver_on") <= world.end)
        & (world.array("imaging_instance", "instance_no") > 1)
    )
    hit = np.sort(world.rng.permutation(daily)[: 2 * int(world.rates["damaged_dicom"])])
    damage[hit[::2]], damage[hit[1::2]] = "truncated", "zero"
    table = table.append_column("charset", pa.array(charset.tolist(), pa.string()))
    world.tables["imaging_instance"] = table.append_column("damage", pa.array(damage.tolist(), pa.string()))
    world.note("imaging_instance", hit[::2], None, "truncated_dicom", "")
    world.note("imaging_instance", hit[1::2], None, "zero_byte_dicom", "")


def duplicates(world: World) -> None:
    """Telemetry that a gateway sends twice, and HIS rows that an extract holds twice: the same record again."""
    for table, share in (
        ("vital_reading", world.rates["repeated_reading"]),
        ("prescription_item", world.rates["repeated_row"]),
    ):
        delivered = np.flatnonzero(world.array(table, "deliver_on") <= world.end)
        rows = (
            np.sort(world.rng.permutation(delivered)[: max(int(share * len(delivered)), 1)])
            if len(delivered)
            else delivered
        )
        added = world.add(table, world.tables[table].take(pa.array(rows)))
        world.note(table, added, None, "duplicate_record", "")
