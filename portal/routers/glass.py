"""``/glass``: a doctor opens one resident in an emergency; a security administrator judges it afterwards."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lake.access_policy import policy
from lake.errors import MedlakeError
from portal import glass, glass_records, glass_review, pages
from portal.throttle import source_ip

router = APIRouter()

#: What is told on the page itself instead of an error page: number -> status.
_TOLD = {"E677": 404, "E678": 409, "E679": 422, "E688": 429, "E685": 403, "E692": 403}
_TOLD |= {f"E9{n:02d}": 409 for n in range(4, 20)}


def _problem(error: MedlakeError) -> dict[str, str]:
    return {"zh": error.zh, "remedy": error.remedy_zh, "code": error.code}


def _front(
    request: Request, refused: MedlakeError | None = None, given: dict[str, str] | None = None
) -> HTMLResponse:
    """The page of the role; after a refusal it says why and keeps what was typed, except number and name."""
    if refused is not None and refused.code not in _TOLD:
        raise refused
    person = request.state.person
    status = _TOLD[refused.code] if refused else 200
    problem = _problem(refused) if refused else None
    if glass_review.may_review(person):
        waiting, judged = glass_review.to_review(person)
        return pages.page(
            request, "glass/review.html", status=status, problem=problem, waiting=waiting, judged=judged
        )
    return pages.page(
        request,
        "glass/ask.html",
        status=status,
        problem=problem,
        given=given or {},
        key=secrets.token_hex(12),
        minutes=glass.minutes(),
        least=policy().glass_reason_min,
        reasons=policy().glass_reasons,
        numbers={code: label for code, (label, *_) in glass_records.NUMBERS.items()},
        history=glass_review.history(person),
    )


@router.get("/glass", response_class=HTMLResponse, include_in_schema=False)
def front(request: Request) -> HTMLResponse:
    return _front(request)


@router.get("/api/portal/glass/calls", summary="Break-glass that waits for its review / 待复核的紧急调阅")
def calls(request: Request) -> dict[str, Any]:
    person = request.state.person
    waiting = glass_review.to_review(person)[0] if glass_review.may_review(person) else []
    return {
        "waiting": len(waiting),
        "calls": [
            {"item_id": g.grant_id, "kind_zh": f"紧急调阅 · {g.user}", "state_zh": "待复核", "minutes": None,
             "href": f"/glass#g-{g.grant_id}"}
            for g in waiting
        ],
    }  # fmt: skip


def _ask(request: Request, form: dict[str, str]) -> Response:
    given = {name: form.get(name, "") for name in ("number_kind", "reason", "text")}
    try:
        grant_id = glass.ask(
            request.state.person,
            number_kind=given["number_kind"],
            reason=given["reason"],
            text=given["text"],
            value=form.get("value", ""),
            name=form.get("name", ""),
            key=form.get("key", ""),
            source_ip=source_ip(request),
        )
    except MedlakeError as error:
        return _front(request, error, given)
    return RedirectResponse(f"/glass/{grant_id}", 303)


@router.post("/glass", include_in_schema=False)
async def ask(request: Request) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    return await run_in_threadpool(_ask, request, form)


@router.get("/glass/{grant_id}", response_class=HTMLResponse, include_in_schema=False)
def one(request: Request, grant_id: str) -> Response:
    try:
        found = glass.records(request.state.person, grant_id, source_ip(request))
    except MedlakeError as error:
        return _front(request, error)
    shown = found.pop("person")  # "person" is who looks
    return pages.page(request, "glass/records.html", grant_id=grant_id, person_shown=shown, **found)


def _close(request: Request, grant_id: str) -> Response:
    try:
        glass.close(request.state.person, grant_id, source_ip(request))
    except MedlakeError as error:
        return _front(request, error)
    return RedirectResponse("/glass", 303)


@router.post("/glass/{grant_id}/close", include_in_schema=False)
async def close(request: Request, grant_id: str) -> Response:
    return await run_in_threadpool(_close, request, grant_id)


def _review(request: Request, grant_id: str, form: dict[str, str]) -> Response:
    try:
        glass_review.review(
            request.state.person,
            grant_id,
            form.get("verdict", ""),
            form.get("reason", ""),
            source_ip(request),
        )
    except MedlakeError as error:
        return _front(request, error)
    return RedirectResponse("/glass", 303)


@router.post("/glass/{grant_id}/review", include_in_schema=False)
async def review(request: Request, grant_id: str) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    return await run_in_threadpool(_review, request, grant_id, form)
