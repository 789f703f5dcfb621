"""The registry over FHIR R4: ``$match``, Patient, ``$merge``/``$unmerge``, PIXm and the one-code lookup.

Each request: a client's token with the scope, its rate, its body within limits; then the registry is asked in a thread,
the audit entry written (who, for what purpose, by which fields, how many persons; no value of any), and the answer sent.
"""

from __future__ import annotations

import asyncio
import gc
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lake import crypto
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from portal.clients import Client
from portal.fhir import capability, merging, operations, outcome, requests
from portal.fhir.operations import Answer, Call, Operation
from portal.fhir.outcome import FhirResponse
from portal.fhir.requests import Parameters
from portal.rates import Rates
from portal.trail import Trail

if TYPE_CHECKING:
    from empi.online import Index

router = APIRouter(prefix="/fhir", tags=["fhir"])
_log = logger("portal")

#: Scopes of tokens: to ask the registry, and to change it.
ASK, CHANGE = "empi", "empi-merge"

#: Threads that answer; each keeps connections of its own. More of them only wait for each other (measured, 2 cores).
THREADS = 3

#: Why somebody asks: PurposeOfUse of HL7's v3 ActReason.
PURPOSES = frozenset(
    "TREAT ETREAT CAREMGT CLINTRCH COVERAGE HOPERAT HPAYMT HQUALIMP HRESCH HSYSADMIN PATADMIN PATRQT PUBHLTH RECORDMGT".split()
)
_ACTOR = re.compile(r"[\w.@\-]{1,64}")
_JSON = ("application/fhir+json", "application/json", "text/json")
_FORMS = ("application/x-www-form-urlencoded",)


@dataclass(frozen=True)
class _Asker:
    """Who asks, and why, as the audit names it."""

    client: Client
    actor: str
    purpose: str
    key: str | None


def _asker(request: Request, scope: str) -> _Asker:
    """Check the token's scope and rate, and the headers.

    Raises:
        MedlakeError: E342 scope, E343 too often, E345 another format is wanted, E346 a header's value.
    """
    client: Client = request.state.client
    if scope not in client.feeds:
        raise MedlakeError("E342", scope=scope)
    if _rates(request).wait(client.token_id):
        raise MedlakeError("E343")
    wanted = request.query_params.get("_format") or request.headers.get("accept", "*/*")
    if "json" not in wanted and "*/*" not in wanted and "application/*" not in wanted:
        raise MedlakeError("E345", place="Accept", detail="Accept")
    purpose = request.headers.get("x-purpose-of-use")
    if purpose is not None and purpose not in PURPOSES:
        raise MedlakeError("E346", header="X-Purpose-Of-Use")
    person = request.headers.get("x-actor")
    if person is not None and not _ACTOR.fullmatch(person):
        raise MedlakeError("E346", header="X-Actor")
    given = request.headers.get("idempotency-key")
    if given is not None and not 8 <= len(given) <= 128:
        raise MedlakeError("E346", header="Idempotency-Key")
    key = (
        f"H{crypto.sm3_hex(f'{client.token_id}|{request.url.path}|{given}'.encode())[:20]}" if given else None
    )
    actor = f"client:{client.token_id}" + (f"/{person}" if person else "")
    return _Asker(client, actor, purpose or client.note or "unstated", key)


def _rates(request: Request) -> Rates:
    found = getattr(request.app.state, "fhir_rates", None)
    if found is None:
        s = settings()
        found = request.app.state.fhir_rates = Rates(s.fhir_rate_per_second, s.fhir_burst)
    rates: Rates = found
    return rates


@dataclass(frozen=True)
class _Service:
    """What the requests of one process share: the threads that answer, and the audit they write."""

    threads: ThreadPoolExecutor
    trail: Trail


def _service(app: Any) -> _Service:
    found = getattr(app.state, "fhir", None)
    if found is None:
        found = app.state.fhir = _Service(ThreadPoolExecutor(THREADS, "fhir"), Trail())
    service: _Service = found
    return service


def close(app: Any) -> None:
    """Let the threads end what they are at."""
    _service(app).threads.shutdown()


def registry_of(app: Any) -> Index:
    """The registry of this process, opened by the first who asks.

    Raises:
        MedlakeError: E337, no index was built yet.
    """
    from empi import online

    found = getattr(app.state, "empi_index", None)
    if found is None:
        found = app.state.empi_index = online.open_index()
    index: Index = found
    return index


def warm(app: Any) -> None:
    """Open the registry before anybody asks, and load what standardising a name needs; without an index do nothing."""
    from empi.online import Query

    try:
        registry_of(app).match(Query(name="张三", sex_code="1"))
    except MedlakeError:  # whoever asks is told
        return
    except Exception as error:  # an index that cannot be read must not keep the portal from its other rooms
        _log.error("index_not_opened", reason=type(error).__name__)
        return
    gc.collect()
    gc.freeze()  # what is loaded now stays: the collector need not walk through it while somebody waits


async def _body(request: Request) -> bytes:
    """The body, up to the limit: what a sender declares is not what it sends.

    Raises:
        MedlakeError: E344, more was sent.
    """
    limit = settings().fhir_max_bytes
    blocks: list[bytes] = []
    seen = 0
    async for block in request.stream():
        seen += len(block)
        if seen > limit:
            raise MedlakeError("E344", limit=f"{limit:,} B")
        blocks.append(block)
    return b"".join(blocks)


async def _parameters(request: Request) -> Parameters:
    """Parameters of the query string, of a form, or of a Parameters resource.

    Raises:
        MedlakeError: E338, E344, E345.
    """
    items = request.query_params.multi_items()
    if request.method != "POST":
        return requests.from_query(items)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORMS:
        try:
            items += parse_qsl((await _body(request)).decode(), keep_blank_values=True, max_num_fields=50)
        except ValueError as error:
            raise MedlakeError("E338", detail="form") from error
        return requests.from_query(items)
    if kind not in _JSON:
        raise MedlakeError("E345", detail="Content-Type")
    return requests.parameters(await _body(request))


def _told(answer: Answer) -> dict[str, object]:
    """Of whom an entry tells: kept beside the chain, so that a leak has names (``lake.audit``)."""
    return {"persons": list(answer.persons)} if answer.persons else {}


async def _answer(request: Request, scope: str, action: str, operation: Operation, **path: str) -> Response:
    """Run an operation for whoever asks; whatever comes of it is audited before it is told."""
    asker: _Asker | None = None
    service = _service(request.app)
    loop = asyncio.get_running_loop()
    try:
        asker = _asker(request, scope)
        given = await _parameters(request)
    except MedlakeError as error:
        return await loop.run_in_executor(service.threads, _refused, request, action, asker, error)
    given = Parameters(given.values | {name: [("valueString", value)] for name, value in path.items()})
    return await loop.run_in_executor(service.threads, _answered, request, action, operation, asker, given)


def _answered(
    request: Request, action: str, operation: Operation, asker: _Asker, given: Parameters
) -> Response:
    """The same in a thread: one that waits for the audit's disk keeps nobody else waiting."""
    try:
        base = str(request.base_url).rstrip("/") + "/fhir"
        call = Call(registry_of(request.app), asker.client.org_code, asker.actor, base, asker.key)
        answer = operation(call, given)
    except MedlakeError as error:
        return _refused(request, action, asker, error)
    whom = _told(answer)
    if not _noted(request, action, asker, answer.fields, len(answer.persons), answer.result, **whom):
        return outcome.refused(MedlakeError("E347"))
    return FhirResponse(answer.resource, answer.status)


def _noted(
    request: Request, action: str, asker: _Asker, fields: list[str], rows: int, result: str, **more: Any
) -> bool:
    """Write the audit entry; False if the database does not take it."""
    try:
        _service(request.app).trail.note(
            action=f"fhir_{action}",
            actor=asker.actor,
            purpose=asker.purpose,
            tables=["silver/person"],
            fields=fields,
            rows=rows,
            result=result,
            org_code=asker.client.org_code,
            **more,
        )
    except Exception as error:  # whatever the reason, an answer that nobody can account for is not given
        _log.error("audit_not_written", reason=type(error).__name__)
        return False
    return True


def _refused(request: Request, action: str, asker: _Asker | None, error: MedlakeError) -> Response:
    """A refusal; what a client with the right scope runs into is audited too, since not finding is telling."""
    client: Client = request.state.client
    _log.warning("fhir_refused", code=error.code, step=action, org_code=client.org_code)
    status, _ = outcome.of(error)
    if asker is not None and status < 500 and not _noted(request, action, asker, [], 0, error.code):
        return outcome.refused(MedlakeError("E347"))
    if error.code == "E343":
        wait = _rates(request).wait(client.token_id)
        return outcome.refused(error, headers={"retry-after": str(max(1, math.ceil(wait)))})
    return outcome.refused(error, 406 if error.place == "Accept" else None)


@router.get("/metadata", summary="CapabilityStatement / 能力声明")
def metadata(request: Request) -> Response:
    return FhirResponse(capability.statement(str(request.base_url).rstrip("/") + "/fhir"))


@router.post("/Patient/$match", summary="Who may this be? / 按描述匹配居民")
async def match(request: Request) -> Response:
    """FHIR R4 Patient-match: Parameters ``resource``, ``onlyCertainMatches``, ``count``; a searchset with scores and grades."""
    return await _answer(request, ASK, "match", operations.match)


@router.get("/Patient/$ihe-pix", summary="IHE PIXm ITI-83 / 标识交叉引用")
async def pix(request: Request) -> Response:
    """``sourceIdentifier=system|value``, ``targetSystem=system`` (may be repeated)."""
    return await _answer(request, ASK, "pix", operations.pix)


router.post("/Patient/$ihe-pix", include_in_schema=False)(pix)


@router.get("/Patient/$lookup", summary="One code to the resident / 一码查询")
async def lookup(request: Request) -> Response:
    """``code``: id (15 or 18), card, insurance or local number; ``org``: whose local number. POST keeps it out of URLs."""
    return await _answer(request, ASK, "lookup", operations.lookup)


router.post("/Patient/$lookup", include_in_schema=False)(lookup)


@router.post("/Patient/$merge", summary="Two persons are one / 合并")
async def merge(request: Request) -> Response:
    """FHIR R5 Patient-merge: ``source-patient``, ``target-patient`` (or ``…-identifier``), ``preview``; and ``reason``."""
    return await _answer(request, CHANGE, "merge", merging.merge)


@router.post("/Patient/$unmerge", summary="Undo a merge / 撤销合并")
async def unmerge(request: Request) -> Response:
    """``change-id`` of the merge, or ``source-patient`` (the retired id); and ``reason``."""
    return await _answer(request, CHANGE, "unmerge", merging.unmerge)


@router.get("/Patient", summary="Search by identifier / 按标识检索")
async def search(request: Request) -> Response:
    """``identifier=system|value``; ``POST /Patient/_search`` keeps the number out of URLs."""
    return await _answer(request, ASK, "search", operations.search)


router.post("/Patient/_search", include_in_schema=False)(search)


@router.get("/Patient/{empi_id}", summary="Golden record / 黄金记录")
async def read(request: Request, empi_id: str) -> Response:
    return await _answer(request, ASK, "read", operations.read, _id=empi_id)
