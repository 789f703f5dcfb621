"""``/rules``: the rules, one rule with its history, a form that tries a change before it is proposed, two persons."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lake.errors import MedlakeError
from portal import pages, rule_editor, rule_list, ticket_board
from portal.throttle import source_ip
from quality import authoring
from quality.rule import rulebook

router = APIRouter(include_in_schema=False)

#: What is told on the page itself instead of an error page: number -> status.
_TOLD = {
    "E401": 422,
    "E402": 422,
    "E403": 422,
    "E447": 422,
    "E665": 422,
    "E666": 422,
    "E423": 409,
    "E448": 409,
}
_FILTERS = ("q", "domain", "category", "severity", "state")
_NAMES: dict[str, Any] = {"severities": rule_list.SEVERITIES, "states": rule_list.STATES, "kinds": rule_list.KINDS,
          "effects": rule_list.EFFECTS}  # fmt: skip


def _problem(error: MedlakeError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"zh": error.zh, "remedy": error.remedy_zh, "code": error.code, "place": error.place or ""}


@router.get("/rules", response_class=HTMLResponse)
def listed(request: Request) -> HTMLResponse:
    chosen = {n: request.query_params.get(n, "")[:60] for n in _FILTERS}
    waiting = authoring.proposals("open")
    return pages.page(
        request,
        "rules/list.html",
        chosen=chosen,
        waiting=waiting,
        may_edit=rule_editor.may_edit(request.state.person),
        **rule_list.listed(chosen),
        **_NAMES,
    )


def _rule(request: Request, rule_id: str, refused: MedlakeError | None = None) -> Response:
    found = rule_list.one(request.state.person, rule_id)
    if found is None:
        return pages.problem(request, 404)
    return pages.page(
        request,
        "rules/rule.html",
        status=_TOLD[refused.code] if refused else 200,
        problem=_problem(refused),
        may_edit=rule_editor.may_edit(request.state.person),
        **found,
        **_NAMES,
    )


def _tried(found: dict[str, Any] | None) -> dict[str, Any]:
    """A dry run with what its tables are called by."""
    tables = {row["table"] for rows in found["samples"].values() for row in rows} if found else set()
    labels = {f: zh for table in sorted(tables) for f, zh in rule_list.labels(table).items()}
    return {"tried": found, "labels": labels, "org_names": ticket_board.org_names()}


def _form(
    request: Request,
    rule_id: str,
    form: dict[str, str],
    *,
    tried: dict[str, Any] | None = None,
    refused: MedlakeError | None = None,
) -> Response:
    rule = next((r for r in rulebook().rules if r.id == rule_id), None)
    now = rule_editor.present(rule) if rule else {"note": ""}
    return pages.page(
        request,
        "rules/edit.html",
        status=_TOLD[refused.code] if refused else 200,
        rule=rule,
        rule_id=rule_id,
        now=now,
        form=now | {"action": "change" if rule else "new", "yaml": ""} | form,
        params=rule_editor.own_params(rule) if rule else {},
        has_condition=rule is not None and rule_editor.has_condition(rule),
        problem=_problem(refused),
        file_kb=rule_editor.FILE_KB,
        **_tried(tried),
        **_NAMES,
    )


@router.get("/rules/new", response_class=HTMLResponse)
def new(request: Request) -> Response:
    if not rule_editor.may_edit(request.state.person):
        return pages.problem(request, 403)
    return _form(request, "", {})


@router.get("/rules/proposals/{proposal_id}", response_class=HTMLResponse)
def proposal(request: Request, proposal_id: str) -> Response:
    """What a proposal changes and what it would do now, for the second person."""
    if not rule_editor.may_edit(request.state.person):
        return pages.problem(request, 403)
    refused, tried = None, None
    try:
        waiting = authoring.get(proposal_id)
        if waiting.state == "open":
            made = rule_editor.again(waiting)
            tried = rule_editor.tried(request.state.person, made, source_ip(request))
    except MedlakeError as error:
        if error.code == "E449":
            return pages.problem(request, 404)
        if error.code not in _TOLD:
            raise
        refused = error
    return pages.page(
        request,
        "rules/proposal.html",
        status=_TOLD[refused.code] if refused else 200,
        waiting=waiting,
        differences=rule_editor.differences(waiting) if waiting.state == "open" else [],
        problem=_problem(refused),
        may_edit=True,
        **_tried(tried),
        **_NAMES,
    )


@router.get("/rules/{rule_id}", response_class=HTMLResponse)
def one(request: Request, rule_id: str) -> Response:
    return _rule(request, rule_id)


@router.get("/rules/{rule_id}/edit", response_class=HTMLResponse)
def edit(request: Request, rule_id: str) -> Response:
    if not rule_editor.may_edit(request.state.person):
        return pages.problem(request, 403)
    if rule_id not in {r.id for r in rulebook().rules}:
        return pages.problem(request, 404)
    return _form(request, rule_id, {})


async def _fields(request: Request) -> dict[str, str]:
    """The form's fields; an uploaded file takes the place of the text field ``yaml``.

    Raises:
        MedlakeError: E666, the file is too large or no UTF-8 text.
    """
    made: dict[str, str] = {}
    given = await request.form()
    for name, value in given.items():
        if isinstance(value, str):
            made.setdefault(name, value)
    upload = given.get("file")
    if isinstance(upload, UploadFile) and upload.filename:
        content = await upload.read(rule_editor.FILE_KB * 1024 + 1)
        try:
            if len(content) > rule_editor.FILE_KB * 1024:
                raise UnicodeError
            made["yaml"] = content.decode("utf-8-sig")
        except UnicodeError:
            raise MedlakeError("E666", limit=rule_editor.FILE_KB) from None
    return made


def _try(request: Request, rule_id: str, form: dict[str, str]) -> Response:
    made = rule_editor.draft(rule_id, form)
    found = rule_editor.tried(request.state.person, made, source_ip(request))
    return _form(request, rule_id, form, tried=found)


def _propose(request: Request, rule_id: str, form: dict[str, str]) -> Response:
    made = rule_editor.draft(rule_id, form)
    number = rule_editor.propose(request.state.person, made, form.get("note", "").strip())
    there = made.rule_id if made.action != "new" else ""
    return RedirectResponse(f"/rules/{there}#{number}" if there else "/rules", 303)


async def _asked(request: Request, rule_id: str) -> Response:
    if not rule_editor.may_edit(request.state.person):
        return pages.problem(request, 403)
    form: dict[str, str] = {}
    try:
        form = await _fields(request)
        work = _propose if form.get("do") == "propose" else _try
        return await run_in_threadpool(work, request, rule_id, form)
    except MedlakeError as error:
        if error.code == "E449":
            return pages.problem(request, 404)
        if error.code not in _TOLD:
            raise
        refused = error
    return await run_in_threadpool(lambda: _form(request, rule_id, form, refused=refused))


@router.post("/rules/new")
async def try_new(request: Request) -> Response:
    return await _asked(request, "")


@router.post("/rules/{rule_id}/edit")
async def try_change(request: Request, rule_id: str) -> Response:
    return await _asked(request, rule_id)


def _decide(request: Request, proposal_id: str, decision: str, note: str) -> Response:
    person = request.state.person
    try:
        waiting = authoring.get(proposal_id)
        rule_id = rule_editor.decide(person, proposal_id, agree=decision == "publish", note=note)
    except MedlakeError as error:
        if error.code == "E449":
            return pages.problem(request, 404)
        if error.code not in _TOLD:
            raise
        if waiting.action == "new":
            return _refused_list(request, error)
        return _rule(request, waiting.rule_id, error)
    is_there = waiting.action != "new" or decision == "publish"
    return RedirectResponse(f"/rules/{rule_id}" if is_there else "/rules", 303)


def _refused_list(request: Request, error: MedlakeError) -> Response:
    return pages.page(
        request,
        "rules/list.html",
        status=_TOLD[error.code],
        chosen=dict.fromkeys(_FILTERS, ""),
        waiting=authoring.proposals("open"),
        may_edit=rule_editor.may_edit(request.state.person),
        problem=_problem(error),
        **rule_list.listed({}),
        **_NAMES,
    )


@router.post("/rules/proposals/{proposal_id}/{decision}")
async def decide(request: Request, proposal_id: str, decision: str) -> Response:
    if not rule_editor.may_edit(request.state.person):
        return pages.problem(request, 403)
    if decision not in ("publish", "reject"):
        return pages.problem(request, 404)
    note = str((await request.form()).get("note", "")).strip()[:500]
    return await run_in_threadpool(_decide, request, proposal_id, decision, note)
