"""``/audit``: what happened, is the log whole, what should be looked at, whose data a leak concerns. Auditors alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lake import audit, audit_alerts, audit_search
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from portal import pages

router = APIRouter(include_in_schema=False)

#: Days that are looked at where nobody says from when.
_DAYS = 7
_ROWS = 200


def _instant(day: date) -> datetime:
    return datetime.combine(day, time(), SHANGHAI).astimezone(UTC)


def _days(since: str, until: str) -> tuple[date, date]:
    today = datetime.now(SHANGHAI).date()
    try:
        last = date.fromisoformat(until) if until else today
        first = date.fromisoformat(since) if since else last - timedelta(days=_DAYS)
    except ValueError:
        first, last = today - timedelta(days=_DAYS), today
    return first, last


def _noted(request: Request, action: str, rows: int) -> None:
    """Auditors are audited too."""
    person = request.state.person
    audit.record(
        action, actor=person.user, purpose="audit", tables=["ops/audit_entry"], fields=[], rows=rows, result="ok",
        actor_role=person.role, org_code=person.org_code,
        source_ip=request.client.host if request.client else "",
    )  # fmt: skip


def _whole() -> dict[str, Any]:
    try:
        return {"entries": audit.verify(), "problem": None}
    except MedlakeError as error:
        return {"entries": None, "problem": {"zh": error.zh, "remedy": error.remedy_zh, "code": error.code}}


@router.get("/audit", response_class=HTMLResponse)
def searched(
    request: Request,
    actor: Annotated[str, Query(max_length=64)] = "",
    action: Annotated[str, Query(max_length=64)] = "",
    table: Annotated[str, Query(max_length=64)] = "",
    since: Annotated[str, Query(max_length=10)] = "",
    until: Annotated[str, Query(max_length=10)] = "",
) -> HTMLResponse:
    first, last = _days(since, until)
    chosen = {"actor": actor, "action": action, "table": table, "since": first, "until": last}
    window = {"since": _instant(first), "until": _instant(last + timedelta(days=1))}
    found = audit_search.search(actor=actor, action=action, table=table, limit=_ROWS, **window)
    told = audit_alerts.alerts(window["since"], window["until"])
    _noted(request, "audit.search", len(found))
    return pages.page(
        request, "audit/search.html", found=found, chosen=chosen, alerts=told, most=_ROWS, whole=_whole()
    )


@router.get("/audit/affected", response_class=HTMLResponse)
def affected(
    request: Request,
    actor: Annotated[str, Query(max_length=64)] = "",
    table: Annotated[str, Query(max_length=64)] = "",
    since: Annotated[str, Query(max_length=10)] = "",
    until: Annotated[str, Query(max_length=10)] = "",
) -> HTMLResponse:
    first, last = _days(since, until)
    chosen = {"actor": actor, "table": table, "since": first, "until": last}
    found = None
    if actor or table:
        found = audit_search.affected(
            actor=actor, table=table, since=_instant(first), until=_instant(last + timedelta(days=1))
        )
        _noted(request, "audit.affected", len(found["persons"]))
    return pages.page(request, "audit/affected.html", found=found, chosen=chosen)
