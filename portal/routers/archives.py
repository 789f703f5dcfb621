"""``/archives``: whose archive is it; proposals, evidence, both institutions' answers, files for the sources."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lake.errors import MedlakeError
from portal import archives, pages

router = APIRouter(include_in_schema=False)
#: Refusals that are an answer on the page: nothing proposed yet, tables that are not there, a step of another role.
_TOLD = ("E106", "E361", "E363", "E905")


def _page(
    request: Request,
    state: str = "",
    wrote: dict[str, Any] | None = None,
    problem: MedlakeError | None = None,
) -> Response:
    rows: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    try:
        rows, counts = archives.listed(request.state.person, state=state if state in archives.STATES else "")
    except MedlakeError as error:
        if error.code not in _TOLD:
            raise
    return pages.page(
        request, "archives/list.html", status=409 if problem else 200, rows=rows, counts=counts, states=archives.STATES,
        chosen=state, wrote=wrote, problem=problem, total=sum(counts.values()),
    )  # fmt: skip


@router.get("/archives")
def listed(request: Request, state: str = "") -> Response:
    return _page(request, state)


@router.post("/archives/write-back")
def write_back(request: Request) -> Response:
    try:
        return _page(request, wrote=archives.write_back(request.state.person))
    except MedlakeError as error:
        if error.code not in _TOLD:
            raise
        return _page(request, problem=error)


@router.get("/archives/{proposal_id}")
def one(request: Request, proposal_id: str) -> Response:
    address = request.client.host if request.client else ""
    try:
        found = archives.show(request.state.person, proposal_id, address)
    except MedlakeError as error:
        if error.code not in ("E361", "E362"):
            raise
        return pages.problem(request, 404)
    return pages.page(request, "archives/one.html", **found)
