"""The files of a small city: byte-stable, in their own formats and encodings, holding what the truth says."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import hl7
import pyarrow.parquet as pq
import pydicom
import pytest
import yaml
from python_calamine import CalamineWorkbook

import simulator
from lake.errors import MedlakeError
from simulator.city import FEEDS
from simulator.writers.base import MARKER

END = date(2026, 11, 20)
CITY: dict[str, Any] = {"residents": 1500, "days": 3, "end_date": END, "history_years": 3, "seed": 42}
ROOT = Path(__file__).parents[2]


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.name != MARKER):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    simulator.simulate(**CITY, out=root / "drop", truth=root / "truth")
    return root


def faults(root: Path) -> list[dict[str, Any]]:
    return pq.read_table(root / "truth" / "fault.parquet").to_pylist()


def test_same_seed_same_bytes_and_another_seed_other_bytes(drop: Path, tmp_path: Path) -> None:
    simulator.simulate(**CITY, out=tmp_path / "again", truth=tmp_path / "truth")
    assert tree_hash(tmp_path / "again") == tree_hash(drop / "drop")
    assert tree_hash(tmp_path / "truth") == tree_hash(drop / "truth")
    simulator.simulate(**(CITY | {"seed": 43}), out=tmp_path / "other", truth=tmp_path / "truth2")
    assert tree_hash(tmp_path / "other") != tree_hash(drop / "drop")


def test_layout_is_date_feed_institution(drop: Path) -> None:
    dates = sorted(p.name for p in (drop / "drop").iterdir() if p.is_dir())
    early, dates = dates[:-4], dates[-4:]
    assert dates == ["2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"]
    assert early == ["2026-10-16", "2026-10-23", "2026-10-30", "2026-11-06", "2026-11-13"][-len(early) :]
    for day in early:  # one institution's weekly exports
        assert [len(list(p.iterdir())) for p in (drop / "drop" / day).iterdir()] == [1], day
    for day in dates:
        feeds = {p.name for p in (drop / "drop" / day).iterdir()}
        assert {"his", "lis", "iot", "public_health"} <= feeds <= {*FEEDS, "access_log"}, day
    assert len(list((drop / "drop" / "2026-11-17" / "his").iterdir())) == 24


def test_one_hospital_exports_gb18030_and_the_others_utf8(drop: Path) -> None:
    for path in (drop / "drop").rglob("his/*/*.csv"):
        raw = path.read_bytes()
        if path.parent.name == "H103":
            text = raw.decode("gb18030")
            if not text.isascii():
                with pytest.raises(UnicodeDecodeError):
                    raw.decode("utf-8-sig")
        else:
            assert raw.startswith(b"\xef\xbb\xbf")
            text = raw.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text)))
        ragged = [row for row in rows if len(row) != len(rows[0])]
        assert all(row[0].startswith("BR") for row in ragged), path


def test_headers_are_those_of_the_contracts(drop: Path) -> None:
    """In the contract's order; a source may lack fields that the contract does not require."""
    contracts = {
        f: yaml.safe_load((ROOT / f"ingestion/contracts/{f}.odcs.yaml").read_text())
        for f in ("his", "referral", "public_health")
    }
    wanted = {table["name"]: table["properties"] for c in contracts.values() for table in c["schema"]}
    for feed in contracts:
        found = list((drop / "drop").rglob(f"{feed}/*/*.csv"))
        assert found, feed
        for path in found:
            encoding = "gb18030" if path.parent.name == "H103" and feed != "public_health" else "utf-8-sig"
            first = path.read_bytes().decode(encoding).split("\n", 1)[0].split(",")
            fields = wanted[path.name.rsplit("_", 1)[0]]
            assert first == [p["physicalName"] for p in fields if p["physicalName"] in first], path
            assert {p["physicalName"] for p in fields if p.get("required")} <= set(first), path


def test_workbooks_have_title_note_and_text_cells(drop: Path) -> None:
    books = sorted((drop / "drop").rglob("public_health/*/*.xlsx"))
    assert {p.parent.name for p in books if p.parts[-4] == "2026-11-17"} == {"C201", "C210"}
    numbers = 0
    for path in books:
        book = CalamineWorkbook.from_path(path)
        for name in book.sheet_names:
            rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
            assert rows[0][0].endswith("导出表") and not any(rows[0][1:])
            assert "档案ID" in rows[2] or "死亡登记号" in rows[2]
            numbers += sum(isinstance(cell, float) for row in rows[3:] for cell in row)
            assert all(isinstance(row[0], str) for row in rows[3:])
    assert numbers > 0, "one centre writes dates as bare day numbers"
    months = CalamineWorkbook.from_path(
        drop / "drop/2026-11-17/public_health/C201/htn_visit_20261117.xlsx"
    ).sheet_names
    assert len(months) > 6 and months[0].endswith("月")


def test_every_good_message_is_read_by_the_hl7_package(drop: Path) -> None:
    for path in sorted((drop / "drop" / "2026-11-19").rglob("*.hl7")):
        text = path.read_bytes().decode("utf-8")
        body = [s for s in text.split("\r") if s and s[:3] not in ("FHS", "BHS", "BTS", "FTS")]
        starts = [i for i, s in enumerate(body) if s.startswith("MSH")]
        assert starts and starts[0] == 0
        for a, b in zip(starts, [*starts[1:], len(body)], strict=True):
            message = hl7.parse("\r".join(body[a:b]) + "\r")
            if str(message["MSH"][0][10]).startswith("BAD"):
                continue
            assert str(message["MSH"][0][18]) == "UNICODE UTF-8" and str(message["PID"][0][3])
            if "ORU" in str(message["MSH"][0][9]):
                assert str(message["OBR"][0][3]) and all(str(o[3]).count("^") == 5 for o in message["OBX"])


def test_dicom_files_are_real_and_damaged_ones_are_logged(drop: Path) -> None:
    logged = {r["record_key"]: r["fault_kind"] for r in faults(drop) if r["table_name"] == "imaging_instance"}
    seen, charsets = set(), set()
    for path in sorted((drop / "drop").rglob("*.dcm")):
        if not path.stat().st_size:
            seen.add("zero_byte_dicom")
            continue
        try:
            data = pydicom.dcmread(path)
            pixels = data.PixelData
        except Exception:
            seen.add("truncated_dicom")
            continue
        charsets.add(data.get("SpecificCharacterSet"))
        assert data.SOPInstanceUID not in logged and len(pixels) == 64 and data.Rows == 8
        if data.get("SpecificCharacterSet") == "GB18030":
            assert any("\u4e00" <= c <= "\u9fff" for c in str(data.StudyDescription))
    assert {"GB18030"} < charsets, "some headers are mislabelled"
    assert seen == set(logged.values())


def test_gateway_dumps_are_json_except_where_logged(drop: Path) -> None:
    broken = repeated = 0
    lines_seen: set[str] = set()
    for path in sorted((drop / "drop").rglob("telemetry_*.ndjson")):
        for line in path.read_text("utf-8").splitlines():
            repeated += f"{path}{line}" in lines_seen
            lines_seen.add(f"{path}{line}")
            try:
                reading = json.loads(line)
            except json.JSONDecodeError:
                broken += 1
                continue
            assert {"seq", "metric", "value", "ts_device"} <= set(reading)
    kinds = [r["fault_kind"] for r in faults(drop)]
    assert broken == kinds.count("broken_json") > 0
    assert (
        repeated
        == sum(
            r["fault_kind"] == "duplicate_record" and r["table_name"] == "vital_reading" for r in faults(drop)
        )
        > 0
    )


def test_faults_of_the_truth_are_in_the_files(drop: Path) -> None:
    old_hospital = ("his/H103", "referral/H103")  # its other systems are newer
    text = {
        day: {
            path: path.read_bytes().decode(
                "gb18030" if "/".join(path.parts[-3:-1]) in old_hospital else "utf-8-sig"
            )
            for path in (drop / "drop" / day).rglob("*.csv")
        }
        for day in ("2026-11-17", "2026-11-18")
    }
    checked = 0
    for row in faults(drop):
        day = row["data_date"].isoformat()
        if day not in text or row["fault_kind"] in ("duplicate_file", "missing_key"):
            continue
        mine = [
            t
            for p, t in text[day].items()
            if p.parent.name == row["org_code"] and p.name.startswith(f"{row['table_name']}_")
        ]
        if mine:
            checked += 1
            assert any(row["record_key"].split("|")[0] in t for t in mine), row
    assert checked > 100


def test_a_feed_can_be_silent_for_a_day(tmp_path: Path) -> None:
    small = CITY | {"residents": 300, "history_years": 1}
    simulator.simulate(
        **small, out=tmp_path / "drop", truth=tmp_path / "t", empty_feeds=[(date(2026, 11, 19), "iot")]
    )
    assert not (tmp_path / "drop/2026-11-19/iot").exists() and (tmp_path / "drop/2026-11-18/iot").exists()


def test_bad_day_adds_one_delivery_and_changes_nothing_before(drop: Path, tmp_path: Path) -> None:
    simulator.simulate(**CITY, out=tmp_path / "drop", truth=tmp_path / "truth")
    before = tree_hash(tmp_path / "drop")
    simulator.simulate_bad_day(out=tmp_path / "drop", truth=tmp_path / "truth", **CITY)
    added = tmp_path / "drop" / "2026-11-21"
    assert {p.name for p in added.iterdir()} >= {"his", "lis", "iot", "public_health"}
    bad = [r for r in faults(tmp_path) if r["fault_kind"] == "bad_day"]
    visits = sum(r["table_name"] == "htn_visit" and r["rule_id"] == "HTN-009" for r in bad)
    total = sum(
        path.read_text("utf-8-sig").count("\nGS")
        for path in (tmp_path / "drop/2026-11-17").rglob("htn_visit_*.csv")
    )
    assert visits > 0.4 * total > 0
    import shutil

    shutil.rmtree(added)
    assert tree_hash(tmp_path / "drop") == before


def test_bad_day_refuses_another_city(drop: Path, tmp_path: Path) -> None:
    with pytest.raises(MedlakeError, match="E801"):
        simulator.simulate_bad_day(out=tmp_path, truth=drop / "truth", seed=1)
    with pytest.raises(MedlakeError, match="E803"):
        simulator.simulate_bad_day(date(2027, 1, 1), out=tmp_path, truth=drop / "truth")
    with pytest.raises(MedlakeError, match="E802"):
        simulator.simulate_bad_day(out=tmp_path, truth=tmp_path)


def test_a_new_simulation_replaces_the_old_drop_but_no_other_data(tmp_path: Path) -> None:
    small = CITY | {"residents": 300, "history_years": 1}
    simulator.simulate(**small, out=tmp_path / "drop", truth=tmp_path / "truth")
    first = tree_hash(tmp_path / "drop")
    simulator.simulate(
        **(small | {"end_date": date(2026, 10, 20)}), out=tmp_path / "drop", truth=tmp_path / "truth"
    )
    assert not (tmp_path / "drop/2026-11-18").exists()
    simulator.simulate(**small, out=tmp_path / "drop", truth=tmp_path / "truth")
    assert tree_hash(tmp_path / "drop") == first
    foreign = tmp_path / "real" / "2026-11-18" / "his"
    foreign.mkdir(parents=True)
    with pytest.raises(MedlakeError, match="E804"):
        simulator.simulate(**small, out=tmp_path / "real", truth=tmp_path / "truth")
    assert foreign.is_dir()
