"""``/exports``: one press for what is approved, templates of ticked boxes, history, resumable download."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Form
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lake import access, access_scope, audit, contracts, registry
from lake.errors import MedlakeError
from lake.log import logger
from portal import pages
from products.exports import jobs, schedules, sealed, store

router = APIRouter(include_in_schema=False)
_log = logger("portal")

#: Roles that export for their own work; a steward approves templates as well.
_MEDIA = {
    "pdf": "application/pdf",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}

#: Tables whose fields may be ticked: of public health, with the archive that leads to the resident.
_FEED = "public_health"


def caller(request: Request, purpose: str) -> access.Caller:
    """The person at the door as the policy knows them."""
    person = request.state.person
    return access.Caller(person.user, person.role, person.org_code, purpose)


def institutions(person: Any) -> list[dict[str, str]]:
    """The person's institution and those below it, for a choice."""
    seen = access_scope.below(person.org_code)
    return [
        r for r in registry.orgs().select(["org_code", "org_short_name"]).to_pylist() if r["org_code"] in seen
    ]


def day_of(text: str) -> date | None:
    """A date from a form; None when it is left empty.

    Raises:
        MedlakeError: E634, it is no date.
    """
    if not text.strip():
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise MedlakeError("E634", detail=text[:20]) from None


def _page(request: Request, problem: MedlakeError | None = None) -> Response:
    person = request.state.person
    mine = jobs.jobs(person.user, 30)
    known = store.templates()
    waiting = [t for t in known if t["state"] == "proposed"] if person.role in store.APPROVERS else []
    return pages.page(
        request, "exports/exports.html", status=400 if problem else 200, problem=problem,
        ready=[t for t in known if t["state"] == "approved"], waiting=waiting, jobs=mine,
        is_busy=any(j["state"] in jobs.STAGES for j in mine), stages=jobs.STAGES, orgs=institutions(person),
        repeated=schedules.listed(person.user), titles={t["template"]: t["title_zh"] for t in known},
        tables=sorted(contracts.contracts()[_FEED].tables.values(), key=lambda t: t.label_zh),
    )  # fmt: skip


@router.get("/exports")
def overview(request: Request) -> Response:
    return _page(request)


def _work(job_id: str, template: str, asked: access.Caller, given: dict[str, Any]) -> None:
    try:
        jobs.run(template, asked, job_id=job_id, **given)
    except MedlakeError as error:  # the job's row says so on the page
        _log.warning("export_failed", code=error.code, template=template)


@router.post("/exports/run")
def run(
    request: Request, background: BackgroundTasks, template: Annotated[str, Form(max_length=64)],
    first: Annotated[str, Form(max_length=10)] = "", last: Annotated[str, Form(max_length=10)] = "",
    org: Annotated[str, Form(max_length=32)] = "", format: Annotated[str, Form(max_length=8)] = "xlsx",
    password: Annotated[str, Form(max_length=200)] = "",
) -> Response:  # fmt: skip
    try:
        made, _ = store.template(template)
        if made.recipient:
            sealed.check_password(password)
        asked = caller(request, made.purpose)
        given: dict[str, Any] = {
            "first": day_of(first),
            "last": day_of(last),
            "org": org or asked.org_code,
            "format": format,
        }
        job_id = jobs.ask(template, asked, **given)
    except MedlakeError as error:
        return _page(request, error)
    background.add_task(_work, job_id, template, asked, given | {"password": password})
    return RedirectResponse("/exports#history", 303, background=background)


@router.post("/exports/schedule")
def repeat(
    request: Request, template: Annotated[str, Form(max_length=64)], day_of_month: Annotated[int, Form()],
    org: Annotated[str, Form(max_length=32)] = "", format: Annotated[str, Form(max_length=8)] = "xlsx",
) -> Response:  # fmt: skip
    """Last month's rows each month on a day, into the institution's drop folder."""
    try:
        made, _ = store.template(template)
        schedules.add(
            template, caller(request, made.purpose), day_of_month=day_of_month, org=org or None, format=format
        )
    except MedlakeError as error:
        return _page(request, error)
    return RedirectResponse("/exports#repeat", 303)


@router.post("/exports/schedule/stop")
def stop_repeating(request: Request, schedule: Annotated[str, Form(max_length=32)]) -> Response:
    try:
        schedules.stop(schedule, request.state.person.user)
    except MedlakeError as error:
        return _page(request, error)
    return RedirectResponse("/exports#repeat", 303)


@router.get("/exports/files/{job_id}")
def download(request: Request, job_id: str) -> Response:
    """The file of one's own export; a broken download goes on where it stopped (HTTP Range)."""
    try:
        row = jobs.job(job_id, request.state.person.user)
    except MedlakeError:
        return pages.problem(request, 404)
    path = (jobs.folder() / (row["file"] or "-")).resolve()
    if row["state"] != "done" or not path.is_relative_to(jobs.folder().resolve()) or not path.is_file():
        return pages.problem(request, 404)
    audit.record("export_download", actor=row["actor"], purpose=row["purpose"], tables=[], fields=[],
                 rows=row["rows_written"], result="ok", job=job_id, sm3=row["sm3"])  # fmt: skip
    end = f".{row['format']}" + (
        ".sm4" if path.suffix == ".sm4" else ""
    )  # .xlsx, .csv, and .sm4 behind it where the file leaves the group
    media = "application/octet-stream" if end.endswith(".sm4") else _MEDIA[row["format"]]
    return FileResponse(path, media_type=media, filename=f"{row['title_zh']}_{job_id}{end}")


@router.get("/exports/opener")
def opener(request: Request) -> Response:
    """The page that a recipient keeps on the own PC; handed out as a file, never run here."""
    return FileResponse(
        sealed.OPENER, media_type="application/octet-stream", filename="医湖加密文件打开工具.html"
    )


@router.get("/exports/new")
def tick(request: Request, table: str = "htn_card") -> Response:
    """Tick boxes over the field dictionary."""
    known = contracts.contracts()[_FEED].tables
    if table not in known:
        return pages.problem(request, 404)
    fields = known[table].fields
    return pages.page(
        request, "exports/new.html", table=known[table], fields=fields, problem=None,
        has_person=any(f.name == "archive_id" for f in fields), days=[f for f in fields if f.type in ("date", "timestamp")],
    )  # fmt: skip


@router.post("/exports/new")
def propose(
    request: Request, table: Annotated[str, Form(max_length=64)], name: Annotated[str, Form(max_length=64)],
    title_zh: Annotated[str, Form(max_length=60)], columns: Annotated[list[str] | None, Form()] = None,
    period: Annotated[str, Form(max_length=64)] = "", recipient: Annotated[str, Form(max_length=100)] = "",
) -> Response:  # fmt: skip
    person = request.state.person
    node: dict[str, Any] = {
        "template": name, "title_zh": title_zh, "table": table, "columns": (columns or [])[:200],
        "purpose": "public_health", "recipient": recipient,
    }  # fmt: skip
    known = contracts.contracts()[_FEED].tables.get(table)
    if known and any(f.name == "archive_id" for f in known.fields):
        node |= {"source": "public_health", "record": "archive_id"}
    node |= {"period": period} if period else {}
    try:
        store.propose(node, actor=person.user, org_code=person.org_code)
    except MedlakeError as error:
        return _page(request, error)
    return RedirectResponse("/exports", 303)


@router.post("/exports/decide")
def decide(
    request: Request, template: Annotated[str, Form(max_length=64)], version: Annotated[int, Form()],
    agree: Annotated[str, Form(max_length=3)], reason: Annotated[str, Form(max_length=200)] = "",
) -> Response:  # fmt: skip
    person = request.state.person
    try:
        store.decide(
            template, version, actor=person.user, role=person.role, agree=agree == "yes", reason=reason
        )
    except MedlakeError as error:
        return _page(request, error)
    return RedirectResponse("/exports", 303)
