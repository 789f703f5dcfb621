"""``/corrections``: workbooks out and in, what waits for its source, files for the sources."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, File, Form, Path, Query, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lake.errors import MedlakeError
from lake.log import logger
from portal import corrections, hand_ins, pages, write_backs
from portal.accounts import Person
from products.reports.workbook import MAX_BYTES

router = APIRouter(include_in_schema=False)
_log = logger("portal")
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
#: Institutions on a page; a steward of the group finds the others by name.
_SHOWN = 40
#: What the policy refuses is 403, what the person can mend is 400.
_CLOSED = frozenset({"E673", "E675", "E681", "E683"})


def _status(problem: MedlakeError | None) -> int:
    return 200 if problem is None else 403 if problem.code in _CLOSED else 400


def _page(request: Request, org: str = "", problem: MedlakeError | None = None) -> Response:
    person = request.state.person
    found = corrections.overview(person, org)
    rows = found["rows"] if found else []
    return pages.page(
        request, "corrections/overview.html", status=_status(problem), problem=problem, found=found, org=org,
        rows=rows[:_SHOWN], more=max(0, len(rows) - _SHOWN), handed=hand_ins.listed(person) if found else [],
        is_making=any(r["book"]["state"] == "making" for r in rows[:_SHOWN]),
        waiting_days=max((r["days"] for r in rows if r["days"] is not None), default=None),
    )  # fmt: skip


@router.get("/corrections")
def overview(request: Request, org: Annotated[str, Query(max_length=40)] = "") -> Response:
    return _page(request, org.strip())


def _make(person: Person, org: str) -> None:
    try:
        corrections.make(person, org)
    except MedlakeError as error:
        _log.warning("correction_book_failed", code=error.code, org_code=org)


@router.post("/corrections/book")
def make(request: Request, background: BackgroundTasks, org: Annotated[str, Form(max_length=32)]) -> Response:
    person = request.state.person
    if not corrections.is_in_reach(person, org):
        return pages.problem(request, 404)
    corrections.ask(person, org)
    background.add_task(_make, person, org)
    return RedirectResponse("/corrections", 303, background=background)


@router.get("/corrections/book/{org}")
def download(request: Request, org: str) -> Response:
    path = corrections.ready(request.state.person, org)
    if path is None:
        return pages.problem(request, 404)
    return FileResponse(
        path, media_type=_XLSX, filename=f"数据更正_{path.stem.removeprefix('correction_')}.xlsx"
    )


@router.post("/corrections/hand-in")
def hand_in(request: Request, background: BackgroundTasks, book: Annotated[UploadFile, File()]) -> Response:
    content = book.file.read(MAX_BYTES + 1)
    try:
        org, number = hand_ins.take(request.state.person, content)
    except MedlakeError as error:
        return _page(request, problem=error)
    background.add_task(hand_ins.bring_in, org)
    return RedirectResponse(f"/corrections/hand-ins/{number}", 303, background=background)


@router.get("/corrections/hand-ins/{number}")
def outcome(request: Request, number: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    found = hand_ins.outcome(request.state.person, number)
    if found is None:
        return pages.problem(request, 404)
    return pages.page(
        request,
        "corrections/outcome.html",
        found=found,
        number=number,
        states=corrections.STATES,
        shown=hand_ins.SHOWN,
    )


@router.get("/corrections/waiting")
def waiting(
    request: Request, state: str = "waiting_for_source", org: Annotated[str, Query(max_length=32)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:  # fmt: skip
    wanted = state if state in corrections.STATES else "waiting_for_source"
    return pages.page(
        request, "corrections/waiting.html", state=wanted, org=org, states=corrections.STATES,
        found=corrections.overlays(request.state.person, wanted, org, page),
    )  # fmt: skip


@router.get("/corrections/one/{number}")
def one(request: Request, number: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Response:
    try:
        found = corrections.one(request.state.person, number)
    except MedlakeError as error:
        if error.code != "E439":
            raise
        return pages.problem(request, 404)
    return pages.page(request, "corrections/one.html", found=found, states=corrections.STATES)


def _files(
    request: Request, problem: MedlakeError | None = None, wrote: dict[str, object] | None = None
) -> Response:
    return pages.page(
        request, "corrections/files.html", status=_status(problem), problem=problem, wrote=wrote,
        files=write_backs.files(request.state.person),
    )  # fmt: skip


@router.get("/corrections/files")
def files(request: Request) -> Response:
    return _files(request)


@router.post("/corrections/files")
def write(request: Request) -> Response:
    try:
        return _files(request, wrote=write_backs.write_back(request.state.person))
    except MedlakeError as error:
        return _files(request, error)


@router.get("/corrections/files/{name:path}")
def file(request: Request, name: str) -> Response:
    try:
        path = write_backs.file_of(request.state.person, name)
    except MedlakeError as error:
        return _files(request, error)
    if path is None:
        return pages.problem(request, 404)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)
