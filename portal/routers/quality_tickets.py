"""Quality for programs: tickets, gates and due lists as JSON; a token's institution sees and moves its own only.

A token carries the scope ``tickets``; deciding on waivers asks for ``tickets-approve``, so that an institution gives
that one to another program or person. Who acts is named by the header ``X-Actor``; the header ``Idempotency-Key`` makes
a command that is sent again the same command. Answers tell counts, places and ids, no value of a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from lake import crypto
from lake.errors import MedlakeError
from portal import tickets
from portal.clients import Client

router = APIRouter(prefix="/api/quality", tags=["quality"])

ASK, APPROVE = "tickets", "tickets-approve"
_ACTOR = re.compile(r"[\w.\-]{2,64}", re.ASCII)

#: Number -> HTTP status; what is not here is a refusal of the worklist's guards.
_STATUS = {
    "E103": 503,
    "E106": 404,
    "E420": 422,
    "E421": 422,
    "E422": 404,
    "E423": 404,
    "E424": 404,
    "E425": 403,
    "E426": 400,
    "E428": 404,
    "E903": 404,
}

Actor = Annotated[str | None, Header(alias="X-Actor", description="Who acts / 操作人")]
Again = Annotated[str | None, Header(alias="Idempotency-Key", min_length=8, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Assign(_Body):
    """Give a ticket to the doctor who answers for it."""

    to: str = Field(min_length=2, max_length=64)


class Fix(_Body):
    """The records were mended at the source."""

    reason_code: str
    note: str = Field("", max_length=500)


class Waive(_Body):
    """Ask that the findings may stand until a day (default: the dated limit)."""

    reason_code: str
    reason: str = Field(min_length=1, max_length=500)
    expires_on: date | None = None


class Decide(_Body):
    """A second person's word."""

    agree: bool
    reason: str = Field(min_length=1, max_length=500)


def _problem(error: MedlakeError) -> JSONResponse:
    content = {"code": error.code, "zh": error.zh, "en": error.en}
    content |= {"remedy_zh": error.remedy_zh, "remedy_en": error.remedy_en}
    return JSONResponse(content, _STATUS.get(error.code, 409 if error.code.startswith("E9") else 500))


def _client(request: Request, scope: str) -> Client:
    client: Client = request.state.client
    if scope not in client.feeds:
        raise MedlakeError("E425", scope=scope)
    return client


def _told(request: Request, scope: str, work: Callable[[Client], Any]) -> Any:
    """Run a look or a step for a client with the right scope; a numbered error becomes its answer."""
    try:
        return work(_client(request, scope))
    except MedlakeError as error:
        return _problem(error)


def _step(
    request: Request,
    scope: str,
    actor: str | None,
    again: str | None,
    work: Callable[[str, str, str | None], Any],
) -> Any:
    """A command of a named person; ``work`` gets institution, actor and command key."""

    def named(client: Client) -> Any:
        if actor is None or not _ACTOR.fullmatch(actor):
            raise MedlakeError("E426", detail="X-Actor")
        said = f"{client.token_id}|{request.url.path}|{again}"
        return work(client.org_code, actor, f"Q{crypto.sm3_hex(said.encode())[:20]}" if again else None)

    return _told(request, scope, named)


@router.get("/tickets", summary="Tickets of the institution, due first / 本机构质控工单")
def list_tickets(
    request: Request,
    rule: str | None = None,
    state: str | None = None,
    closed: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Any:
    def work(client: Client) -> Any:
        return {
            "rows": tickets.listed(
                org_codes=[client.org_code], rule_id=rule, state=state, is_open=not closed, limit=limit
            )
        }

    return _told(request, ASK, work)


@router.get(
    "/tickets/stats", summary="By reason, rule, state: open, overdue, reopened, hours to repair / 工单统计"
)
def stats(request: Request) -> Any:
    return _told(request, ASK, lambda client: tickets.stats(client.org_code))


@router.get("/tickets/reasons", summary="The taxonomy of reasons / 原因分类")
def reasons(request: Request) -> Any:
    from quality.tickets import reasons as known

    return _told(request, ASK, lambda _: {"rows": [r.__dict__ for r in known().values()]})


@router.get("/tickets/{item_id}", summary="A ticket, its log, where its findings are / 工单详情")
def show(request: Request, item_id: str, limit: Annotated[int, Query(ge=0, le=10_000)] = 100) -> Any:
    return _told(request, ASK, lambda client: tickets.shown(item_id, org_code=client.org_code, limit=limit))


@router.post("/tickets/{item_id}/assign", summary="Assign / 分派责任医生")
def assign(request: Request, item_id: str, body: Assign, actor: Actor = None, again: Again = None) -> Any:
    def work(org: str, by: str, key: str | None) -> Any:
        return tickets.assign(item_id, body.to, by=by, key=key, org_code=org)

    return _step(request, ASK, actor, again, work)


@router.post("/tickets/{item_id}/fix", summary="Mended at the source / 已在源系统修改")
def fix(request: Request, item_id: str, body: Fix, actor: Actor = None, again: Again = None) -> Any:
    def work(org: str, by: str, key: str | None) -> Any:
        return tickets.fix(item_id, body.reason_code, by=by, note=body.note, key=key, org_code=org)

    return _step(request, ASK, actor, again, work)


@router.post("/tickets/{item_id}/waive", summary="Ask for a waiver / 申请豁免")
def waive(request: Request, item_id: str, body: Waive, actor: Actor = None, again: Again = None) -> Any:
    def work(org: str, by: str, key: str | None) -> Any:
        return tickets.ask_waiver(
            item_id,
            body.reason_code,
            by=by,
            reason=body.reason,
            expires_on=body.expires_on,
            key=key,
            org_code=org,
        )

    return _step(request, ASK, actor, again, work)


@router.post("/tickets/{item_id}/decide", summary="Agree to a waiver or refuse it / 批准或不予豁免")
def decide(request: Request, item_id: str, body: Decide, actor: Actor = None, again: Again = None) -> Any:
    def work(org: str, by: str, key: str | None) -> Any:
        return tickets.decide(item_id, by=by, reason=body.reason, agree=body.agree, key=key, org_code=org)

    return _step(request, APPROVE, actor, again, work)


@router.get("/gates", summary="What is blocked, why, since when, what would unblock it / 质控门")
def gates(request: Request, product: str | None = None) -> Any:
    from quality.gates_explained import explain

    def work(client: Client) -> Any:
        return {"rows": [_own(e.as_dict(), client.org_code) for e in explain(product)]}

    return _told(request, ASK, work)


def _own(gate: dict[str, Any], org_code: str) -> dict[str, Any]:
    """A gate with the steps of one institution: what another has to mend is not its business."""
    kept = {k: v for k, v in gate.items() if k not in ("advice_zh", "advice_en")}
    return kept | {"steps": [s for s in gate["steps"] if s["org_code"] == org_code]}


@router.get("/due", summary="What is due and has not failed yet / 到期清单")
def due(
    request: Request,
    data_date: date,
    doctor: str | None = None,
    rule: str | None = None,
    within: Annotated[int | None, Query(ge=0, le=3660)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Any:
    from quality.due import rows

    def work(client: Client) -> Any:
        found = rows(
            data_date, org_code=client.org_code, doctor_id=doctor, rule_id=rule, within=within, limit=limit
        )
        return {"rows": found}

    return _told(request, ASK, work)
