"""Exports and cohorts over a published file: scope, identifiers, counts, audit, and nothing personal in the logs."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
import yaml
from sqlalchemy import select

import products
from lake import audit, ops, tables
from lake.errors import MedlakeError
from lake.settings import settings
from products.export_template import FOLDER
from tests import products_world as world

DAY = world.DAY_1
WHO: dict[str, Any] = {"actor": "officer", "purpose": "季度随访安排"}


@pytest.fixture
def published(lake_home: Path) -> Path:
    world.day(DAY)
    products.publish(DAY)
    return lake_home


def entries() -> list[dict]:
    with ops.engine().begin() as con:
        return [
            json.loads(row.entry)
            for row in con.execute(select(ops.audit_entry).order_by(ops.audit_entry.c.seq))
        ]


def sheet(report: dict) -> tuple[list[str], list[list[Any]]]:
    lines = [
        [c.value for c in row] for row in openpyxl.load_workbook(report["file"]).worksheets[0].iter_rows()
    ]
    return lines[0], lines[1:]


def changed(tmp_path: Path, **change: Any) -> Path:
    node = yaml.safe_load((FOLDER / "hypertension.yaml").read_text("utf-8")) | change
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(node, allow_unicode=True), "utf-8")
    return path


def test_the_officers_template(published: Path) -> None:
    report = products.export("hypertension", DAY, **WHO)
    headers, lines = sheet(report)
    assert headers == report["columns"] and "最近收缩压" in headers and "规范管理" in headers
    assert report["rows_planned"] == report["rows_written"] == len(lines) == 134
    assert stat.S_IMODE(Path(report["file"]).stat().st_mode) == 0o600
    at = {name: n for n, name in enumerate(headers)}
    names, ids = {line[at["姓名"]] for line in lines}, {line[at["证件号码"]] for line in lines}
    assert "王**" not in names or all("*" in n for n in names if n and len(n) > 1)
    assert all("*" in number for number in ids)
    assert {line[at["性别"]] for line in lines} <= {"男", "女"}
    assert {line[at["危险分层"]] for line in lines} <= {"低危", "中危", "高危", "很高危"}
    assert {line[at["血压控制"]] for line in lines} == {"是", "否"}
    note = {
        r[0].value: r[1].value
        for r in openpyxl.load_workbook(report["file"])["导出说明"].iter_rows(max_row=18)
    }
    assert note["计划行数"] == note["实际行数"] == "134" and note["核对"] == "计划行数 = 实际行数"
    assert (
        note["数据日期"] == "2026-11-18" and note["用途"] == "季度随访安排" and note["个人标识"] == "已脱敏"
    )


def test_headers_are_chinese_from_the_dictionary(published: Path) -> None:
    for name in products.export("hypertension", DAY, **WHO)["columns"]:
        assert not name.isascii(), name


def test_scope_takes_an_institution_and_what_is_below_it(published: Path) -> None:
    whole = products.export("hypertension", DAY, **WHO)["rows_written"]
    parts = [products.export("hypertension", DAY, org_scope=[f"H10{n}"], **WHO) for n in range(1, 6)]
    assert sum(p["rows_written"] for p in parts) == whole
    one = products.export("hypertension", DAY, org_scope=["C201"], **WHO)
    assert {line[0] for line in sheet(one)[1]} == {"湖滨"}
    with pytest.raises(MedlakeError) as error:
        products.export("hypertension", DAY, org_scope=["X999"], **WHO)
    assert error.value.code == "E625"


def test_full_identifiers_need_a_purpose(published: Path) -> None:
    with pytest.raises(MedlakeError) as error:
        products.export("hypertension", DAY, actor="officer", purpose="  ", identifiers="full")
    assert error.value.code == "E626"
    headers, lines = sheet(products.export("hypertension", DAY, identifiers="full", **WHO))
    numbers = {line[headers.index("证件号码")] for line in lines}
    assert all(len(n) == 18 and "*" not in n for n in numbers)
    assert not {line[headers.index("姓名")] for line in lines} & {"=cmd|'/c calc'!A1", "@SUM(A1)"}
    headers, _ = sheet(products.export("hypertension", DAY, identifiers="none", **WHO))
    assert not {"姓名", "证件号码", "联系电话", "现住址"} & set(headers)


def test_status_and_period_choose_rows(published: Path, tmp_path: Path) -> None:
    uncontrolled = products.export(changed(tmp_path, status={"is_controlled": [False]}), DAY, **WHO)
    headers, lines = sheet(uncontrolled)
    assert {line[headers.index("血压控制")] for line in lines} == {"否"} and 0 < len(lines) < 134
    early = {"field": "carded_on", "from": "2026-09-01", "to": "2026-09-15"}
    headers, lines = sheet(products.export(changed(tmp_path, period=early), DAY, **WHO))
    days = {line[headers.index("建卡日期")].date().isoformat() for line in lines}
    assert days and min(days) >= "2026-09-01" and max(days) <= "2026-09-15"


def test_the_same_request_gives_the_same_bytes(published: Path) -> None:
    first = products.export("hypertension", DAY, **WHO)
    second = products.export("hypertension", DAY, **WHO)
    assert (first["file"], first["sm3"]) == (second["file"], second["sm3"])


def test_rows_that_multiply_in_a_join_are_an_error_and_no_file(published: Path) -> None:
    twice = pa.concat_tables([world.people(), world.people(9)])
    world.link(DAY, twice)  # an index that gives nine residents twice
    with pytest.raises(MedlakeError) as error:
        products.export("hypertension", DAY, **WHO)
    assert error.value.code == "E624" and "134" in error.value.zh
    left = [p for p in (settings().home / "exports").rglob("*") if p.suffix]
    assert [p.name for p in left] == [".export.lock"] or not [p for p in left if p.suffix == ".xlsx"]
    assert entries()[-1]["result"] == "E624"


def test_a_date_that_is_not_published(published: Path) -> None:
    with pytest.raises(MedlakeError) as error:
        products.export("hypertension", world.DAY_2, **WHO)
    assert error.value.code == "E623" and "2026-11-18" in error.value.zh
    assert products.export("hypertension", None, **WHO)["data_date"] == "2026-11-18"


def test_a_field_that_is_not_published(published: Path, tmp_path: Path) -> None:
    with pytest.raises(MedlakeError) as error:
        products.export(changed(tmp_path, columns=["no_such_field", "person.age_years"]), DAY, **WHO)
    assert error.value.code == "E622" and "row.no_such_field" in error.value.zh


def test_killed_before_the_file_is_there_leaves_none(published: Path) -> None:
    code = "import products; products.export('hypertension', actor='officer', purpose='x')"
    killed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MEDLAKE_KILL_AT": "export.written"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    folder = settings().home / "exports"
    assert not list(folder.glob("*.xlsx"))
    products.export("hypertension", DAY, **WHO)
    assert len(list(folder.rglob("*.xlsx"))) == 1 and not (folder / ".work").exists()


def test_every_exit_is_one_line_in_the_chain_and_tells_no_secret(published: Path) -> None:
    products.export("hypertension", DAY, identifiers="full", **WHO)
    products.cohort("htn_with_high_ldl", DAY, actor="researcher", purpose="可行性评估")
    exported, counted = entries()[-2:]
    assert exported["action"] == "export" and exported["rows"] == 134 and exported["identifiers"] == "full"
    assert exported["tables"] == ["gold.dim_org", "gold.dim_person", "gold.htn_management", "silver.person"]
    assert counted["action"] == "cohort" and counted["purpose"] == "可行性评估"
    assert audit.verify() >= 2
    logged = (settings().log_dir / "medlake.jsonl").read_text("utf-8") + json.dumps(
        entries(), ensure_ascii=False
    )
    people = tables.read("silver/person").to_table()
    for column in ("name", "id_no", "phone", "addr_detail"):
        assert not [v for v in set(people[column].to_pylist()) if v in logged], column


def test_cohort_counts_and_keeps_small_numbers_back(published: Path, tmp_path: Path) -> None:
    report = products.cohort("htn_with_high_ldl", DAY, actor="researcher", purpose="可行性评估")
    assert report["group_by"] == ["年龄段", "性别"] and len(report["rows"]) == 6 * 3
    for row in report["rows"]:
        assert row["人数"] in ("<10", "*") or (row["人数"] >= 10 and row["人数"] % 5 == 0)
    plain = tmp_path / "plain.yaml"
    node = {"cohort": "all_htn", "title_zh": "高血压在管", "where": {"all": [{"managed": "htn"}]}}
    plain.write_text(yaml.safe_dump(node, allow_unicode=True), "utf-8")
    assert products.cohort(plain, DAY, actor="researcher", purpose="x")["persons"] == 130  # 132 of 134 alive
    with pytest.raises(MedlakeError) as error:
        products.cohort(plain, DAY, actor="researcher", purpose=" ")
    assert error.value.code == "E642"
