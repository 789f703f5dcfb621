"""The node's local door, on 127.0.0.1 alone: its status page, input over HTTP, look-up and entry checks offline.

Programs show the content of ``local.token`` as Bearer token. The page itself shows counts and sizes, nothing of anybody.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ingestion.edge import clock, entry_check, tls
from ingestion.edge.intake import problem_of
from lake import registry
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.settings import settings

if TYPE_CHECKING:
    import uvicorn

    from ingestion.edge.node import Node

_log = logger("edge")
_STATIC = Path(__file__).parent / "static"
_STATUS = {"E282": 507, "E283": 507, "E289": 423, "E291": 403, "E297": 401, "E270": 413}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def server(node: Node, port: int) -> uvicorn.Server:
    """The server of the local door; it has not started."""
    import uvicorn

    config = uvicorn.Config(
        application(node, port), host="127.0.0.1", port=port, http="h11", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    return tls.Server(config)


def application(node: Node, port: int) -> Starlette:
    """The ASGI application of the local door."""
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    def door(
        work: Callable[[Request], Awaitable[Response]], *, token: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                if request.headers.get("host") not in hosts:  # a name that leads here from elsewhere
                    raise MedlakeError("E297", detail="Host")
                shown = request.headers.get("authorization", "").removeprefix("Bearer ")
                if token and not hmac.compare_digest(shown.encode(), node.token.encode()):
                    raise MedlakeError("E297", detail="Bearer")
                answer = await work(request)
            except MedlakeError as error:
                answer = JSONResponse({"error": problem_of(error)}, _STATUS.get(error.code, 400))
            answer.headers.update(_HEADERS)
            return answer

        return handle

    async def page(_: Request) -> Response:
        return FileResponse(_STATIC / "edge.html", media_type="text/html; charset=utf-8")

    async def status(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(shown, node))

    async def ingest(request: Request) -> Response:
        return JSONResponse(await _ingest(node, request), 201)

    async def lookup(request: Request) -> Response:
        return JSONResponse(
            await asyncio.to_thread(_lookup, node, dict(request.query_params), dict(request.headers))
        )

    async def check(request: Request) -> Response:
        told = await _body(request)
        if not isinstance(told.get("record"), dict):
            raise MedlakeError("E299", detail="record")
        today = _local_today(node)
        return JSONResponse(
            await asyncio.to_thread(
                entry_check.check, node.pack, str(told.get("table")), told["record"], today
            )
        )

    async def unlock(request: Request) -> Response:
        told = await _body(request)
        await asyncio.to_thread(node.unlock, str(told.get("passphrase", "")))
        return JSONResponse({"locked": node.pack.locked})

    routes = [
        Route("/", door(page, token=False)),
        Route("/status.json", door(status, token=False)),
        Route("/ingest/{feed}", door(ingest, token=True), methods=["POST"]),
        Route("/lookup", door(lookup, token=True)),
        Route("/check", door(check, token=True), methods=["POST"]),
        Route("/unlock", door(unlock, token=False), methods=["POST"]),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    return Starlette(routes=routes)


def _local_today(node: Node) -> Any:
    """Today in the city by the centre's clock as far as it is known: entry rules must not see a wrong day."""
    offset = node.forwarder.contact.offset
    return (
        (clock.now() + timedelta(milliseconds=offset.milliseconds if offset else 0))
        .astimezone(SHANGHAI)
        .date()
    )


async def _body(request: Request, most: int = 0) -> dict[str, Any]:
    """A JSON object. Raises MedlakeError E299, it is none; E270, it is too large."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise MedlakeError("E299", detail="Content-Type")
    limit = most or settings().http_max_json_bytes
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit:
            raise MedlakeError("E270", limit=f"{limit} bytes")
    try:
        found = json.loads(bytes(body))
    except ValueError as error:
        raise MedlakeError("E299", detail="JSON") from error
    if not isinstance(found, dict):
        raise MedlakeError("E299", detail="JSON")
    return found


async def _ingest(node: Node, request: Request) -> dict[str, Any]:
    """Records of one table, spooled before this answers; the centre takes them as it takes uploads of its own door."""
    from ingestion.edge.take import tree
    from ingestion.readers.upload import envelope
    from ingestion.receive.http import parse

    told, org = await _body(request), request.query_params.get("org", node.home.config.org_code)
    if org not in tree(node.home.config.org_code):
        raise MedlakeError("E285", detail=f"institution {org}")
    table = request.query_params.get("table")
    upload = await asyncio.to_thread(parse, request.path_params["feed"], org, told, b"", table=table)
    receipt, now = secrets.token_hex(16), clock.now().isoformat(timespec="microseconds")
    lines = [envelope(receipt, now, upload.table.name, r) for r in upload.records]
    await node.records.append(upload.feed, org, "lines", ".http", lines)
    node.forwarder.poke()
    return {
        "receipt_id": receipt,
        "feed": upload.feed,
        "org_code": org,
        "table": upload.table.name,
        "records": len(lines),
        "received_at": now,
    }


def _lookup(node: Node, asked: dict[str, str], headers: dict[str, str]) -> dict[str, Any]:
    """``way`` and ``value``; who asks and what for goes into this node's audit log, the value does not."""
    from lake import audit  # brings SQLAlchemy, which a node without look-ups need not load

    way, value = asked.get("way", "id_no"), asked.get("value", "")
    found = node.pack.find(way, value)
    audit.record(
        "edge.lookup",
        actor=headers.get("x-actor", "local"),
        purpose=headers.get("x-purpose", "care"),
        tables=["pack.resident"],
        fields=[way],
        rows=len(found),
        result="found" if found else "none",
        node=node.home.config.node,
    )
    return {"residents": found, "pack": node.pack.facts}


def shown(node: Node) -> dict[str, Any]:
    """What the page shows."""
    config, contact = node.home.config, node.forwarder.contact
    told = node.status()
    told |= {
        "org_code": config.org_code,
        "org_name": _org_name(config.org_code),
        "parent": config.parent,
        "connected": contact.connected,
        "problem": contact.problem,
        "last_contact": _local(
            contact.last_at.isoformat() if contact.last_at else node.spool.fact("last_contact")
        ),
        "oldest": _local(told["oldest_at"]),
        "oldest_seconds": _age(told["oldest_at"]),
        "now": clock.now().astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S"),
        "taken_files": node.folder.files,
        "taken_records": node.records.taken,
        "sent_chunks": contact.sent_chunks,
        "sent_bytes": contact.sent_bytes,
        "trouble_texts": list(contact.troubles.values()),
        "refusals": [problem_of(_refusal(node, code)) | {"count": n} for code, n in told["refused"].items()],
        "pack": node.pack.facts,
        "pack_problem": node.pack.problem,
        "children": [_child(n, c) for n, c in sorted(node.relay.children().items())] if node.relay else [],
        "is_parent": node.relay is not None,
    }
    return told


@lru_cache(maxsize=4)
def _org_name(org: str) -> str:
    return next((str(o["org_name"]) for o in registry.orgs().to_pylist() if o["org_code"] == org), org)


def _refusal(node: Node, code: str) -> MedlakeError:
    status = node.status()
    return MedlakeError(
        code,
        detail="数据源或机构不符",
        used_mb=status["used_mb"],
        quota_mb=status["quota_mb"],
        free_mb=status["free_mb"],
    )


def _child(name: str, told: dict[str, Any]) -> dict[str, Any]:
    status = told.get("status", {})
    return {
        "node": name,
        "org_code": told.get("org_code"),
        "last": _local(told.get("at", "")),
        "silent_seconds": _age(told.get("at", "")),
        "waiting_chunks": status.get("waiting_chunks"),
        "waiting_records": status.get("waiting_records"),
        "troubles": status.get("troubles", []),
    }


def _local(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(SHANGHAI).strftime("%m-%d %H:%M:%S") if text else ""


def _age(text: str) -> int | None:
    return max(0, round((clock.now() - datetime.fromisoformat(text)).total_seconds())) if text else None
