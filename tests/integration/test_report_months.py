"""A county's workbook over real silver tables: bound once, filled, checked, drilled, frozen, differences."""

from __future__ import annotations

import zipfile
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from lake import audit_search
from lake.access import Caller
from lake.errors import MedlakeError
from products.reports import layouts, months
from tests import fixtures_silver as silver
from tests import report_book

OFFICER = Caller("officer", "officer", "H001", "statutory_report")
KEYS = [f"E{n:04d}" for n in range(30)]
ORG = {k: "C201" if n % 3 else "C217" for n, k in enumerate(KEYS)}


def visits(more: int = 0) -> list[dict[str, Any]]:
    """Two visits a month from January to March, the last ``more`` of them typed in late."""
    rows = [
        {"visit_id": f"V{k}{m}", "archive_id": f"A{k}", "org_code": ORG[k], "visited_on": date(2026, m, 5)}
        for k in KEYS
        for m in (1, 2, 3)
    ]
    return rows + [
        {
            "visit_id": f"L{n}",
            "archive_id": f"A{KEYS[n]}",
            "org_code": ORG[KEYS[n]],
            "visited_on": date(2026, 2, 9),
        }
        for n in range(more)
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from lake.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("report") / "var"))
        settings.cache_clear()
        silver.write(
            date(2026, 4, 1),
            {
                "person": [silver.resident(k, name=f"王{k}") for k in KEYS],
                "person_identifier": [silver.link(k, "public_health", ORG[k], f"A{k}") for k in KEYS],
                "htn_card": [
                    {"card_id": f"K{k}", "archive_id": f"A{k}", "org_code": ORG[k],
                     "carded_on": date(2026, 1 + n % 3, 2), "ended_on": date(2026, 3, 10) if n < 4 else None}
                    for n, k in enumerate(KEYS)
                ],
                "htn_visit": visits(),
            },
        )  # fmt: skip
        yield Path(settings().home)
    settings.cache_clear()


@pytest.fixture(scope="module")
def layout(home: Path) -> layouts.Layout:
    made = layouts.read_bindings(report_book.bindings(), "bindings")
    bound = layouts.bind(report_book.blank(), made, OFFICER)
    return layouts.get(bound["layout"], OFFICER)


def test_the_figures_are_exact_and_the_layout_stays(layout: layouts.Layout, tmp_path: Path) -> None:
    report = months.fill(layout, "2026-02", OFFICER, "H001", tmp_path / "feb.xlsx")
    book = openpyxl.load_workbook(tmp_path / "feb.xlsx")
    blank = openpyxl.load_workbook(BytesIO(report_book.blank()))
    sheet = book["表1 慢病"]
    assert [sheet[c].value for c in ("C4", "C5", "C6", "D6")] == [20, 10, 30, 60]
    assert (
        sheet["C7"].value == "=SUM(C5:C6)"
        and sheet.merged_cells.ranges == blank.worksheets[0].merged_cells.ranges
    )
    assert sheet["A1"].font.size == 16 and sheet["C4"].border.left.style == "thin"
    assert report["cells"] == 6 and report["checks_failed"] == 0


def test_cards_that_ended_are_not_held_at_the_end_of_the_month(layout: layouts.Layout) -> None:
    with months.counted(layout, "2026-03", OFFICER, "H001") as (figure, _):
        assert figure["表1 慢病!C4"] == 26


def test_an_institution_counts_its_own(layout: layouts.Layout) -> None:
    doctor = Caller("officer2", "officer", "C201", "statutory_report")
    with months.counted(layout, "2026-02", doctor, "C201") as (figure, _):
        assert figure["表1 慢病!C6"] == 20
    with pytest.raises(MedlakeError, match="E616"):
        months.fill(layout, "2026-02", doctor, "C217")


def test_the_audit_knows_whose_records_a_report_counted(layout: layouts.Layout) -> None:
    officer = Caller("zhao", "officer", "C217", "statutory_report")
    months.fill(layout, "2026-02", officer, "C217")
    found = audit_search.affected(actor="zhao")
    assert {p["empi_id"] for p in found["persons"]} == {k for k in KEYS if ORG[k] == "C217"}
    assert (found["entries"], found["untold"]) == (1, 0)
    months.differences(layout, "2026-02", officer, "C217")
    assert {p["entries"] for p in audit_search.affected(actor="zhao")["persons"]} == {2}


def test_a_cell_opens_to_the_persons_counted(layout: layouts.Layout) -> None:
    found = months.drill(layout, "2026-02", OFFICER, "H001", "表1 慢病!C6")
    assert found["counted"] == len(found["rows"]) == 30
    assert {row[1] for row in found["rows"]} == {f"王{k}" for k in KEYS}
    with pytest.raises(MedlakeError, match="E631"):
        months.drill(layout, "2026-02", OFFICER, "H001", "表1 慢病!A1")


def test_submitted_figures_stand_and_late_records_are_differences(layout: layouts.Layout) -> None:
    months.fill(layout, "2026-02", OFFICER, "H001")
    months.submit(layout, "2026-02", OFFICER, "H001")
    for again in (months.fill, months.submit):
        with pytest.raises(MedlakeError, match="E633"):
            again(layout, "2026-02", OFFICER, "H001")
    assert months.differences(layout, "2026-02", OFFICER, "H001") == []
    silver.write(date(2026, 4, 2), {"htn_visit": visits(more=3)})
    late = {
        d["cell"]: (d["reported"], d["now"]) for d in months.differences(layout, "2026-02", OFFICER, "H001")
    }
    assert late == {"表1 慢病!C6": (30, 33), "表1 慢病!D6": (60, 63), "表2 汇总!B1": (30, 33)}
    march = months.fill(layout, "2026-03", OFFICER, "H001")
    failed = [c["check"] for c in march["checks"] if not c["holds"]]
    assert failed == ["表1 慢病!D6 = 上月累计 60 + 表1 慢病!C6"] and march["checks_failed"] == 1


@pytest.mark.parametrize(
    ("cell", "why"),
    [("表1 慢病!C7", "公式"), ("表1 慢病!A4", "文字"), ("表9!A1", "工作表"), ("表1 慢病!B1", "合并")],
)
def test_cells_that_take_no_figure(home: Path, cell: str, why: str) -> None:
    node = report_book.bindings() | {"cells": [{"cell": cell, "indicator": "M101"}], "checks": []}
    with pytest.raises(MedlakeError, match=why):
        layouts.verify(report_book.blank(), layouts.read_bindings(node, "b"), "x")


def _with(name: str, content: bytes) -> bytes:
    out = BytesIO(report_book.blank())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"not a zip",
        _with("xl/worksheets/sheet9.xml", b" " * 60_000_000),
        _with(
            "xl/sharedStrings2.xml",
            b"<?xml version='1.0'?>" + b" " * 70_000 + b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>",
        ),
        _with("xl/utf16.xml", "<!DOCTYPE a>".encode("utf-16")),
        _with("xl/vbaProject.bin", b"x"),
        _with("xl/externalLinks/externalLink1.xml", b"<a/>"),
        _with("../evil.xml", b"<a/>"),
        report_book.blank()[:-200],
    ],
    ids=["text", "zip bomb", "entity", "utf-16 entity", "macro", "link", "path", "cut"],
)
def test_bombs_and_strangers_are_refused(content: bytes) -> None:
    from products.reports import workbook

    with pytest.raises(MedlakeError, match="E629"):
        workbook.load(content, "x.xlsx")
