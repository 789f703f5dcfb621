"""``/identity``: pairs to decide with their waterfall, undo, and one resident by any number."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lake.errors import MedlakeError
from portal import identity, pages
from portal.routers.fhir import registry_of
from worklist.machine import kind

router = APIRouter(include_in_schema=False)
_STATES = ("candidate", "assigned", "second_review", "applied", "not_same", "unsure", "unmerged")


@router.get("/identity")
def queue(request: Request, org: str = "", state: str = "", done: str = "") -> Response:
    """The pairs that wait, most valuable first."""
    known = {s: kind(identity.pairs.KIND).states[s].zh for s in _STATES}
    chosen = state if state in known else ""
    rows = identity.queue(request.state.person, org=org[:16], state=chosen)
    return pages.page(
        request, "identity/queue.html", rows=rows, states=known, chosen={"org": org[:16], "state": chosen}, done=done[:40]
    )  # fmt: skip


@router.get("/identity/person")
def resident(request: Request, code: str = "") -> Response:
    """One code to the resident."""
    return _resident(request, code)


def _resident(request: Request, code: str, problem: MedlakeError | None = None) -> Response:
    found, wanted = None, code.strip()[:64]
    if wanted:
        try:
            found = identity.resident(
                registry_of(request.app),
                request.state.person,
                wanted,
                request.client.host if request.client else "",
            )
        except MedlakeError as error:
            if error.code != "E337":
                raise
            problem = error
    return pages.page(
        request,
        "identity/person.html",
        status=409 if problem else 200,
        code=wanted,
        found=found,
        problem=problem,
    )


@router.post("/identity/unmerge")
def unmerge(
    request: Request, merge_id: Annotated[str, Form(max_length=64)], code: Annotated[str, Form(max_length=64)],
    reason: Annotated[str, Form(max_length=500)],
) -> Response:  # fmt: skip
    try:
        identity.unmerge(request.state.person, merge_id, reason)
    except MedlakeError as error:
        if error.code not in ("E322", "E323", "E905"):
            raise
        return _resident(request, code, error)
    return RedirectResponse(f"/identity/person?code={code}", 303)


def _page(request: Request, item_id: str, problem: MedlakeError | None = None) -> Response:
    person = request.state.person
    try:
        item = identity.find(person, item_id)
    except MedlakeError as error:
        if error.code != "E903":
            raise
        return pages.problem(request, 404)
    rows = identity.queue(person)
    ids = [r.item.item_id for r in rows]
    at = ids.index(item.item_id) if item.item_id in ids else -1
    found = identity.pair(person, item)
    return pages.page(
        request, "identity/pair.html", status=409 if problem else 200, item=item, problem=problem, found=found,
        bars=identity.waterfall(found) if found else [], beside=identity.beside(found) if found else None,
        spelled=identity.spelled, choices=identity.choices(person, item),
        state_zh=kind(item.kind).states[item.state].zh, reasons=identity.REASONS, key=secrets.token_hex(12),
        place=at + 1, of=len(ids), before=ids[at - 1] if at > 0 else "", after=ids[at + 1] if 0 <= at < len(ids) - 1 else "",
    )  # fmt: skip


@router.get("/identity/{item_id}")
def pair(request: Request, item_id: str) -> Response:
    return _page(request, item_id)


@router.post("/identity/{item_id}/{action}")
def decide(
    request: Request, item_id: str, action: str, key: Annotated[str, Form(max_length=64)],
    version: Annotated[int, Form()], reason: Annotated[str, Form(max_length=500)] = "",
    after: Annotated[str, Form(max_length=64)] = "",
) -> Response:  # fmt: skip
    try:
        identity.decide(request.state.person, item_id, action, reason, key, version)
    except MedlakeError as error:
        if not error.code.startswith("E9"):
            raise
        return pages.problem(request, 404) if error.code == "E903" else _page(request, item_id, error)
    if after and action in ("propose_merge", "not_same", "unsure", "apply_merge"):
        return RedirectResponse(f"/identity/{after}?done={item_id}", 303)
    return RedirectResponse(f"/identity?done={item_id}", 303)
