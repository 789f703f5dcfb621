"""One press: rows, masks, scope, both writers, CSV, approval, audit."""

from __future__ import annotations

import base64
import csv
import json
import re
import zipfile
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest
from sqlalchemy import select

from lake import access, duck, ops
from lake.access import Caller
from lake.errors import MedlakeError
from products.exports import files, gather, jobs, store, summary, template
from products.exports.query import Header
from tests import fixtures_silver as silver

DAY = date(2026, 11, 20)
PEOPLE = 60
OFFICER = Caller("officer", "officer", "H001", "public_health")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from lake.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("export") / "var"))
        settings.cache_clear()
        keys = [f"E{n:04d}" for n in range(PEOPLE)]
        orgs = ["C201" if n % 2 else "C217" for n in range(PEOPLE)]
        silver.write(
            DAY,
            {
                "person": [
                    silver.resident(k, name="=cmd|'/c calc'!A1" if not n else f"李{k}", phone=f"1390000{n:04d}",
                                    addr_detail=f"湖东区湖滨街道{n}号")
                    for n, k in enumerate(keys)
                ],
                "person_identifier": [
                    silver.link(k, "public_health", o, f"A{k}") for k, o in zip(keys, orgs, strict=True)
                ],
                "htn_card": [
                    {"card_id": f"K{k}", "archive_id": f"A{k}", "org_code": o, "carded_on": date(2026, 1 + n % 12, 3),
                     "raw_hash": f"{n:016d}", "status_code": "active" if n else None}
                    for n, (k, o) in enumerate(zip(keys, orgs, strict=True))
                ],
                "htn_visit": [
                    {"visit_id": f"V{k}{m}", "archive_id": f"A{k}", "org_code": o, "visited_on": date(2026, 10, m),
                     "sbp_mmhg": 120.0 + m}
                    for k, o in zip(keys, orgs, strict=True)
                    for m in (1, 2)
                ],
            },
        )  # fmt: skip
        yield Path(settings().home)
    settings.cache_clear()


def lines(path: str, sheet: int = 0) -> list[tuple[Any, ...]]:
    return list(openpyxl.load_workbook(path).worksheets[sheet].iter_rows(values_only=True))


def entries() -> list[dict[str, Any]]:
    from lake.ops import audit_entry

    with ops.engine().begin() as con:
        return [json.loads(r.entry) for r in con.execute(select(audit_entry).order_by(audit_entry.c.seq))]


def test_the_roster_has_each_card_once_with_its_newest_visit(home: Path) -> None:
    report = jobs.run("hypertension", OFFICER)
    found = lines(report["file"])
    assert report["rows_planned"] == report["rows_written"] == len(found) - 1 == PEOPLE - 1
    head = list(found[0])
    assert {r[head.index("收缩压")] for r in found[1:]} == {122}
    assert {len(r[head.index("证件号码")]) for r in found[1:]} == {18}
    assert all(report["job"] in r[head.index("导出水印")] for r in found[1:])
    assert ("筛选字段未填的记录", "1（未包含在内）") in [r[:2] for r in lines(report["file"], 1)]


def test_both_writers_say_the_same(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = lines(jobs.run("hypertension", OFFICER)["file"])
    monkeypatch.setattr(files, "FORMATTED_ROWS", 0)
    monkeypatch.setattr(files.write_xlsx, "__kwdefaults__", {**files.write_xlsx.__kwdefaults__, "formatted_rows": 0,
                                                             "rows_per_sheet": 26})  # fmt: skip
    report = jobs.run("hypertension", OFFICER)
    assert report["sheets"] == 3
    assert zipfile.ZipFile(report["file"]).testzip() is None
    bulk = [r for n in (1, 2, 3) for r in lines(report["file"], n)[1:]]
    assert [r[:-1] for r in bulk] == [r[:-1] for r in small[1:]]


def test_what_fails_for_want_of_memory_is_done_with_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MEMORY", ("1MB", "48MB"))
    report = jobs.run("hypertension", OFFICER)
    assert report["rows_planned"] == report["rows_written"] == PEOPLE - 1
    assert entries()[-1]["persons_count"] == PEOPLE - 1
    monkeypatch.setattr(gather, "MEMORY", ("1MB",))
    with pytest.raises(duckdb.OutOfMemoryException):
        jobs.run("hypertension", OFFICER)


def test_csv_has_a_bom_texts_and_no_formula(home: Path) -> None:
    made = template.parse(
        {"template": "csv_names", "title_zh": "名册", "table": "htn_card", "source": "public_health",
         "record": "archive_id", "columns": ["person.name", "carded_on"], "purpose": "public_health"}, "t",
    )  # fmt: skip
    store.propose(made.model_dump(mode="json", exclude_defaults=True), actor="officer", org_code="H001")
    with pytest.raises(MedlakeError, match="E615"):
        jobs.run("csv_names", OFFICER)
    with pytest.raises(MedlakeError, match="E618"):
        store.decide("csv_names", 1, actor="officer", role="steward", agree=True)
    store.decide("csv_names", 1, actor="steward", role="steward", agree=True)
    report = jobs.run("csv_names", OFFICER, format="csv")
    raw = Path(report["file"]).read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = [r for r in csv.reader(raw.decode("utf-8-sig").splitlines()) if not r[0].startswith("#")]
    assert len(rows) - 1 == PEOPLE
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_a_doctor_gets_the_own_institution_and_no_other(home: Path) -> None:
    doctor = Caller("doctor", "doctor", "C201", "public_health")
    report = jobs.run("hypertension", doctor)
    assert report["rows_written"] == PEOPLE // 2
    with pytest.raises(MedlakeError, match="E616"):
        jobs.run("hypertension", doctor, org="C217")


def test_what_a_role_may_not_see_clear_is_masked_in_the_file(home: Path) -> None:
    report = jobs.run("hypertension", Caller("officer", "officer", "H001", "quality"))
    text = "".join(str(c) for row in lines(report["file"]) for c in row)
    assert "姓名" in report["masked"] and "1390000" not in text and "429701196001010" not in text
    with pytest.raises(MedlakeError, match="E68"):
        jobs.run("hypertension", Caller("boss", "executive", "H001", "management"))


def _content(path: Path) -> bytes:
    """What the pages of a PDF draw: streams in ASCII85 and deflate, texts with escapes (ISO 32000 7.3.4.2, 7.4)."""
    streams = re.findall(rb"stream\r?\n(.*?)~>", path.read_bytes(), re.S)
    drawn = b"".join(zlib.decompress(base64.a85decode(s)) for s in streams)
    return re.sub(
        rb"\\(\d{3}|.)", lambda m: bytes([int(m[1], 8)]) if len(m[1]) == 3 else m[1], drawn, flags=re.S
    )


def test_the_printed_summary_counts_every_row_and_names_nobody(home: Path) -> None:
    report = jobs.run("hypertension", OFFICER, format="pdf")
    path = Path(report["file"])
    assert path.suffix == ".pdf" and path.read_bytes().startswith(b"%PDF-")
    assert report["rows_planned"] == report["rows_written"] == PEOPLE - 1
    drawn = _content(path)
    shown = [text.encode("utf-16-be") for text in ("汇总", "计划行数", "合计", f"{PEOPLE - 1}")]
    assert [text in drawn for text in shown] == [True] * 4
    assert "李E".encode("utf-16-be") not in drawn and b"1390000" not in drawn


def test_the_tables_of_a_summary_add_up_to_all_rows(home: Path) -> None:
    con = duck.connect()
    headers = [
        Header("org.org_short_name", "机构", "text", 1, "", "clear"),
        Header("visited_on", "随访日期", "date", 2, "", "clear"),
        Header("kind", "方式", "text", 2, "", "clear"),
        Header("person.name", "姓名", "text", 4, "", "mask"),
        Header("sbp_mmhg", "收缩压", "number", 2, "mmHg", "clear"),
    ]
    con.execute(
        """CREATE TABLE job AS SELECT CASE WHEN i % 3 > 0 THEN '机构' || i % 2 END AS c0,
        DATE '2026-01-15' + (i::INTEGER % 90) AS c1, 'k' || i % 4 AS c2, '王*' AS c3, i AS c4 FROM range(500) t(i)"""
    )
    made = dict(summary.counts(con, headers, "visited_on"))
    assert list(made) == ["机构", "月份", "方式"], "neither names nor numbers are classes"
    assert all(sum(n for _, n in found) == 500 for found in made.values())
    assert [m for m, _ in made["月份"]] == ["2026-01", "2026-02", "2026-03", "2026-04"]
    assert ("（未填）", 167) in made["机构"]


def test_a_period_keeps_its_days(home: Path) -> None:
    report = jobs.run("hypertension", OFFICER, first=date(2026, 3, 1), last=date(2026, 3, 31))
    assert report["rows_written"] == PEOPLE // 12


@pytest.mark.parametrize("name", sorted(template.shipped()))
def test_every_shipped_template_runs_and_says_whether_its_source_has_rows(home: Path, name: str) -> None:
    made, _ = store.template(name)
    report = jobs.run(name, Caller("officer", "officer", "H001", made.purpose))
    assert report["rows_planned"] == report["rows_written"] >= 0
    assert report["has_source"] is (made.table == "htn_card")
    note = dict(r[:2] for r in lines(report["file"], -1))
    assert note["核对"] == "计划行数 = 实际行数" and ("尚无数据" in note["来源"]) is not report["has_source"]


def test_whose_rows_left_is_found_from_the_audit(home: Path) -> None:
    from lake import audit_search

    made = jobs.run("hypertension", Caller("doctor9", "doctor", "C217", "public_health"), format="csv")
    told = [e for e in entries() if e["action"] == "export" and e.get("job") == made["job"]]
    assert [e["persons_count"] for e in told] == [made["rows_written"]] and made["rows_written"] > 10
    found = audit_search.affected(actor="doctor9")
    assert {p["empi_id"] for p in found["persons"]} == {f"E{n:04d}" for n in range(2, PEOPLE, 2)}


def test_each_export_and_each_refusal_has_its_line(home: Path) -> None:
    before = len(entries())
    report = jobs.run("hypertension", OFFICER)
    last = entries()[before:]
    assert [e["action"] for e in last] == ["export"]
    assert last[0]["sm3"] == report["sha"] and last[0]["rows"] == report["rows_written"]
    assert last[0]["purpose"] == "public_health" and "person.name" in last[0]["fields"]
    assert jobs.job(report["job"], "officer")["state"] == "done"
    with pytest.raises(MedlakeError, match="E619"):
        jobs.job(report["job"], "another")


def test_a_filter_on_a_hidden_field_is_refused(home: Path) -> None:
    node = {"template": "by_type", "title_zh": "x", "table": "smi_card", "columns": ["carded_on"],
            "conditions": [{"field": "smi_icd10_code", "any_of": ["F20"]}], "purpose": "public_health"}  # fmt: skip
    with pytest.raises(MedlakeError, match="E682"):
        store.propose(node, actor="officer", org_code="H001")
    assert access.columns(OFFICER, "silver/smi_card", ["smi_icd10_code"]) == {"smi_icd10_code": "mask"}


def test_what_leaves_the_group_is_sealed_and_nothing_goes_without_a_password(home: Path) -> None:
    from products.exports import sealed

    with pytest.raises(MedlakeError, match="E636"):
        jobs.run("hypertension", OFFICER, recipient="县疾控")
    report = jobs.run("hypertension", OFFICER, recipient="县疾控", password="湖水-三月-青山-0042")
    content = Path(report["file"]).read_bytes()
    assert report["file"].endswith(".xlsx.sm4") and content.startswith(sealed.MAGIC)
    assert sealed.unseal(content, "湖水-三月-青山-0042").startswith(b"PK")
    assert jobs.job(report["job"], "officer")["recipient"] == "县疾控"


def test_a_schedule_delivers_last_month_once(home: Path) -> None:
    from products.exports import schedules

    with pytest.raises(MedlakeError, match="E637"):
        schedules.add("hypertension", OFFICER, day_of_month=31)
    name = schedules.add("hypertension", OFFICER, day_of_month=3)
    assert schedules.run_due(date(2026, 4, 2)) == []
    (done,) = schedules.run_due(date(2026, 4, 3))
    assert done["schedule"] == name and done["rows_written"] == PEOPLE // 12
    assert Path(done["file"]).is_file() and "drop/H001" in done["file"]
    assert schedules.run_due(date(2026, 4, 9)) == []
    with pytest.raises(MedlakeError, match="E619"):
        schedules.stop(name, "another")
    schedules.stop(name, "officer")
    assert schedules.run_due(date(2026, 5, 9)) == []
