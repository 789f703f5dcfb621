"""``/quarantine``: what was refused and why, its records with their places, running them again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, BackgroundTasks, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lake import contracts
from portal import pages, quarantine

router = APIRouter(include_in_schema=False)
_SHOWN = 60
Short = Annotated[str, Query(max_length=64)]


@router.get("/quarantine")
def listed(
    request: Request, feed: Short = "", org: Short = "", code: Short = "", asked: str = ""
) -> Response:
    person = request.state.person
    found = quarantine.groups(person, feed, org.strip(), code.strip().upper())
    feeds = {name: c.label_zh for name, c in sorted(contracts.contracts().items())}
    return pages.page(
        request, "quarantine/list.html", rows=found[:_SHOWN], more=max(0, len(found) - _SHOWN), feeds=feeds,
        chosen={"feed": feed, "org": org, "code": code}, total=sum(r["records"] for r in found),
        ready=sum(r["records"] for r in found if r["replayable"]), institutions=len({r["org_code"] for r in found}),
        replays=quarantine.replays(person), is_asked=asked == "1",
    )  # fmt: skip


@router.get("/quarantine/records")
def records(
    request: Request, feed: Short, table: Short, org: Short, code: Short,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1, purpose: str = "quality",
) -> Response:  # fmt: skip
    source = request.client.host if request.client else ""
    found = quarantine.records(request.state.person, feed, table, org, code, page, purpose, source)
    if found is None:
        return pages.problem(request, 404)
    chosen = {"feed": feed, "table": table, "org": org, "code": code, "purpose": purpose}
    return pages.page(request, "quarantine/records.html", found=found, chosen=chosen)


@router.post("/quarantine/replay")
def replay(
    request: Request, background: BackgroundTasks, feed: Annotated[str, Form(max_length=64)],
    org: Annotated[str, Form(max_length=32)], table: Annotated[str, Form(max_length=64)] = "",
    code: Annotated[str, Form(max_length=8)] = "",
) -> Response:  # fmt: skip
    person = request.state.person
    if not quarantine.may_replay(person, feed, org):
        return pages.problem(request, 404)
    background.add_task(quarantine.replay, person, feed, table, org, code)
    return RedirectResponse(
        f"/quarantine?{urlencode({'feed': feed, 'asked': '1'})}#replays", 303, background=background
    )
