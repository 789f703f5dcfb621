"""My work: what waits for a role at its institutions, with clocks; take, do a step, see the log."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lake.errors import MedlakeError
from portal import pages, work
from worklist.machine import kinds

router = APIRouter()

#: A guard's refusal is an answer to the person, not a fault of the page.
_REFUSALS = tuple(f"E9{n:02d}" for n in range(4, 20))


def _from(request: Request) -> str:
    return request.client.host if request.client else ""


@router.get("/work", response_class=HTMLResponse, include_in_schema=False)
def listed(request: Request, kind: str = "", passed_on: bool = False) -> HTMLResponse:
    person = request.state.person
    known = kinds()
    lines = work.mine(person, kind_name=kind if kind in known else "")
    counts = work.waiting(person)
    tabs = [(code, known[code].zh, n) for code, n in sorted(counts.items(), key=lambda x: -x[1])]
    late = sum(1 for x in lines if x.minutes is not None and x.minutes < 0)
    there = counts.get(kind, 0) if kind else sum(counts.values())
    return pages.page(
        request,
        "work/list.html",
        lines=lines,
        tabs=tabs,
        kind=kind,
        late=late,
        there=there,
        passed_on=passed_on,
    )


@router.get("/api/portal/work/calls", summary="Urgent items that nobody has taken / 待应答的紧急事项")
def calls(request: Request) -> dict[str, Any]:
    found = work.calls(request.state.person)
    return {
        "waiting": sum(work.waiting(request.state.person).values()),
        "calls": [
            {"item_id": x.item.item_id, "kind_zh": x.kind_zh, "state_zh": x.state_zh, "minutes": x.minutes}
            for x in found
        ],
    }


def _page(request: Request, item_id: str, *, refused: MedlakeError | None = None) -> HTMLResponse:
    found = work.shown(request.state.person, item_id, _from(request))
    problem = {"zh": refused.zh, "remedy": refused.remedy_zh, "code": refused.code} if refused else None
    return pages.page(
        request,
        "work/item.html",
        status=409 if refused else 200,
        key=secrets.token_hex(12),
        problem=problem,
        **found,
    )


def _next(request: Request, item_id: str) -> str:
    """Where a step leads: to the item, or to the own work if the step handed it to another institution."""
    try:
        work.find(request.state.person, item_id)
    except MedlakeError as error:
        if error.code != "E903":
            raise
        return "/work?passed_on=1"
    return f"/work/{item_id}"


def _answered(request: Request, item_id: str, refused: MedlakeError | None) -> Response:
    if refused is None:
        return RedirectResponse(_next(request, item_id), 303)
    if refused.code == "E903":
        return pages.problem(request, 404)
    if refused.code not in _REFUSALS:
        raise refused
    return _page(request, item_id, refused=refused)


@router.get("/work/{item_id}", response_class=HTMLResponse, include_in_schema=False)
def one(request: Request, item_id: str) -> Response:
    try:
        return _page(request, item_id)
    except MedlakeError as error:
        if error.code != "E903":
            raise
        return pages.problem(request, 404)


@router.post("/work/{item_id}/take", include_in_schema=False)
async def take(request: Request, item_id: str) -> Response:
    form = await request.form()
    refused = None
    try:
        await run_in_threadpool(work.take, request.state.person, item_id, str(form.get("key", "")))
    except MedlakeError as error:
        refused = error
    return await run_in_threadpool(_answered, request, item_id, refused)


@router.post("/work/{item_id}/{action}", include_in_schema=False)
async def act(request: Request, item_id: str, action: str) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    version = form.get("version", "")
    refused = None
    try:
        await run_in_threadpool(
            work.do,
            request.state.person,
            item_id,
            action,
            form,
            form.get("key", ""),
            int(version) if version.isdigit() else -1,
        )
    except MedlakeError as error:
        refused = error
    return await run_in_threadpool(_answered, request, item_id, refused)
