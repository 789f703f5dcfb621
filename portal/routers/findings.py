"""``/findings``: every open and closed finding with its place, filtered, page by page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lake.access import Caller
from lake.access_policy import role
from portal import findings, pages

router = APIRouter(include_in_schema=False)

STATES = {
    "open": "待整改",
    "observing": "观察期",
    "waived": "已豁免",
    "corrected": "已更正待源系统",
    "closed": "已关闭",
}


@router.get("/findings", response_class=HTMLResponse)
def listed(
    request: Request,
    rule: str = "",
    org: str = "",
    state: str = "",
    domain: str = "",
    severity: str = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    purpose: str = "quality",
) -> HTMLResponse:
    person = request.state.person
    known = role(person.role)
    purposes = [
        p for p in ("quality", "public_health", "care", "correction") if known and p in known.purposes
    ]
    wanted = purpose if purpose in purposes else (purposes or [""])[0]
    chosen = {"rule": rule, "org": org, "state": state, "domain": domain, "severity": severity}
    found = findings.listed(
        Caller(person.user, person.role, person.org_code, wanted),
        chosen,
        page,
        actor_role=person.role,
        source_ip=request.client.host if request.client else "",
    )
    return pages.page(
        request,
        "findings.html",
        found=found,
        chosen=chosen,
        states=STATES,
        purpose=wanted,
        may_correct="correction" in purposes,
    )
