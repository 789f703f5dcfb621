"""``/due``: what is to be done this week, for whom, and from when on its absence is a finding."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from portal import due, pages
from portal.throttle import source_ip

router = APIRouter(include_in_schema=False)


@router.get("/due", response_class=HTMLResponse)
def listed(
    request: Request,
    what: Annotated[str, Query(max_length=200)] = "",
    within: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:
    days = int(within) if within in map(str, due.WINDOWS) else due.WINDOWS[0]
    found = due.listed(request.state.person, what, days, page, source_ip(request))
    return pages.page(request, "due.html", found=found, what=what, windows=due.WINDOWS)
