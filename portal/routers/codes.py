"""``/codes``: the inbox of unmapped codes, a map drafted, shown with its effect and confirmed, history, coverage."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lake import contracts
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from portal import codes, pages
from portal.routers.exports import day_of, institutions

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=200)]
_SYSTEM = "^[a-zA-Z0-9_]*$"


def _today() -> date:
    return datetime.now(UTC).astimezone(SHANGHAI).date()


@router.get("/codes")
def inbox(
    request: Request, system: Annotated[str, Query(max_length=80)] = "", org: Annotated[str, Query(max_length=32)] = "",
    done: str = "",
) -> Response:  # fmt: skip
    person = request.state.person
    return pages.page(
        request, "codes/inbox.html", found=codes.inbox(person, system, org), system=system, orgs=institutions(person),
        done=done,
    )  # fmt: skip


def _draft_page(
    request: Request,
    system: str,
    source: str,
    draft: codes.Draft | None = None,
    problem: MedlakeError | None = None,
) -> Response:
    found = codes.one(request.state.person, system, source)
    if found is None and problem is None:
        return pages.problem(request, 404)
    effect = None
    if draft and not problem:
        effect = codes.check(request.state.person, draft)
    return pages.page(
        request, "codes/draft.html", status=400 if problem else 200, found=found, draft=draft, effect=effect,
        problem=problem, choices=codes.CHOICES, system=system, source=source,
        feeds={w["feed"]: w["feed_zh"] for w in found["writers"]} if found else {},
        orgs={w["org_code"]: w["org_short_name"] for w in found["writers"]} if found else {},
    )  # fmt: skip


@router.get("/codes/map")
def draft(
    request: Request,
    system: Annotated[str, Query(max_length=80)],
    source: Annotated[str, Query(max_length=200)],
) -> Response:
    return _draft_page(request, system, source)


@router.post("/codes/map")
def propose(
    request: Request, system: Text, source: Text, code: Text = "", other: Text = "", feed: Text = "", org: Text = "",
    valid_from: Text = "", note: Text = "", act: Text = "draft",
) -> Response:  # fmt: skip
    """The draft with its effect; with ``act=accept`` it is recorded."""
    person = request.state.person
    made = None
    try:
        made = codes.Draft(system, source, other.strip() or code, feed, org, day_of(valid_from), note.strip())
        if feed and feed not in contracts.contracts():
            raise MedlakeError("E102", place=feed, feed=feed)
        if act != "accept":
            return _draft_page(request, system, source, made)
        codes.accept(person, made, _today())
    except MedlakeError as error:
        return _draft_page(request, system, source, made, error)
    return RedirectResponse("/codes?done=map", 303)


@router.post("/codes/reconform")
def reconform(
    request: Request,
    background: BackgroundTasks,
    system: Annotated[str, Form(max_length=80, pattern=_SYSTEM)] = "",
) -> Response:
    background.add_task(codes.reconform, system)
    return RedirectResponse("/codes/history?asked=1", 303, background=background)


@router.get("/codes/history")
def history(request: Request, asked: str = "") -> Response:
    found = codes.history(request.state.person)
    feeds = {n: c.label_zh for n, c in contracts.contracts().items()}
    systems = sorted({m["code_system"] for m in found["maps"]})
    return pages.page(
        request, "codes/history.html", found=found, feeds=feeds, systems=systems, is_asked=asked == "1"
    )


@router.get("/codes/coverage")
def coverage(
    request: Request, system: Annotated[str, Query(max_length=80, pattern=_SYSTEM)] = ""
) -> Response:
    known = sorted(
        {
            f.code_system
            for c in contracts.contracts().values()
            for t in c.tables.values()
            for f in t.fields
            if f.code_system
        }
    )
    rows = codes.coverage(request.state.person, system) if system in known else []
    return pages.page(request, "codes/coverage.html", rows=rows, system=system, systems=known)
