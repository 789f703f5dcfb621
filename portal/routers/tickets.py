"""``/tickets``: the board of quality tickets, a ticket with its steps, statistics. Works without script."""

from __future__ import annotations

import secrets
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lake.errors import MedlakeError
from lake.local_time import local_today
from portal import pages, ticket_board, tickets
from portal.accounts import Person
from quality.rule import rulebook
from quality.tickets import parameters, reasons

router = APIRouter(include_in_schema=False)

#: What is told on the page itself instead of an error page: number -> status.
_TOLD = {"E420": 422, "E421": 422} | {f"E9{n:02d}": 409 for n in range(4, 20)}
_ALL_CARDS = 400


def _chosen(given: Any) -> dict[str, str]:
    """Filters that the board knows, those that are set."""
    return {n: str(given[n])[:40].strip() for n in ticket_board.FILTERS if given.get(n)}


def _limits() -> dict[str, Any]:
    """What the forms of steps offer: reasons, the first and last day of a waiver."""
    today, known = local_today(), list(reasons().values())
    last = today + timedelta(days=parameters(today).waiver_days)
    return {
        "fix_reasons": [r for r in known if "fix" in r.steps],
        "waive_reasons": [r for r in known if "waive" in r.steps],
        "first_day": today + timedelta(days=1),
        "last_day": last,
        "key": secrets.token_hex(12),
    }


@router.get("/tickets", response_class=HTMLResponse)
def board(request: Request) -> HTMLResponse:
    chosen = _chosen(request.query_params)
    limit = _ALL_CARDS if request.query_params.get("all") else ticket_board.LANE_CARDS
    domains = {r.domain: r.domain_zh for r in rulebook().rules}
    return pages.page(
        request,
        "tickets/board.html",
        chosen={n: chosen.get(n, "") for n in ticket_board.FILTERS},
        query=urlencode(chosen),
        orgs=ticket_board.org_names(),
        domains=domains,
        **ticket_board.board(request.state.person, chosen, limit=limit),
        **_limits(),
    )


@router.get("/tickets/stats", response_class=HTMLResponse)
def stats(request: Request) -> HTMLResponse:
    titles = {r.id: r.title_zh for r in rulebook().rules}
    return pages.page(
        request, "tickets/stats.html", titles=titles, most=50, **ticket_board.stats(request.state.person)
    )


def _page(request: Request, item_id: str, refused: MedlakeError | None = None, do: str = "") -> Response:
    try:
        found = ticket_board.shown(request.state.person, item_id)
    except MedlakeError as error:
        if error.code != "E903":
            raise
        return pages.problem(request, 404)
    problem = {"zh": refused.zh, "remedy": refused.remedy_zh, "code": refused.code} if refused else None
    status = _TOLD[refused.code] if refused else 200
    return pages.page(
        request, "tickets/ticket.html", status=status, problem=problem, do=do, **found, **_limits()
    )


@router.get("/tickets/{item_id}", response_class=HTMLResponse)
def one(request: Request, item_id: str, do: str = "") -> Response:
    return _page(request, item_id, do=do)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise MedlakeError("E421", expires_on=text[:10], first="—", last="—") from None


def _do(person: Person, item_id: str, step: str, form: dict[str, str]) -> None:
    """A step of the person with a form's fields.

    Raises:
        MedlakeError: E903 no such ticket; E905 not this person's step; E420, E421, E904 to E914 what is refused.
    """
    item = ticket_board.find(person, item_id)
    able = ticket_board.steps(person, item)
    action = "assign" if step == "take" else step
    if action not in able and not (step == "take" and {"fix", "waive"} & able.keys()):
        raise MedlakeError("E905", role=person.role, action=step, allowed="—")
    version = int(form["version"]) if form.get("version", "").isdecimal() else -1
    own: dict[str, Any] = {"by": person.user, "key": f"portal|{form.get('key', '')[:60]}", "version": version}
    reason, code = form.get("reason", "").strip()[:500], form.get("reason_code", "")
    if step == "assign" or (step == "take" and "assign" in able):
        to = person.user if step == "take" else form.get("to", "").strip()[:64] or person.user
        tickets.assign(item.item_id, to, role=able["assign"], **own)
    elif step == "take":
        tickets.take(item.item_id, **own)
    elif step == "fix":
        tickets.fix(item.item_id, code, note=reason, role=able[step], **own)
    elif step == "waive":
        until = _day(form.get("expires_on", ""))
        tickets.ask_waiver(item.item_id, code, reason=reason, expires_on=until, role=able[step], **own)
    elif step in ("approve", "refuse"):
        tickets.decide(item.item_id, reason=reason, agree=step == "approve", **own)
    else:
        tickets.reopen(item.item_id, reason=reason, role=able[step], **own)


@router.post("/tickets/{item_id}/{step}")
async def act(request: Request, item_id: str, step: str) -> Response:
    form = {name: str(value) for name, value in (await request.form()).items()}
    if step not in (*ticket_board.STEPS, "take"):
        return pages.problem(request, 404)
    try:
        await run_in_threadpool(_do, request.state.person, item_id, step, form)
    except MedlakeError as error:
        if error.code == "E903":
            return pages.problem(request, 404)
        if error.code not in _TOLD:
            raise
        return await run_in_threadpool(_page, request, item_id, error, step)
    if "back" not in form:
        return RedirectResponse(f"/tickets/{item_id}", 303)
    back = urlencode(_chosen({n: v[0] for n, v in parse_qs(form["back"]).items()}))
    return RedirectResponse(f"/tickets{'?' if back else ''}{back}#t-{item_id}", 303)
