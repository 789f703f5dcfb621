"""A month of a report: filled, checked, submitted; then its figures stand, and what changes later is a difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from openpyxl import Workbook
from sqlalchemy import delete, insert, select, update

from lake import access, audit, duck, ops
from lake.crypto import sm3_file
from lake.errors import MedlakeError
from lake.product_tables import report_month as table
from products.exports import gather
from products.exports.jobs import below
from products.reports import formula, indicators, workbook
from products.reports.layouts import Binding, Layout, folder


def _orgs(caller: access.Caller, org: str) -> list[str]:
    found = below(caller, org)
    return found or []


@contextmanager
def counted(
    layout: Layout, month: str, caller: access.Caller, org: str
) -> Iterator[tuple[dict[str, int], audit.Parts]]:
    """Cell -> its exact count as of now, and whose records those are, for the audit log.

    Raises as ``indicators.count`` and E616.
    """
    known: dict[tuple[str, str, str], int] = {}
    found: dict[str, int] = {}
    con = duck.connect()
    try:
        con.execute("CREATE TEMP TABLE whose (empi_id VARCHAR)")
        for bound in layout.bindings.cells:  # a report has tens of cells, each of another count
            key = (bound.indicator, bound.span or indicators.get(bound.indicator).span, bound.org or org)
            if key not in known:
                orgs = _orgs(caller, key[2])
                known[key] = indicators.count(con, key[0], month, caller, orgs, key[1], whose="whose")  # type: ignore[arg-type]
            found[bound.cell] = known[key]
        yield found, lambda: gather.residents(con)
    finally:
        con.close()


def _value(book: Workbook, figure: dict[str, int]) -> formula.Value:
    """Reads cells of the filled workbook; formulas are computed, labels and blanks count as nothing."""
    depth = 0

    def value(cell: str) -> float:
        nonlocal depth
        if cell in figure:
            return float(figure[cell])
        sheet, _, place = cell.rpartition("!")
        if sheet not in book.sheetnames:
            raise MedlakeError("E634", detail=cell)
        held = book[sheet][place].value
        if isinstance(held, str) and held.startswith("="):
            depth += 1
            if depth > 100:
                raise MedlakeError("E634", detail=cell)
            try:
                return formula.number(held, sheet, value)
            finally:
                depth -= 1
        return float(held) if isinstance(held, (int, float)) and not isinstance(held, bool) else 0.0

    return value


def _previous(month: str) -> str:
    first = date.fromisoformat(f"{month}-01")
    return f"{first.year - (first.month == 1):04d}-{(first.month - 2) % 12 + 1:02d}"


def _checked(
    book: Workbook, layout: Layout, figure: dict[str, int], month: str, org: str
) -> list[dict[str, Any]]:
    """Every check with both sides; running totals are held against last month's report, when there is one."""
    value, results = _value(book, figure), []
    for text in layout.bindings.checks:
        outcome = formula.check(text, book.sheetnames[0], value)
        results.append({"check": text, "left": outcome.left, "right": outcome.right, "holds": outcome.holds})
    before = _row(layout.layout, _previous(month), org)
    old = json.loads(before.figures) if before is not None else {}
    for bound in layout.bindings.cells:
        if bound.plus is None or (not month.endswith("-01") and bound.cell not in old):
            continue
        last = 0 if month.endswith("-01") else old[bound.cell]
        right = last + figure[bound.plus]
        text = f"{bound.cell} = 上月累计 {last} + {bound.plus}"
        results.append({"check": text, "left": float(figure[bound.cell]), "right": float(right),
                        "holds": figure[bound.cell] == right})  # fmt: skip
    return results


def _row(layout: str, month: str, org: str) -> Any:
    with ops.reader().connect() as con:
        key = (table.c.layout == layout) & (table.c.month == month) & (table.c.org_code == org)
        return con.execute(select(table).where(key)).one_or_none()


def fill(
    layout: Layout, month: str, caller: access.Caller, org: str, out: Path | None = None
) -> dict[str, Any]:
    """Fill a month into the blank workbook, check it, keep the figures.

    Returns:
        ``layout, month, org_code, file, cells, figures, checks, checks_failed, sm3``.

    Raises:
        MedlakeError: E616 not the caller's institution; E633 the month was submitted; E634 a check; E683 purpose.
    """
    indicators.days(month, "month")
    held = _row(layout.layout, month, org)
    if held is not None and held.state == "submitted":
        raise MedlakeError("E633", place=layout.layout, month=month)
    with counted(layout, month, caller, org) as (figure, persons):
        return _filled(layout, month, caller, org, figure, persons, out)


def _filled(
    layout: Layout, month: str, caller: access.Caller, org: str, figure: dict[str, int], persons: audit.Parts,
    out: Path | None,
) -> dict[str, Any]:  # fmt: skip
    book = workbook.load(layout.content, layout.layout)
    for cell, number in figure.items():
        workbook.target(book, cell).value = number
    checks = _checked(book, layout, figure, month, org)
    kept = folder() / "filled" / f"{layout.layout}_{org}_{month}.xlsx"
    path = out or kept
    workbook.save(book, path)
    digest = sm3_file(path)
    if out:
        workbook.save(book, kept)
    row = {"layout": layout.layout, "month": month, "org_code": org, "version": layout.version, "state": "filled",
           "figures": json.dumps(figure, ensure_ascii=False), "checks": json.dumps(checks, ensure_ascii=False),
           "file": f"filled/{kept.name}", "sm3": digest, "filled_by": caller.user,
           "filled_at": datetime.now(UTC)}  # fmt: skip
    with ops.engine().begin() as con:
        key = (table.c.layout == layout.layout) & (table.c.month == month) & (table.c.org_code == org)
        gone = con.execute(delete(table).where(key & (table.c.state != "submitted"))).rowcount
        if not gone and con.execute(select(table.c.state).where(key)).one_or_none() is not None:
            raise MedlakeError("E633", place=layout.layout, month=month)
        con.execute(insert(table).values(row))
        _audited("report_fill", layout, month, caller, org, len(figure), con, sm3=digest, persons=persons)
    return {"layout": layout.layout, "month": month, "org_code": org, "file": str(path), "cells": len(figure),
            "figures": figure, "checks": checks, "checks_failed": sum(not c["holds"] for c in checks),
            "sm3": digest}  # fmt: skip


def _audited(
    action: str, layout: Layout, month: str, caller: access.Caller, org: str, rows: int, con: Any, **more: Any
) -> None:
    used = sorted({indicators.get(b.indicator).table for b in layout.bindings.cells})
    audit.record(action, actor=caller.user, purpose=caller.purpose, tables=[f"silver.{t}" for t in used],
                 fields=sorted({b.indicator for b in layout.bindings.cells}), rows=rows, result="ok", connection=con,
                 actor_role=caller.role, org_code=org, layout=layout.layout, month=month, **more)  # fmt: skip


def submit(layout: Layout, month: str, caller: access.Caller, org: str) -> dict[str, Any]:
    """Submit a filled month: from now on its figures stand.

    Raises:
        MedlakeError: E616; E633 it was submitted already; E635 it was never filled.
    """
    _orgs(caller, org)
    with ops.engine().begin() as con:
        key = (table.c.layout == layout.layout) & (table.c.month == month) & (table.c.org_code == org)
        held = con.execute(select(table).where(key)).one_or_none()
        if held is None:
            raise MedlakeError("E635", place=layout.layout, layout=layout.layout, month=month)
        if held.state == "submitted":
            raise MedlakeError("E633", place=layout.layout, month=month)
        now = datetime.now(UTC)
        con.execute(
            update(table).where(key).values(state="submitted", submitted_by=caller.user, submitted_at=now)
        )
        _audited(
            "report_submit", layout, month, caller, org, len(json.loads(held.figures)), con, sm3=held.sm3
        )
    return {"layout": layout.layout, "month": month, "state": "submitted", "submitted_at": now.isoformat()}


def differences(layout: Layout, month: str, caller: access.Caller, org: str) -> list[dict[str, Any]]:
    """Cells whose count is another one today than in the report: ``cell, indicator, label_zh, reported, now``.

    Raises:
        MedlakeError: E616; E635 the month was never filled.
    """
    held = _row(layout.layout, month, org)
    if held is None:
        raise MedlakeError("E635", place=layout.layout, layout=layout.layout, month=month)
    with counted(layout, month, caller, org) as (new, persons), ops.engine().begin() as con:
        _audited("report_differences", layout, month, caller, org, len(new), con, persons=persons)
    old = json.loads(held.figures)
    bound = {b.cell: b for b in layout.bindings.cells}
    return [
        {"cell": cell, "indicator": bound[cell].indicator, "label_zh": indicators.get(bound[cell].indicator).label_zh,
         "reported": old[cell], "now": new[cell]}
        for cell in new if cell in old and old[cell] != new[cell]
    ]  # fmt: skip


def drill(
    layout: Layout,
    month: str,
    caller: access.Caller,
    org: str,
    cell: str,
    *,
    limit: int = 200,
    offset: int = 0,
) -> dict[str, Any]:
    """The rows that a cell counts, a page of them; names and numbers as the policy lets the caller see them.

    Returns:
        ``cell, indicator, label_zh, span_zh, counted, columns, rows``. Audited with the rows that were shown.

    Raises:
        MedlakeError: E616; E631 the cell is not bound; E681-E684 of the policy.
    """
    bound: Binding | None = next((b for b in layout.bindings.cells if b.cell == cell), None)
    if bound is None:
        raise MedlakeError("E631", cell=cell[:60], detail="未绑定 / not bound")
    span = bound.span or indicators.get(bound.indicator).span
    orgs = _orgs(caller, bound.org or org)
    compiled = indicators.rows(bound.indicator, month, caller, orgs, span)
    con = duck.connect()
    try:
        counted = indicators.count(con, bound.indicator, month, caller, orgs, span)
        shown: list[tuple[Any, ...]] = []
        if compiled.is_there:
            from lake import registry
            from products.exports.query import code_sql

            con.register("org_register", registry.orgs())
            for name, system in compiled.codes.items():
                con.execute(f"CREATE TEMP TABLE {name} AS {code_sql(system)}")
            shown = con.execute(f"{compiled.rows_sql} LIMIT {int(limit)} OFFSET {int(offset)}").fetchall()
    finally:
        con.close()
    audit.record("report_drill", actor=caller.user, purpose=caller.purpose, tables=compiled.reads,
                 fields=[h.field for h in compiled.headers], rows=len(shown), result="ok", actor_role=caller.role,
                 org_code=org, layout=layout.layout, month=month, cell=cell,
                 persons=[whose for *_, whose in shown if whose])  # fmt: skip
    return {"cell": cell, "indicator": bound.indicator, "label_zh": indicators.get(bound.indicator).label_zh,
            "span_zh": indicators.SPANS_ZH[span], "counted": counted,
            "columns": [h.label_zh for h in compiled.headers], "rows": [row[:-1] for row in shown]}  # fmt: skip


def listed(layout: str) -> list[dict[str, Any]]:
    """Months of a layout, newest first."""
    with ops.reader().connect() as con:
        rows = con.execute(select(table).where(table.c.layout == layout).order_by(table.c.month.desc())).all()
    return [
        {"month": r.month, "org_code": r.org_code, "state": r.state, "filled_by": r.filled_by,
         "filled_at": r.filled_at, "submitted_at": r.submitted_at,
         "checks_failed": sum(not c["holds"] for c in json.loads(r.checks))} for r in rows
    ]  # fmt: skip


def file_of(layout: Layout, month: str, caller: access.Caller, org: str) -> Path:
    """The filled workbook of a month, its download audited.

    Raises:
        MedlakeError: E616; E635 the month was never filled.
    """
    _orgs(caller, org)
    held = _row(layout.layout, month, org)
    path = (folder() / held.file).resolve() if held is not None else None
    if path is None or not path.is_relative_to(folder().resolve()) or not path.is_file():
        raise MedlakeError("E635", place=layout.layout, layout=layout.layout, month=month)
    with ops.engine().begin() as con:
        _audited(
            "report_download", layout, month, caller, org, len(json.loads(held.figures)), con, sm3=held.sm3
        )
    return path
