"""A tiny lake with findings that a workbook can mend: two institutions, one visit whose pressures are swapped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

from openpyxl import load_workbook

import ingestion
from lake import runs
from tests.ingestion_world import content, drop

DAY, NEXT, THIRD = date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20)
HEAD = "visit_id,archive_id,visited_on,visit_way_code,sbp_mmhg,dbp_mmhg,visit_class_code,recorded_at,备用列"

Change = Callable[[Any, dict[str, int]], None]


def visit(number: int, sbp: int | str, dbp: int = 80, at: date = DAY) -> str:
    return f"V{number},A{number},2026-11-01,1,{sbp},{dbp},1,{at} 09:00:00,留"


def deliver(day: date, *rows: str, org: str = "C201") -> dict[str, Any]:
    """A day's extract of an institution, ingested."""
    text = "\ufeff" + "\r\n".join([HEAD, *rows]) + "\r\n"
    drop("public_health", org, f"htn_visit_{day:%Y%m%d}.csv", text.encode(), day)
    return ingestion.ingest_feed("public_health", day)


def check(day: date) -> None:
    from quality.daily import check as run
    from quality.rule import rulebook

    runs.open_run(day)
    run(day, rulebook(), is_judged=False)


def mended(path: str | Path | bytes, change: Change) -> bytes:
    """The workbook as a person saves it after mending its first sheet of records."""
    book = load_workbook(BytesIO(path) if isinstance(path, bytes) else path)
    sheet = book.worksheets[1]
    change(sheet, {c.value: c.column for c in sheet[1]})
    made = BytesIO()
    book.save(made)
    return made.getvalue()


def edited(path: str | Path, change: Change, day: date, org: str = "C201") -> dict[str, Any]:
    """Mend, put into the drop folder, ingest."""
    drop("correction", org, "mended.xlsx", mended(path, change), day)
    return ingestion.ingest_feed("correction", day)


def swap(sheet: Any, at: dict[str, int]) -> None:
    """Put V1's pressures the right way round."""
    rows = {sheet.cell(r, at["visit_id"]).value: r for r in range(3, sheet.max_row + 1)}
    sheet.cell(rows["V1"], at["sbp_mmhg"]).value = 128
    sheet.cell(rows["V1"], at["dbp_mmhg"]).value = "80"


def pressures() -> list[tuple[Any, ...]]:
    return content("silver/htn_visit", "visit_id, sbp_mmhg, dbp_mmhg")


def first_day() -> None:
    """V1 of C201 has its pressures swapped, V9 of C202 as well; both are found."""
    deliver(DAY, visit(1, 80, 128), visit(2, 130))
    deliver(DAY, visit(9, 82, 131), org="C202")
    check(DAY)
