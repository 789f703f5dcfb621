"""The HTTP side of a parent, over mutual TLS: what institutions offer their stations, and the centre its nodes.

``/edge/v1/hello`` (who is there, how far each chain is), ``chunks``, ``pack``, ``key``, ``renew``. All of it is asked by
nodes alone; a person's page is elsewhere (``page``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingestion.edge.chunk import Chunk, Deframer
from ingestion.edge.identity import Identity
from ingestion.edge.intake import COMMIT_BYTES, Intake, Taken, problem_of
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_STATUS = {
    "E281": 403,
    "E285": 403,
    "E286": 409,
    "E287": 409,
    "E294": 503,
    "E283": 507,
    "E282": 507,
    "E292": 404,
}
_MOST_JSON = 1 << 20


class Parent(Protocol):
    """What a relay and the centre do alike. All of these run in worker threads and may raise ``MedlakeError``."""

    intake: Intake

    def admit(self, peer: Identity) -> None:
        """E281, the caller is revoked; E285, it is nobody's child here."""

    def hello(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]: ...

    def busy(self) -> None:
        """E294, E282: nothing can be taken now."""

    def pack(self, peer: Identity, node: str, have: int) -> bytes:
        """The pack's newest file for a node that has version ``have``; empty if there is nothing newer."""

    def key(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]: ...

    def renew(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]: ...


def application(parent: Parent) -> Starlette:
    """The ASGI application."""

    def answered(
        work: Callable[[Request, Identity], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            peer = request.scope["state"].get("peer")
            try:
                if peer is None:
                    raise MedlakeError("E281", detail="no certificate")
                await asyncio.to_thread(parent.admit, peer)
                return await work(request, peer)
            except MedlakeError as error:
                _log.warning("edge_request_refused", code=error.code, status=peer.node if peer else "")
                headers = {"Retry-After": "10"} if error.code in ("E294", "E283", "E282") else {}
                return JSONResponse({"error": problem_of(error)}, _STATUS.get(error.code, 400), headers)

        return handle

    async def hello(request: Request, peer: Identity) -> Response:
        return JSONResponse(await asyncio.to_thread(parent.hello, peer, await _json(request)))

    async def chunks(request: Request, peer: Identity) -> Response:
        await asyncio.to_thread(parent.busy)
        taken = await _take(parent.intake, peer, request)
        answer: dict[str, Any] = {"kept": taken.kept, "again": taken.again}
        if taken.problem:
            return JSONResponse(
                answer | {"error": problem_of(taken.problem)}, _STATUS.get(taken.problem.code, 400)
            )
        return JSONResponse(answer)

    async def pack(request: Request, peer: Identity) -> Response:
        node, have = request.query_params.get("node", ""), request.query_params.get("have", "0")
        if not have.isdigit():
            raise MedlakeError("E299", detail="have")
        found = await asyncio.to_thread(parent.pack, peer, node, int(have))
        return Response(found, 200 if found else 204, media_type="application/octet-stream")

    async def key(request: Request, peer: Identity) -> Response:
        return JSONResponse(await asyncio.to_thread(parent.key, peer, await _json(request)))

    async def renew(request: Request, peer: Identity) -> Response:
        return JSONResponse(await asyncio.to_thread(parent.renew, peer, await _json(request)))

    routes = {
        "hello": (hello, "POST"),
        "chunks": (chunks, "POST"),
        "pack": (pack, "GET"),
        "key": (key, "POST"),
        "renew": (renew, "POST"),
    }
    return Starlette(
        routes=[Route(f"/edge/v1/{n}", answered(w), methods=[m]) for n, (w, m) in routes.items()]
    )


async def _json(request: Request) -> dict[str, Any]:
    """Raises MedlakeError E299, the body is no JSON object or too large."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > _MOST_JSON:
            raise MedlakeError("E299", detail="size")
    try:
        found = json.loads(bytes(body))
    except ValueError as error:
        raise MedlakeError("E299", detail="JSON") from error
    if not isinstance(found, dict):
        raise MedlakeError("E299", detail="JSON")
    return found


async def _take(intake: Intake, peer: Identity, request: Request) -> Taken:
    """Keep chunks as they arrive, a few megabytes at a time: what came before a line broke is not sent again."""
    total, deframer = Taken(), Deframer()
    waiting: list[Chunk] = []
    size = 0

    async def flush() -> None:
        nonlocal size
        done = await asyncio.to_thread(intake.take, peer, list(waiting))
        total.kept, total.again, total.problem = (
            total.kept + done.kept,
            total.again + done.again,
            done.problem,
        )
        waiting.clear()
        size = 0

    try:
        async for block in request.stream():
            for chunk in deframer.feed(block):
                waiting.append(chunk)
                size += chunk.size
                if size >= COMMIT_BYTES:
                    await flush()
            if total.problem:
                return total
    except (ClientDisconnect, MedlakeError) as error:
        await flush()
        if isinstance(error, MedlakeError):
            total.problem = total.problem or error
        return total
    await flush()
    return total
