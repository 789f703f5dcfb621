"""The rules before something is saved, and the rules themselves, for programs.

``POST /quality/check/{table}``: a HIS or a mobile app asks before it saves; its token carries the table's feed, as for
``/ingest``. ``/quality/rules``: the rule form; tokens carry ``rules`` (dry run, propose) and ``rules-approve`` (publish),
so that an installation gives those to different programs or persons, who are named by ``X-Actor``. No value of a record
is logged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse

from lake.errors import MedlakeError
from lake.local_time import local_today
from lake.log import logger
from lake.settings import settings
from portal.clients import Client
from portal.rates import Rates

if TYPE_CHECKING:
    from quality.entry.checking import Checker

router = APIRouter(prefix="/quality", tags=["quality"])
_log = logger("portal")

#: Threads that judge; each keeps planned statements of its own. More only wait for each other (measured, 2 cores).
THREADS = 2
WRITE, APPROVE = "rules", "rules-approve"
_ACTOR = re.compile(r"[\w.@\-]{2,64}")
_STATUS = {
    "E401": 422, "E402": 422, "E403": 422, "E423": 409, "E426": 400, "E440": 404, "E441": 400, "E442": 422, "E443": 403,
    "E444": 429, "E447": 422, "E448": 409, "E449": 404,
}  # fmt: skip
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "Another shape than expected / 形状不对"},
    401: {"description": "No valid token / 凭证无效"},
    403: {"description": "The token is not for this / 凭证无此权限"},
    404: {"description": "No such table / 没有此表"},
    413: {"description": "Too large / 超过上限"},
    422: {
        "description": "Names or values that the contract does not have, one by one in errors / 字段或取值不符"
    },
    429: {"description": "Too many requests; see Retry-After / 过于频繁"},
}
_RECORD = {
    "type": "object",
    "description": "Fields of the contract; keys may be missing before saving / 契约字段",
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _RECORD,
                        {"type": "array", "maxItems": 1000, "items": _RECORD},
                        {
                            "type": "object",
                            "required": ["records"],
                            "properties": {
                                "records": {"type": "array", "maxItems": 1000, "items": _RECORD},
                                "context": {
                                    "type": "object",
                                    "description": "The residents' other rows, complete per table / 居民的其他记录",
                                    "additionalProperties": {"type": "array", "items": {"type": "object"}},
                                },
                            },
                        },
                    ]
                }
            }
        },
    }
}


@dataclass(frozen=True)
class _Service:
    """What the requests of one process share."""

    threads: ThreadPoolExecutor
    checker: Checker
    rates: Rates


def _service(app: Any) -> _Service:
    found = getattr(app.state, "entry", None)
    if found is None:
        from quality import entry

        s = settings()
        rates = Rates(s.entry_rate_per_second, s.entry_burst)
        found = app.state.entry = _Service(ThreadPoolExecutor(THREADS, "entry"), entry.open_checker(), rates)
    service: _Service = found
    return service


def close(app: Any) -> None:
    """Let the threads end what they are at."""
    if (found := getattr(app.state, "entry", None)) is not None:
        found.threads.shutdown()


def warm(app: Any) -> None:
    """Plan the rules of the tables named in ``MEDLAKE_ENTRY_WARM`` before anybody asks."""
    tables = settings().entry_warm.split()
    if not tables:
        return
    service, today = _service(app), local_today()
    for done in [service.threads.submit(service.checker.warm, tables, today) for _ in range(THREADS)]:
        try:
            done.result()
        except MedlakeError as error:  # a wrong name must not keep the portal from its other rooms
            _log.error("entry_not_warm", code=error.code)


def _problem(error: MedlakeError, status: int | None = None) -> JSONResponse:
    content: dict[str, Any] = {"code": error.code, "place": error.place, "zh": error.zh, "en": error.en}
    content |= {"remedy_zh": error.remedy_zh, "remedy_en": error.remedy_en}
    if (problems := getattr(error, "problems", None)) is not None:
        content["errors"] = problems
    return JSONResponse(content, status or _STATUS.get(error.code, 500))


async def _json(request: Request) -> Any:
    """The body as JSON, up to the limit: what a sender declares is not what it sends."""
    limit, blocks, seen = settings().http_max_json_bytes, [], 0
    async for block in request.stream():
        seen += len(block)
        if seen > limit:
            raise MedlakeError("E270", limit=f"{limit:,} B")
        blocks.append(block)
    try:
        return json.loads(b"".join(blocks))
    except (ValueError, RecursionError):
        raise MedlakeError("E441", detail="JSON") from None


@router.post(
    "/check/{table}", summary="Check before saving / 录入时质控", openapi_extra=_BODY, responses=_RESPONSES
)
async def check(
    request: Request,
    table: str,
    as_of: Annotated[date | None, Query(description="Day of saving; today if absent / 保存日期")] = None,
) -> JSONResponse:
    """Per record the rules it breaks: ``blocks`` is ``save`` (mend first), ``reason`` (may be saved with a reason) or ``none``.

    What the record alone cannot tell stands in ``not_evaluated`` with why; the daily check looks at it.
    """
    client: Client = request.state.client
    service = _service(request.app)
    if wait := service.rates.wait(client.token_id):
        answer = _problem(MedlakeError("E444"))
        answer.headers["retry-after"] = str(max(1, math.ceil(wait)))
        return answer
    try:
        _allowed(client, table)
        node = await _json(request)
        work = _answered(service, table, node, client.org_code, as_of or local_today())
        return await run_in_threadpool_of(service.threads, work)
    except MedlakeError as error:
        _log.warning("check_refused", code=error.code, org_code=client.org_code)
        return _problem(error, 413 if error.code == "E270" else None)


def _allowed(client: Client, table: str) -> None:
    """The token must carry the table's feed, as for an upload of it.

    Raises:
        MedlakeError: E440 no such table; E443 another feed.
    """
    from quality.rule import rulebook
    from quality.shapes import contract_tables

    contract = contract_tables().get(table)
    if contract is None:
        known = [t for t in rulebook().tables if t in contract_tables()]
        raise MedlakeError("E440", table="?", known=", ".join(known))
    if contract.feed not in client.feeds:
        raise MedlakeError("E443", scope=contract.feed)


def _answered(
    service: _Service, table: str, node: Any, org_code: str, as_of: date
) -> Callable[[], JSONResponse]:
    return lambda: JSONResponse(service.checker.check(table, node, org_code, as_of))


async def run_in_threadpool_of(threads: ThreadPoolExecutor, work: Callable[[], JSONResponse]) -> JSONResponse:
    """Run in a pool of ours, whose threads keep what they planned."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(threads, work)


class Change(BaseModel):
    """A new rule, a rule as it shall be, or single settings of one (``key=value``)."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["new", "change", "retire"] = "change"
    rule_id: str = Field("", max_length=16)
    rule: dict[str, Any] | None = Field(None, description="As in quality/rules/*.yaml / 规则全文")
    settings: list[str] = Field(default_factory=list, max_length=50)
    note: str = Field("", max_length=500)
    samples: int = Field(10, ge=0, le=1000)


class Decision(BaseModel):
    """A second person's word."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field("", max_length=500)


Actor = Annotated[str | None, Header(alias="X-Actor", description="Who acts / 操作人")]


async def _step(
    request: Request, scope: str, actor: str | None, work: Callable[[str], dict[str, Any]]
) -> JSONResponse:
    """A look or step of the rule form by a named person; it runs in a thread, since a dry run takes seconds."""
    client: Client = request.state.client
    try:
        if scope not in client.feeds:
            raise MedlakeError("E443", scope=scope)
        if actor is None or not _ACTOR.fullmatch(actor):
            raise MedlakeError("E426", detail="X-Actor")
        return JSONResponse(await run_in_threadpool(work, actor))
    except MedlakeError as error:
        _log.warning("rule_refused", code=error.code, org_code=client.org_code)
        return _problem(error)


@router.post("/rules/dry-run", summary="What a change would do / 试运行", responses=_RESPONSES)
async def dry_run(request: Request, body: Change, actor: Actor = None) -> JSONResponse:
    """Holds the change against schema, contracts and its own examples, and runs it over the newest checked day. No write."""
    from quality import authoring

    def work(_: str) -> dict[str, Any]:
        return authoring.dry_run(_draft(body), samples=body.samples)

    return await _step(request, WRITE, actor, work)


@router.post("/rules", summary="Propose a change / 提出修改", responses=_RESPONSES)
async def propose(request: Request, body: Change, actor: Actor = None) -> JSONResponse:
    """Keeps the change with its dry run for a second person to publish."""
    from quality import authoring

    def work(by: str) -> dict[str, Any]:
        made = authoring.propose(_draft(body), by=by, note=body.note, samples=body.samples)
        return {"proposal_id": made.proposal_id, "state": made.state, "dry_run": made.dry_run}

    return await _step(request, WRITE, actor, work)


@router.post("/rules/proposals/{proposal_id}/publish", summary="Publish / 发布", responses=_RESPONSES)
async def publish(request: Request, proposal_id: str, body: Decision, actor: Actor = None) -> JSONResponse:
    """Never by who proposed it. The rule gets the next version and observes for 30 days."""
    from quality import authoring

    def work(by: str) -> dict[str, Any]:
        return authoring.publish(proposal_id, by=by, on=local_today(), note=body.note)

    return await _step(request, APPROVE, actor, work)


@router.get("/rules/log", summary="Changelog / 规则变更记录", responses=_RESPONSES)
async def log(
    request: Request,
    rule: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    actor: Actor = None,
) -> JSONResponse:
    from quality import authoring

    return await _step(request, WRITE, actor, lambda _: {"rows": authoring.log(rule, limit)})


def _draft(body: Change) -> Any:
    from quality import authoring

    return authoring.draft(
        body.action, body.rule_id, on=local_today(), file=body.rule, settings=body.settings, place="rule"
    )
