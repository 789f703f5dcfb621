"""``/account``: a person's own password and second factor. ``/accounts``: the administrators' (system proposes,
security activates, locks and resets)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lake import access
from lake.access_policy import policy
from lake.errors import MedlakeError
from portal import account_store, login, pages, second_factor, sessions, throttle
from portal.routers.login import set_session

router = APIRouter(include_in_schema=False)


def _word(request: Request) -> str:
    return request.cookies.get(sessions.COOKIE, "")


@router.get("/account")
def mine(request: Request) -> Response:
    row = account_store.get(request.state.person.user)
    return pages.page(request, "account/account.html", account=row, done="")


@router.get("/account/password")
def password_form(request: Request) -> Response:
    return pages.page(request, "account/password.html", problem="")


@router.post("/account/password")
def password(
    request: Request,
    old: Annotated[str, Form(max_length=200)] = "",
    new: Annotated[str, Form(max_length=200)] = "",
    again: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    person = request.state.person
    try:
        if new != again:
            raise MedlakeError("E690", detail="两次输入的新口令不一致 / the two differ")
        account_store.change_password(person.user, old, new)
    except MedlakeError as error:
        return pages.page(request, "account/password.html", status=400, problem=error.zh)
    word = sessions.begin(person, "full", throttle.source_ip(request), instead_of=_word(request))
    return set_session(request, RedirectResponse("/account", 303), word)


@router.get("/account/factor")
def factor_form(request: Request) -> Response:
    return pages.page(request, "account/factor.html", problem="")


@router.post("/account/factor")
def factor(request: Request, code: Annotated[str, Form(max_length=20)] = "") -> Response:
    person, source = request.state.person, throttle.source_ip(request)
    if request.app.state.logins.wait(source) or not account_store.take_code(person.user, code):
        login.noted("login.factor", person, source, "refused")
        problem = "验证码不正确、已用过，或账号已锁定。"
        return pages.page(request, "account/factor.html", status=401, problem=problem)
    word = login.after_factor(person, _word(request), source)
    return set_session(request, RedirectResponse("/", 303), word)


def _enrolment(request: Request, problem: str = "", status: int = 200) -> Response:
    person = request.state.person
    secret, sealed = login.sealed_secret(request.state.session_key)
    # the drawing is made here from a secret of ours, nothing in it was given by anybody else
    drawing = Markup(second_factor.qr_svg(person.user, secret))
    return pages.page(
        request,
        "account/enrol.html",
        status=status,
        problem=problem,
        drawing=drawing,
        secret=secret,
        sealed=sealed,
    )


@router.get("/account/enrol")
def enrol_form(request: Request) -> Response:
    row = account_store.get(request.state.person.user)
    if row is None or row.totp:  # a new one is put on after a reset by the security administrator
        return RedirectResponse("/account", 303)
    return _enrolment(request)


@router.post("/account/enrol")
def enrol(
    request: Request,
    code: Annotated[str, Form(max_length=20)] = "",
    sealed: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    person = request.state.person
    row = account_store.get(person.user)
    if row is None or row.totp:
        return RedirectResponse("/account", 303)
    secret = login.opened_secret(request.state.session_key, sealed)
    codes = account_store.enrol(person.user, secret, code) if secret else None
    if codes is None:
        return _enrolment(request, "验证码不正确，请重新扫描并输入新的 6 位数字。", 400)
    word = login.after_factor(person, _word(request), throttle.source_ip(request))
    return set_session(request, pages.page(request, "account/recovery.html", codes=codes), word)


def _people(request: Request, *, problem: str = "", made: str = "", status: int = 200) -> Response:
    role = request.state.person.role
    duties = {d for r in policy().roles.values() for d in r.duties if access.may(role, d)}
    return pages.page(
        request,
        "account/people.html",
        status=status,
        people=account_store.listed(),
        duties=duties,
        roles=policy().roles,
        problem=problem,
        made=made,
    )


@router.get("/accounts")
def people(request: Request) -> Response:
    return _people(request)


#: What a button does: duty -> how.
_ACTIONS = {"activate": "account.activate", "lock": "account.lock", "reset": "account.reset"}


@router.post("/accounts")
def propose(
    request: Request,
    user: Annotated[str, Form(max_length=64)] = "",
    name: Annotated[str, Form(max_length=100)] = "",
    role: Annotated[str, Form(max_length=32)] = "",
    org_code: Annotated[str, Form(max_length=32)] = "",
) -> Response:
    person = request.state.person
    try:
        if not access.may(person.role, "account.propose"):
            raise MedlakeError("E692", duty="account.propose")
        made = account_store.create(user, name, role, org_code, by=person.user, state="waiting")
    except MedlakeError as error:
        return _people(request, problem=error.zh, status=403 if error.code == "E692" else 400)
    return _people(request, made=f"{user} 的首次口令：{made}（只显示这一次，待安全管理员激活）")


@router.post("/accounts/{user}/{action}")
def act(request: Request, user: str, action: str) -> Response:
    person = request.state.person
    try:
        duty = _ACTIONS.get(action, "none")
        if not access.may(person.role, duty):
            raise MedlakeError("E692", duty=duty)
        made = ""
        if action == "activate":
            account_store.activate(user, by=person.user)
        elif action == "lock":
            account_store.lock(user, by=person.user)
        else:
            made = f"{user} 的新口令：{account_store.reset(user, by=person.user)}（只显示这一次）"
    except MedlakeError as error:
        return _people(request, problem=error.zh, status=403 if error.code == "E692" else 400)
    return _people(request, made=made or f"{user}：已完成")
