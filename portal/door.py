"""The door: every request is known (session, HTTP Basic of a demo account, or a client's token), bounded and allowed
before a router sees it; what changes something carries its form's token."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from portal import access, accounts, clients, csrf, pages, sessions, throttle
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

#: Bytes that somebody unknown may send: a login form.
_STRANGERS = 16 * 1024

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")


def person_of(request: Request) -> accounts.Person | None:
    """Who sends this by HTTP Basic, which only demo accounts may; None without or with wrong credentials."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or not accounts.is_demo(request.headers):
        return None
    try:
        user, colon, word = base64.b64decode(given, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return accounts.check(user, word) if colon else None


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole body of a request, or None when it is longer than the limit (no more than that is kept)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        size += len(message.get("body", b""))
        if size > limit:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A receive that gives a body which was read already, then goes on as the server's own."""
    given: list[bool] = []

    async def again() -> Message:
        if given:
            return await receive()
        given.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class Door:
    """ASGI middleware. Puts ``request.state.person`` (and ``session_key``) in place, the security headers on every
    answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._rates: throttle.Throttle | None = None

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
                if throttle.is_https(request):
                    headers.append((b"strict-transport-security", b"max-age=31536000"))
                if not request.url.path.startswith("/static/"):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
                started.append(message["status"])
            await send(message)

        try:
            if access.is_for_clients(request.url.path):
                answer = await self._client_refusal(request)
            else:
                answer = await self._refusal(request)
                if answer is None and request.method not in csrf.SAFE:
                    answer, receive = await self._changing(request, receive)
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

    async def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        if access.is_public(path):
            return None
        word = request.cookies.get(sessions.COOKIE, "")
        session = await run_in_threadpool(sessions.find, word) if word else None
        person = session.person if session else person_of(request)
        if person is None:
            return _unknown(request)
        request.state.person = person
        request.state.session_key = session.key if session else f"basic:{person.user}"
        if self._rates is None:  # made at the first request: settings may change between import and start
            self._rates = throttle.persons()
        if seconds := self._rates.wait(person.user):
            answer = pages.problem(request, 429)
            answer.headers["retry-after"] = str(int(seconds) + 1)
            return answer
        if (
            session
            and session.stage in sessions.STAGES
            and path not in ("/logout", sessions.STAGES[session.stage])
        ):
            return RedirectResponse(sessions.STAGES[session.stage], 303)
        room = access.room_of(path)
        if room is None:
            return pages.problem(request, 404)
        if person.role not in room.roles:
            _log.warning("room_refused", code="403", path=room.code)
            return pages.problem(request, 403)
        return None

    async def _changing(self, request: Request, receive: Receive) -> tuple[Response | None, Receive]:
        """A request that changes something: bounded in size, of a known type, with its session's form token."""
        is_stranger = access.is_public(request.url.path)
        limit = _STRANGERS if is_stranger else settings().portal_max_upload_mb * 1024 * 1024
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        announced = request.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > limit:
            return pages.problem(request, 413), receive
        if kind and kind not in _FORMS:
            return pages.problem(request, 415), receive
        body = await _body(receive, limit)
        if body is None:
            return pages.problem(request, 413), receive
        if not is_stranger and not csrf.is_right(
            request.state.session_key,
            request.headers.get("content-type", ""),
            request.headers.get(csrf.HEADER, ""),
            body,
        ):
            _log.warning("form_refused", code="E687", path=request.url.path.split("/", 2)[1])
            return pages.problem(request, 419), receive
        return None, _replayed(body, receive)


def _unknown(request: Request) -> Response:
    """To the login page where a browser asks for a page; a 401 for everything else."""
    is_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if is_page and "authorization" not in request.headers:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='/')}", 303)
    answer = pages.problem(request, 401)
    if accounts.is_demo(request.headers):
        answer.headers["www-authenticate"] = 'Basic realm="Medlake", charset="UTF-8"'
    return answer
