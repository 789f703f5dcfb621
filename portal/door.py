"""The door: every request is known (HTTP Basic, or a client's token) and allowed before a router sees it."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lake.errors import MedlakeError
from lake.log import logger
from portal import access, accounts, clients, pages
from portal.fhir import outcome

_log = logger("portal")

#: Everything from here and nowhere else; no inline script or style, no frame, no plug-in.
HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def person_of(request: Request) -> accounts.Person | None:
    """Who sends this, by HTTP Basic; None without or with wrong credentials."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, word = base64.b64decode(given, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return accounts.check(user, word) if colon and accounts.is_demo(request.headers) else None


class Door:
    """ASGI middleware. Puts ``request.state.person`` in place and the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)

        started: list[int] = []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = list(message.get("headers", []))
                headers += [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                if not request.url.path.startswith("/static/"):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
                started.append(message["status"])
            await send(message)

        try:
            answer = (
                await self._client_refusal(request)
                if access.is_for_clients(request.url.path)
                else self._refusal(request)
            )
            await (answer or self.app)(scope, receive, guarded)
        except (
            Exception
        ) as error:  # here and not in the application, so that this answer too carries the headers
            _log.error("request_failed", reason=type(error).__name__, path=request.url.path)
            if started:
                raise
            await pages.problem(request, 500)(scope, receive, guarded)

    async def _client_refusal(self, request: Request) -> Response | None:
        """A program without a valid token gets a numbered error as JSON, whatever the path."""
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise MedlakeError("E273", detail="none given")
            request.state.client = await clients.known(word.strip())
        except MedlakeError as error:
            if error.code != "E273":
                raise
            _log.warning("client_refused", code=error.code, path=request.url.path.split("/", 2)[1])
            challenge = {"www-authenticate": 'Bearer realm="Medlake"'}
            if request.url.path.startswith("/fhir/"):
                return outcome.refused(error, headers=challenge)
            content = {"code": error.code, "zh": error.zh, "en": error.en}
            content |= {"remedy_zh": error.remedy_zh, "remedy_en": error.remedy_en}
            return JSONResponse(content, 401, challenge)
        return None

    def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        if access.is_public(path):
            return None
        person = person_of(request)
        if person is None:
            answer = pages.problem(request, 401)
            answer.headers["www-authenticate"] = 'Basic realm="Medlake", charset="UTF-8"'
            return answer
        request.state.person = person
        request.state.session_key = f"basic:{person.user}"
        room = access.room_of(path)
        if room is None:
            return pages.problem(request, 404)
        if person.role not in room.roles:
            return pages.problem(request, 403)
        return None
