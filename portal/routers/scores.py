"""``/scores``: ranking, an institution's card with its formula open, leads for people; ``/gates``: what is blocked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from lake.errors import MedlakeError
from portal import pages, score_pages, ticket_board
from quality.scorecards import ALL_DOMAINS

router = APIRouter(include_in_schema=False)

#: "Nothing was checked yet", and "there is no such thing".
_NOT_YET, _NONE = frozenset({"E103", "E106", "E423", "E450"}), frozenset({"E451", "E452", "E454"})

Days = Annotated[int, Query(ge=1, le=3650)]
#: Who sees leads: they name staff, and are for people who can ask.
_LEADS = "steward"


def _answer(request: Request, error: MedlakeError, tab: str) -> Response:
    if error.code in _NOT_YET:
        return pages.page(request, "scores/none.html", tab=tab, may_leads=_may(request))
    if error.code in _NONE:
        return pages.problem(request, 404)
    raise error


def _may(request: Request) -> bool:
    return bool(request.state.person.role == _LEADS)


@router.get("/scores", response_class=HTMLResponse)
def ranking(request: Request, domain: str = ALL_DOMAINS, days: Days = 30) -> Response:
    try:
        found = score_pages.ranking(request.state.person, domain, days)
    except MedlakeError as error:
        return _answer(request, error, "scores")
    spans = score_pages.DAYS
    return pages.page(
        request,
        "scores/ranking.html",
        domain=domain,
        days=days,
        spans=spans,
        may_leads=_may(request),
        **found,
    )


@router.get("/scores/leads", response_class=HTMLResponse)
def leads(request: Request, quarter: str = "") -> Response:
    if not _may(request):
        return pages.problem(request, 403)
    known = score_pages.quarters()
    wanted = quarter or (known[0] if known else "")
    try:
        rows = score_pages.leads(request.state.person, wanted) if wanted else []
    except MedlakeError as error:
        return _answer(request, error, "leads")
    names = ticket_board.org_names()
    return pages.page(
        request, "scores/leads.html", rows=rows, quarter=wanted, quarters=known, names=names, may_leads=True
    )


@router.get("/gates", response_class=HTMLResponse)
def gates(request: Request) -> Response:
    try:
        found, is_part = score_pages.gates(request.state.person)
    except MedlakeError as error:
        return _answer(request, error, "gates")
    names = ticket_board.org_names()
    return pages.page(
        request, "scores/gates.html", gates=found, is_part=is_part, names=names, may_leads=_may(request)
    )


@router.get("/scores/{org}", response_class=HTMLResponse)
def card(request: Request, org: str, domain: str = ALL_DOMAINS, days: Days = 30) -> Response:
    try:
        found = score_pages.card(request.state.person, org, domain, days)
    except MedlakeError as error:
        return _answer(request, error, "scores")
    if found is None:
        return pages.problem(request, 404)
    spans = score_pages.DAYS
    return pages.page(request, "scores/card.html", org=org, domain=domain, days=days, spans=spans, **found)
