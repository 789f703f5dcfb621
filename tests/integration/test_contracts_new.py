"""A new source from sample files alone: the draft contract is valid, and the samples ingest by it at once."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ingestion
from ingestion import contracting
from lake import contracts as dictionary
from lake import tables
from lake.errors import MedlakeError
from medlake.commands.contracts import app

DAY = date(2026, 11, 18)

NUTRITION = (
    "评估单号,患者姓名,身份证号,性别,收缩压(mmHg),体重(斤),评估日期,评估时间,是否住院,评分,血型,备注\n"
    + "\n".join(
        f"{n:06d},张三{n},11010119800101{n:04d},{'男' if n % 2 else '女'},{120 + n},{100.5 + n},2026-11-0{n % 9 + 1},"
        f"2026-11-01 08:{n:02d}:00,{'是' if n % 3 else '否'},{n % 5},{'ABO'[n % 3]},备注{n}"
        for n in range(40)
    )
)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    return folder


def silver(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.read(f"silver/{name}").to_table().to_pylist()
    return found


def by_source(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["source_name"]: f for f in made["fields"]}


def test_a_gbk_csv_with_chinese_headers(lake_home: Path, samples: Path) -> None:
    path = samples / "营养评估_20261118.csv"
    path.write_bytes(NUTRITION.encode("gb18030"))
    made = contracting.scaffold("nutrition", [path], label_zh="营养科")
    (table,) = made["tables"]
    fields = by_source(made)
    assert [f for f, told in fields.items() if told["key"]] == ["评估单号"]
    assert (fields["患者姓名"]["field"], fields["患者姓名"]["level"]) == ("name", 4)
    assert (fields["身份证号"]["field"], fields["身份证号"]["type"]) == ("id_no", "string")
    assert (fields["收缩压"]["field"], fields["收缩压"]["unit"]) == ("sbp_mmhg", "mmHg")
    assert (fields["体重"]["field"], fields["体重"]["unit"]) == ("weight_kg", "kg")
    assert (fields["性别"]["field"], fields["性别"]["code_system"]) == ("sex_code", "sex")
    assert fields["血型"]["code_system"] == "blood_abo"
    types = {f: fields[f]["type"] for f in ("评估单号", "评估日期", "评估时间", "是否住院", "评分")}
    assert types == {
        "评估单号": "string", "评估日期": "date", "评估时间": "timestamp", "是否住院": "boolean", "评分": "integer",
    }  # fmt: skip
    assert contracting.validate("nutrition") == []
    assert dictionary.contract("nutrition").status == "draft"

    result = ingestion.ingest_paths([path], "nutrition", org_code="H101", data_date=DAY)
    assert (result["received"], result["loaded"]) == (40, 40)
    row = next(r for r in silver(table) if r["name"] == "张三1")
    assert (row["weight_kg"], row["sbp_mmhg"], row["sex_code"]) == (50.75, 121.0, "1")  # 斤 became kilograms
    assert row[fields["评估时间"]["field"]] == datetime(2026, 11, 1, 0, 1, tzinfo=UTC)
    assert row[fields["评估单号"]["field"]] == "000001"  # the zeros stay


def test_json_lines_and_a_json_array(lake_home: Path, samples: Path) -> None:
    lines, array = samples / "visit_line.ndjson", samples / "tickets.json"
    lines.write_text(
        "\n".join(json.dumps({"visitNo": n // 3, "lineNo": n % 3, "itemName": "x"}) for n in range(30))
    )
    array.write_text(
        json.dumps(
            [{"ticketId": f"T{n}", "callTime": f"2026-11-01T08:{n:02d}:00+08:00", "cost": n * 1.5, "tags": ["a", "b"],
              "isPaid": n % 2 == 0} for n in range(50)], indent=1,
        )
    )  # fmt: skip
    made = contracting.scaffold("hotline", [lines, array])
    assert made["tables"] == {"visit_line": 3, "tickets": 5}
    keys = {(f["table"], f["field"]) for f in made["fields"] if f["key"]}
    assert keys == {("visit_line", "visit_no"), ("visit_line", "line_no"), ("tickets", "ticket_id")}
    assert contracting.validate("hotline") == []
    result = ingestion.ingest_paths([lines, array], "hotline", org_code="H101", data_date=DAY)
    assert (result["received"], result["loaded"]) == (80, 80)
    (ticket,) = [r for r in silver("tickets") if r["ticket_id"] == "T3"]
    assert (ticket["cost"], ticket["is_paid"], json.loads(ticket["tags"])) == (4.5, False, ["a", "b"])
    assert ticket["call_time"] == datetime(2026, 11, 1, 0, 3, tzinfo=UTC)
    assert ticket["source_line"] == 4  # the element's place in the array


def test_a_workbook_with_a_title_above_its_header(lake_home: Path, samples: Path) -> None:
    import xlsxwriter

    path = samples / "康复训练.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("11月")
        sheet.merge_range("A1:D1", "康复训练记录表")
        sheet.write_row("A2", ["训练编号", "患者姓名", "训练日期", "时长(min)"])
        for n in range(12):
            sheet.write_row(n + 2, 0, [f"KF{n:03d}", f"李四{n}", f"2026-11-{n + 1:02d}", 20 + n])
    made = contracting.scaffold("rehab", [path])
    fields = by_source(made)
    assert [f["source_name"] for f in made["fields"] if f["key"]] == ["训练编号"]
    assert fields["时长"]["unit"] == "min" and fields["训练日期"]["type"] == "date"
    result = ingestion.ingest_paths([path], "rehab", org_code="H101", data_date=DAY)
    assert (result["received"], result["loaded"]) == (12, 12)


def test_a_name_in_use_gets_the_feed_in_front(lake_home: Path, samples: Path) -> None:
    path = samples / "patient.csv"
    path.write_text("no,word\n1,a\n2,b\n", "utf-8")
    assert list(contracting.scaffold("clinic", [path])["tables"]) == ["clinic_patient"]
    result = ingestion.ingest_paths([path], "clinic", org_code="H101", data_date=DAY)
    assert result["loaded"] == 2 and len(silver("clinic_patient")) == 2


def test_what_cannot_be_a_contract_is_told(lake_home: Path, samples: Path) -> None:
    good, empty = samples / "x.csv", samples / "y.csv"
    good.write_text("no,word\n1,a\n", "utf-8")
    empty.write_text("no,word\n", "utf-8")
    for feed, paths, code in (
        ("his", [good], "E234"), ("Bad Name", [good], "E234"), ("new_one", [empty], "E233"),
        ("new_one", [samples / "absent.csv"], "E233"), ("new_one", [], "E233"),
    ):  # fmt: skip
        with pytest.raises(MedlakeError) as caught:
            contracting.scaffold(feed, paths)
        assert caught.value.code == code, feed
    assert not dictionary.site_dir().exists()


def test_the_command_drafts_and_shows(lake_home: Path, samples: Path) -> None:
    path = samples / "x.csv"
    path.write_text("no,word\n1,a\n2,b\n", "utf-8")
    run = CliRunner()
    dry = run.invoke(app, ["new", "clinic", str(path), "--dry-run", "--json"])
    assert dry.exit_code == 0 and not dictionary.site_dir().exists()
    assert run.invoke(app, ["new", "clinic", str(path), "--json"]).exit_code == 0
    shown = json.loads(run.invoke(app, ["show", "clinic", "--json"]).stdout.splitlines()[-1])["rows"]
    assert [(r["field"], r["key"]) for r in shown] == [("no", True), ("word", False)]
    feeds = json.loads(run.invoke(app, ["list", "--json"]).stdout.splitlines()[-1])["rows"]
    assert {"clinic", "his"} <= {r["feed"] for r in feeds}
    assert run.invoke(app, ["validate", "clinic", "--json"]).exit_code == 0
    again = run.invoke(app, ["new", "clinic", str(path), "--json"])
    assert again.exit_code == 1 and json.loads(again.stdout.splitlines()[-1])["error"] == "E234"


def test_a_form_s_list_becomes_an_institution_s_map(lake_home: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["codes", "ph_archive_v3__education", "--org", "C201", "--json"])
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {r["source_code"]: r["code"] for r in rows}["1"] == "10" and {r["org_code"] for r in rows} == {
        "C201"
    }
    assert "10" not in {r["source_code"] for r in rows}  # not known maps to nothing
    refused = run.invoke(app, ["codes", "sex", "--org", "C201", "--json"])
    assert refused.exit_code == 1 and json.loads(refused.stdout.splitlines()[-1])["error"] == "E236"
