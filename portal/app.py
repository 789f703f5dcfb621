"""The ASGI application: door, routers, static files, error pages. Started by ``medlake serve`` on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ingestion.receive.http import Uploads
from lake import contracts
from lake.errors import MedlakeError
from lake.log import logger
from portal import accounts, pages, throttle
from portal.door import Door
from portal.routers import (
    account,
    archives,
    audit,
    catalogue,
    codes,
    corrections,
    due,
    exports,
    fhir,
    findings,
    glass,
    home,
    identity,
    ingest,
    ledger,
    login,
    quality,
    quality_check,
    quality_tickets,
    quarantine,
    reports,
    research,
    rules,
    scores,
    tickets,
    work,
)
from worklist import machine

_log = logger("portal")

#: Numbered errors that only say "nothing to see yet".
_NOT_YET = frozenset({"E608", "E103"})

#: Numbered errors of the policy: the answer says that it may not be, and nothing of what was asked for.
_STATUS = dict.fromkeys(("E681", "E682", "E683", "E684", "E685", "E692", "E693"), 403) | {
    "E697": 404,
    "E686": 404,
}


async def _http_problem(request: Request, error: Exception) -> Response:
    return pages.problem(request, error.status_code if isinstance(error, HTTPException) else 500)


async def _medlake_problem(request: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, MedlakeError) else ""
    _log.warning("request_refused", code=code, path=request.url.path)
    return pages.problem(request, 503 if code in _NOT_YET else _STATUS.get(code, 500))


def _read_ahead() -> None:
    """Read what nearly every page needs before anybody asks; what is wrong with it, its page says."""
    with contextlib.suppress(MedlakeError):
        contracts.contracts()
        machine.kinds()


@asynccontextmanager
async def _receiving(app: FastAPI) -> AsyncIterator[None]:
    """Take up what the last process received and did not hand over; hand over at the end."""
    try:
        await app.state.uploads.start()
    except MedlakeError as error:  # another process holds a door: pages go on, uploads will say so
        _log.error("uploads_not_started", code=error.code)
    warming = asyncio.gather(
        run_in_threadpool(_read_ahead),
        run_in_threadpool(fhir.warm, app),
        run_in_threadpool(quality_check.warm, app),
    )
    try:
        yield
    finally:
        await warming
        await run_in_threadpool(fhir.close, app)
        await run_in_threadpool(quality_check.close, app)
        await app.state.uploads.close()


def create_app() -> FastAPI:
    """The application. Makes the demo accounts' passwords if there are none yet."""
    accounts.ensure()
    # no Swagger page: it loads from a CDN. The description itself is at /api/openapi.json, behind the door
    app = FastAPI(
        title="Medlake 医湖",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=_receiving,
    )
    app.state.uploads = Uploads()
    app.state.logins = throttle.logins()
    for room in (
        home,
        quality_check,
        quality,
        ledger,
        catalogue,
        codes,
        corrections,
        quarantine,
        ingest,
        fhir,
        quality_tickets,
        login,
        account,
        audit,
        work,
        glass,
        due,
        findings,
        exports,
        reports,
        research,
        tickets,
        scores,
        rules,
        identity,
        archives,
    ):
        app.include_router(room.router)
    app.mount("/static", StaticFiles(directory=pages.STATIC_DIR), name="static")
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(MedlakeError, _medlake_problem)
    app.add_middleware(Door)
    return app
