"""``/reports``: a county's workbook bound by clicking cells, filled each month, drilled, submitted."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from portal import pages
from portal.routers.exports import caller, institutions
from products.reports import indicators, layouts, months, workbook

router = APIRouter(include_in_schema=False)
_PURPOSE = "statutory_report"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def _page(request: Request, problem: MedlakeError | None = None) -> Response:
    asked = caller(request, _PURPOSE)
    return pages.page(
        request,
        "reports/reports.html",
        status=400 if problem else 200,
        problem=problem,
        layouts=layouts.listed(asked),
    )


@router.get("/reports")
def overview(request: Request) -> Response:
    return _page(request)


def _draft(request: Request, digest: str) -> Any:
    """An uploaded blank workbook of this person, waiting to be bound."""
    user = sm3_hex(request.state.person.user.encode())[:16]
    return layouts.folder() / "drafts" / f"{user}_{digest}.xlsx"


@router.post("/reports/upload")
def upload(request: Request, book: Annotated[UploadFile, File()]) -> Response:
    content = book.file.read(workbook.MAX_BYTES + 1)
    try:
        sheets = workbook.preview(content, "上传的工作簿")
    except MedlakeError as error:
        return _page(request, error)
    digest = sm3_hex(content)
    path = _draft(request, digest)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    return pages.page(
        request,
        "reports/bind.html",
        sheets=sheets,
        digest=digest,
        indicators=indicators.known(),
        spans=indicators.SPANS_ZH,
    )


@router.post("/reports/bind")
def bind(
    request: Request, digest: Annotated[str, Form(pattern="^[0-9a-f]{64}$")], title_zh: Annotated[str, Form(max_length=100)],
    cells: Annotated[str, Form(max_length=200_000)], checks: Annotated[str, Form(max_length=50_000)] = "",
) -> Response:  # fmt: skip
    try:
        path = _draft(request, digest)
        if not path.is_file():
            raise MedlakeError("E630", place="上传的工作簿")
        try:
            listed = json.loads(cells)
        except ValueError:
            raise MedlakeError("E631", cell="-", detail="JSON") from None
        node = {
            "title_zh": title_zh,
            "cells": listed,
            "checks": [c.strip() for c in checks.splitlines() if c.strip()],
        }
        made = layouts.bind(path.read_bytes(), layouts.read_bindings(node, "form"), caller(request, _PURPOSE))
    except MedlakeError as error:
        return _page(request, error)
    path.unlink()
    return RedirectResponse(f"/reports/{made['layout']}", 303)


def _layout_page(
    request: Request, layout: str, filled: Any = None, problem: MedlakeError | None = None, **more: Any
) -> Response:
    try:
        found = layouts.get(layout, caller(request, _PURPOSE))
    except MedlakeError:
        return pages.problem(request, 404)
    return pages.page(
        request, "reports/layout.html", status=400 if problem else 200, problem=problem, layout=found, filled=filled,
        months=months.listed(layout), orgs=institutions(request.state.person), known=indicators.known(),
        differences=more.get("differences"), asked=more.get("asked", ("", "")),
    )  # fmt: skip


@router.get("/reports/{layout}")
def layout_page(request: Request, layout: str) -> Response:
    return _layout_page(request, layout)


@router.post("/reports/{layout}/{step}")
def act(
    request: Request, layout: str, step: str, month: Annotated[str, Form(pattern="^[0-9]{4}-[0-9]{2}$")],
    org: Annotated[str, Form(max_length=32)] = "",
) -> Response:  # fmt: skip
    """Fill a month, submit it, or list what changed since."""
    asked = caller(request, _PURPOSE)
    org = org or asked.org_code
    try:
        found = layouts.get(layout, asked)
        if step == "fill":
            return _layout_page(request, layout, months.fill(found, month, asked, org), asked=(month, org))
        if step == "submit":
            months.submit(found, month, asked, org)
            return RedirectResponse(f"/reports/{layout}", 303)
        if step == "differences":
            changed = months.differences(found, month, asked, org)
            return _layout_page(request, layout, differences=changed, asked=(month, org))
    except MedlakeError as error:
        return _layout_page(request, layout, problem=error)
    return pages.problem(request, 404)


@router.get("/reports/{layout}/{month}/{org}/file")
def download(request: Request, layout: str, month: str, org: str) -> Response:
    asked = caller(request, _PURPOSE)
    try:
        found = layouts.get(layout, asked)
        path = months.file_of(found, month, asked, org)
    except MedlakeError:
        return pages.problem(request, 404)
    return FileResponse(path, media_type=_XLSX, filename=f"{found.title_zh}_{org}_{month}.xlsx")


@router.get("/reports/{layout}/{month}/{org}/cell")
def drill(request: Request, layout: str, month: str, org: str, cell: str) -> Response:
    """The persons that a cell counts."""
    asked = caller(request, _PURPOSE)
    try:
        found = layouts.get(layout, asked)
        shown = months.drill(found, month, asked, org, cell)
    except MedlakeError as error:
        return _layout_page(request, layout, problem=error)
    return pages.page(request, "reports/drill.html", layout=found, month=month, org=org, shown=shown)
