"""``/login`` and ``/logout``: the one way in for persons. Nothing here says whether a user exists."""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lake import crypto
from portal import accounts, login, oidc, pages, sessions, throttle

router = APIRouter(include_in_schema=False)

#: Binds the login form to the browser that asked for it (a session does not exist yet).
_PRE = "medlake_pre"


def safe_next(wanted: str) -> str:
    """A path of this portal to go to after the login; anything else becomes the home page."""
    local = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if local and "\\" not in wanted and len(wanted) < 500 else "/"


def set_session(request: Request, answer: Response, word: str) -> Response:
    """The session's cookie: for this host, not for scripts, not with other sites' posts, over TLS where there is."""
    answer.set_cookie(
        sessions.COOKIE, word, httponly=True, samesite="lax", secure=throttle.is_https(request), path="/"
    )
    answer.delete_cookie(_PRE, path="/login")
    return answer


def form(request: Request, wanted: str, problem: str = "", status: int = 200) -> Response:
    pre = secrets.token_urlsafe(24)
    answer = pages.page(
        request,
        "login/login.html",
        status=status,
        next=safe_next(wanted),
        problem=problem,
        pre=crypto.token("pre-login", pre),
        is_demo=accounts.is_demo(request.headers),
        has_oidc=oidc.is_configured(),
    )
    answer.set_cookie(
        _PRE,
        pre,
        httponly=True,
        samesite="strict",
        secure=throttle.is_https(request),
        path="/login",
        max_age=1800,
    )
    return answer


@router.get("/login")
def show(request: Request, next: str = "/") -> Response:
    return form(request, next)


@router.post("/login")
async def enter(
    request: Request,
    user: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=200)] = "",
    pre: Annotated[str, Form(max_length=64)] = "",
    next: Annotated[str, Form(max_length=500)] = "/",
) -> Response:
    cookie = request.cookies.get(_PRE, "")
    if not cookie or not hmac.compare_digest(crypto.token("pre-login", cookie).encode(), pre.encode()):
        return form(request, next, "登录页已失效，请重新输入。", 403)
    source = throttle.source_ip(request)
    if seconds := request.app.state.logins.wait(source):
        answer = form(request, next, f"尝试过于频繁，请 {int(seconds) + 1} 秒后再试。", 429)
        answer.headers["retry-after"] = str(int(seconds) + 1)
        return answer
    word = await run_in_threadpool(
        login.log_in,
        user.strip(),
        password,
        source,
        is_demo=accounts.is_demo(request.headers),
        before=request.cookies.get(sessions.COOKIE, ""),
    )
    if word is None:
        return form(request, next, "账号或口令不正确，或账号已锁定。连续 5 次错误将锁定 30 分钟。", 401)
    return set_session(request, RedirectResponse(safe_next(next), 303), word)


@router.get("/login/oidc")
async def to_issuer(request: Request, next: str = "/") -> Response:
    return await oidc.depart(request, safe_next(next))


@router.get("/login/oidc/callback")
async def from_issuer(request: Request) -> Response:
    word, wanted = await oidc.arrive(request, throttle.source_ip(request))
    answer = set_session(request, RedirectResponse(safe_next(wanted), 303), word)
    answer.delete_cookie(oidc.COOKIE, path="/login")
    return answer


@router.get("/login/oidc/leave")
async def leave_issuer(request: Request) -> Response:
    return await oidc.leave(request)


@router.post("/logout")
def leave(request: Request) -> Response:
    sessions.end(request.cookies.get(sessions.COOKIE, ""))
    login.noted("logout", request.state.person, throttle.source_ip(request), "ok")
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(sessions.COOKIE, path="/")
    return answer
