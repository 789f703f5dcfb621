"""From an unknown code to a reviewed map to the silver row: inbox, coverage, proposal, acceptance, re-conform."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from typer.testing import CliRunner

import ingestion
from ingestion import codes
from lake import ledger
from medlake.commands.codes import app
from tests.ingestion_world import DAY, NEXT, content, drop, patient_csv

BY = {"reviewer": "王审核", "reviewed_on": DAY}
ARCHIVE = "档案ID,姓名,Rh血型,档案状态,更新时间"


def archives(*rh: str) -> bytes:
    rows = [f"A{i},张{i},{code},1,2026-11-18 08:00:00" for i, code in enumerate(rh)]
    return ("\n".join([ARCHIVE, *rows]) + "\n").encode()


def texts(code: str) -> list[str]:
    found = content("ops/ingest_notice", "notice_code, text_zh")
    return [text for notice, text in found if notice == code]


def test_an_unknown_code_goes_to_the_inbox_is_proposed_accepted_and_applied(lake_home: Path) -> None:
    drop(
        "his",
        "H101",
        "patient_1.csv",
        patient_csv(*(f"P{i},王,男的,1958-03-12,2026-11-18 08:00:00" for i in range(3))),
    )
    drop(
        "his",
        "C201",
        "patient_1.csv",
        patient_csv("P1,李,女,1958-03-12,2026-11-18 08:00:00", "P2,赵,雌,,2026-11-18 08:00:00"),
    )
    ingestion.ingest_feed("his", DAY)
    assert [(r["source_code"], r["records"], r["institutions"], r["tables"]) for r in codes.inbox()] == [
        ("男的", 3, 1, "his.patient.sex_code"),
        ("雌", 1, 1, "his.patient.sex_code"),
    ]
    assert codes.coverage("sex") == [
        {"org_code": "H101", "code_system": "sex", "recorded": 3, "mapped": 0, "unmapped": 3, "share": 0.0},
        {"org_code": "C201", "code_system": "sex", "recorded": 2, "mapped": 1, "unmapped": 1, "share": 0.5},
    ]
    best = codes.propose("sex")[0]
    assert (best["source_code"], best["code"]) == ("男的", "1")
    codes.accept("sex", "男的", "1", org_code="H101", **BY)
    assert [r["source_code"] for r in codes.inbox()] == ["雌"]

    drop("his", "H101", "patient_2.csv", patient_csv("P9,王,男的,,2026-11-19 08:00:00"), NEXT)
    ingestion.ingest_feed("his", NEXT)
    before = content("silver/patient", "org_code, patient_local_id, sex_code")
    assert ("H101", "P9", "1") in before and ("H101", "P1", "男的") in before

    done = codes.reconform("sex")
    assert (done["rows"], done["tables"]) == (3, {"patient": 3})
    after = content("silver/patient", "org_code, patient_local_id, sex_code")
    assert after == sorted((o, p, "1" if c == "男的" else c) for o, p, c in before)
    assert codes.reconform("sex")["rows"] == 0
    assert ledger.visible()["silver/patient"] >= 1
    kept = content("bronze/his/patient", "patient_local_id, sex_code")
    assert ("P1", "男的") in kept, "bronze keeps what was received"


def test_reversed_codes_are_noticed_and_mended_for_that_institution_alone(lake_home: Path) -> None:
    drop("public_health", "C201", "ph_archive_1.csv", archives(*(["1"] * 117 + ["2"] * 3)))
    drop("public_health", "C202", "ph_archive_1.csv", archives(*(["2"] * 119 + ["1"])))
    ingestion.ingest_feed("public_health", DAY)
    (told,) = texts("E263")
    assert "Rh血型" in told and "97.5%" in told and "120 条" in told
    codes.accept("blood_rh", "1", "2", feed="public_health", org_code="C201", **BY)
    codes.accept("blood_rh", "2", "1", feed="public_health", org_code="C201", **BY)
    assert codes.reconform("blood_rh")["rows"] == 120
    counted = content("silver/ph_archive", "org_code, blood_rh_code")
    assert {(o, c): counted.count((o, c)) for o, c in set(counted)} == {
        ("C201", "2"): 117,
        ("C201", "1"): 3,
        ("C202", "2"): 119,
        ("C202", "1"): 1,
    }


def lab_csv(*rows: str) -> bytes:
    head = "OBR-3.1,OBX-1,OBX-3.1,OBX-3.4,OBX-5,OBX-5#num,OBX-6.1"
    return ("\n".join([head, *rows]) + "\n").encode()


def test_an_unknown_unit_goes_to_the_inbox_and_its_results_are_mended_later(lake_home: Path) -> None:
    rows = ["R1,1,GLU,14749-6,126,126,毫克每百毫升", "R1,2,GLU,14749-6,7.0,7.0,mmol∕L"]
    drop("lis", "H105", "lab_result_1.csv", lab_csv(*rows))
    ingestion.ingest_feed("lis", DAY)
    columns = "seq, value_num, unit, value_canonical, unit_canonical, canonical_rule"
    assert content("silver/lab_result", columns) == [
        (1, 126.0, "毫克每百毫升", None, None, "unknown_unit"),
        (2, 7.0, "mmol∕L", 7.0, "mmol/L", "same"),
    ]
    assert [(r["code_system"], r["source_code"], r["records"]) for r in codes.inbox("ucum")] == [
        ("ucum", "毫克每百毫升", 1)
    ]
    assert "1 条的单位未登记" in texts("E262")[0]
    codes.accept("ucum", "毫克每百毫升", "mg/dL", **BY)
    assert codes.inbox("ucum") == []
    assert codes.reconform("ucum")["tables"] == {"lab_result": 1}
    (mended, _) = content("silver/lab_result", columns)
    assert mended[3:] == (pytest.approx(6.993), "mmol/L", "converted")


def test_a_county_workbook_through_the_whole_way(lake_home: Path, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "三月"
    rows: list[list[Any]] = [
        ["高血压患者随访登记表", *[None] * 6],
        ["随访ID", "档案ID", "随访日期", "血压(mmHg)", None, "体重(斤)", "录入时间"],
        [None, None, None, "收缩压", "舒张压", None, None],
        ["V1", "A1", date(2026, 3, 2), 140, "90", 131, "2026-03-02 下午 3:05"],
        ["V2", None, 46083, "16kPa", "/", "65.5kg", "2026-03-02 24:00"],
        ["V3", "A2", "2026年3月4日", "高", 85, 120, "2026-03-04 09:00"],
        ["合计", None, None, 280, 175, None, None],
    ]
    for row in rows:
        sheet.append(row)
    for merge in ("A1:G1", "A2:A3", "B2:B3", "C2:C3", "D2:E2", "F2:F3", "G2:G3", "B4:B5"):
        sheet.merge_cells(merge)
    book.save(tmp_path / "x.xlsx")
    drop("public_health", "C201", "htn_visit_3.xlsx", (tmp_path / "x.xlsx").read_bytes())
    result = ingestion.ingest_feed("public_health", DAY)
    assert (result["received"], result["loaded"], result["quarantined"]) == (3, 2, 1)
    columns = "source_sheet, source_line, visit_id, archive_id, visited_on, sbp_mmhg, dbp_mmhg, weight_kg, recorded_at"
    first, second = content("silver/htn_visit", columns)
    assert first[:8] == ("三月", 4, "V1", "A1", date(2026, 3, 2), 140, 90, 65.5)
    assert second[:8] == ("三月", 5, "V2", "A1", date(2026, 3, 2), pytest.approx(120, abs=0.1), None, 65.5)
    assert [r[8].strftime("%d %H:%M") for r in (first, second)] == ["02 07:05", "02 16:00"]
    refused = content("quarantine/public_health/htn_visit", "source_sheet, source_line, error_code, field")
    assert refused == [("三月", 6, "E211", "sbp_mmhg")]
    assert [t.split("”")[0] for t in sorted(texts("E261") + texts("E264") + texts("E228"))] == [
        "“体重",
        "“录入时间",
        "“收缩压",
        "“舒张压",
    ]
    bronze = content("bronze/public_health/htn_visit", "visit_id, weight_kg, sbp_mmhg, _extra")
    assert bronze[0] == ("V1", "131", "140", '{"#units": {"weight_kg": "斤"}}')
    assert bronze[1][1:3] == ("65.5kg", "16kPa")


def test_no_value_of_a_record_reaches_notices_or_log(lake_home: Path) -> None:
    drop(
        "lis",
        "H105",
        "lab_result_1.csv",
        lab_csv("R1,1,GLU,14749-6,126,126,张三丰", "R1,2,GLU,14749-6,1,1,mmol/L"),
    )
    ingestion.ingest_feed("lis", DAY)
    codes.accept("ucum", "糖", "mg/dL", **BY)
    codes.reconform()
    written = json.dumps(
        content("ops/ingest_notice", "* EXCLUDE (batch_id)"), ensure_ascii=False, default=str
    )
    written += (lake_home / "logs" / "medlake.jsonl").read_text("utf-8")
    assert "张三丰" not in written and "126" not in written.replace(str(lake_home), "")


def test_the_command_line(lake_home: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv("P1,王,男的,1958-03-12,2026-11-18 08:00:00"))
    ingestion.ingest_feed("his", DAY)
    runner = CliRunner()

    def run(*words: str) -> dict[str, Any]:
        done = runner.invoke(app, [*words, "--json"])
        return dict(json.loads(done.stdout.strip().splitlines()[-1])) | {"exit": done.exit_code}

    assert [r["source_code"] for r in run("unmapped")["rows"]] == ["男的"]
    assert run("coverage", "--system", "sex")["rows"][0]["share"] == 0.0
    assert run("propose")["rows"][0]["code"] == "1"
    refused = run("accept", "sex", "男的", "77", "--reviewer", "王审核")
    assert (refused["exit"], refused["error"]) == (1, "E260")
    assert run("accept", "sex", "男的", "1", "--reviewer", "王审核")["exit"] == 0
    assert run("reconform")["rows"] == 1
    assert run("unmapped")["rows"] == []
    assert (
        run("accept-header", "public_health", "htn_visit", "上压", "sbp_mmhg", "--reviewer", "王审核")["exit"]
        == 0
    )
    assert run("accept-zone", "iot", "UTC", "--reviewer", "王审核", "--org", "H101")["exit"] == 0
