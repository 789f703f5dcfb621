"""One press: an approved template to a file, all of it or none, one line in the audit log with the file's SM3."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from lake import access, audit, duck, ops, registry
from lake.crypto import sm3_file
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.product_tables import export_job as table
from lake.settings import settings
from products.exports import files, gather, sealed, store, summary
from products.exports.query import Compiled, compile_template

_log = logger("products")
FORMATS = ("xlsx", "csv", "pdf")
#: States of a job under way, in order, as a page shows them.
STAGES = {"queued": "排队", "counting": "统计行数", "filling": "取数", "writing": "写文件", "sealing": "加密"}


def folder() -> Path:
    """Where files of exports lie: below home, for the service account alone."""
    made = settings().home / "exports"
    made.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


def below(caller: access.Caller, org_code: str | None) -> list[str] | None:
    """The institutions of a run: the one asked for with all below it; None for all of a group-wide role.

    Raises:
        MedlakeError: E616, it is not in the caller's jurisdiction.
    """
    from lake import access_scope

    if org_code is None:
        return None
    visible, wanted = access.scope(caller), access_scope.below(org_code)
    if not wanted or (visible is not None and org_code not in visible):
        raise MedlakeError("E616", place=org_code, org_code=org_code)
    return sorted(wanted)


def ask(
    template: str, caller: access.Caller, *, first: date | None = None, last: date | None = None,
    org: str | None = None, format: str = "xlsx", recipient: str = "",
) -> str:  # fmt: skip
    """Write down that an export is wanted; returns its job id. :func:`run` does it.

    Raises:
        MedlakeError: E612, E615 the template; E616 the institution; E628 the format; E681-E684 the policy.
    """
    if format not in FORMATS:
        raise MedlakeError("E628", format=format)
    made, digest = store.template(template)
    compile_template(
        made, caller, first=first, last=last, orgs=below(caller, org)
    )  # refuse now, not in the queue
    job_id = f"X{uuid.uuid4().hex[:15]}"
    row = {"job_id": job_id, "template": template, "title_zh": made.title_zh, "template_sm3": digest,
           "state": "queued", "actor": caller.user, "role": caller.role, "org_code": org or caller.org_code,
           "purpose": caller.purpose, "recipient": recipient or made.recipient, "first_day": first, "last_day": last,
           "format": format, "asked_at": datetime.now(UTC)}  # fmt: skip
    with ops.engine().begin() as con:
        con.execute(insert(table).values(row))
    return job_id


def _facts(
    made: Any,
    job_id: str,
    caller: access.Caller,
    compiled: Compiled,
    span: str,
    org: str,
    at: str,
    planned: int,
    unknown: int,
) -> Any:
    def lines(written: int, sheets: int) -> list[tuple[str, str]]:
        return [
            ("导出模板", f"{made.title_zh}（{made.template}）"),
            ("任务编号", job_id),
            ("导出人", f"{caller.user}（{caller.role}）"),
            ("导出时间", at),
            ("用途", access_purpose(caller.purpose)),
            ("机构范围", org),
            ("时间范围", span),
            ("来源", "、".join(compiled.reads) + ("" if compiled.is_there else "（该来源尚无数据）")),
            ("计划行数", str(planned)),
            ("实际行数", str(written)),
            ("核对", "计划行数 = 实际行数" if planned == written else "计划行数 ≠ 实际行数"),
            ("数据工作表", str(sheets)),
            ("筛选字段未填的记录", f"{unknown}（未包含在内）"),
            ("按权限未含的列", "、".join(compiled.hidden) or "无"),
        ]

    return lines


def access_purpose(code: str) -> str:
    from lake.access_policy import policy

    return policy().purposes.get(code, code)


def _org_zh(org: str | None) -> str:
    if org is None:
        return "全部可见机构"
    names = dict(zip(*(registry.orgs()[c].to_pylist() for c in ("org_code", "org_name")), strict=True))
    return f"{names.get(org, org)}（{org}）及其下级机构"


def run(
    template: str, caller: access.Caller, *, first: date | None = None, last: date | None = None,
    org: str | None = None, format: str = "xlsx", out: Path | None = None, recipient: str = "", job_id: str = "",
    password: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Run an export to its end.

    Returns:
        ``job, template, title_zh, file, rows_planned, rows_written, sheets, columns, masked, hidden, bytes, sha``
        (SM3), ``seconds``.

    Raises:
        MedlakeError: as :func:`ask`; E617 rows differ; E636 it has a recipient outside and no long
            password. No file is left then, and the audit log has the refusal.
    """
    started = time.monotonic()
    made, _ = store.template(template)
    if leaves := bool(recipient or made.recipient):
        sealed.check_password(password)
    job_id = job_id or ask(
        template, caller, first=first, last=last, org=org, format=format, recipient=recipient
    )
    compiled = compile_template(made, caller, first=first, last=last, orgs=below(caller, org))
    now = datetime.now(UTC)
    at = now.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
    span = f"{first or '…'} 至 {last or '…'}" if made.period else "不限"
    entry: dict[str, Any] = {
        "actor": caller.user, "purpose": caller.purpose, "tables": compiled.reads,
        "fields": [h.field for h in compiled.headers], "actor_role": caller.role, "org_code": org or caller.org_code,
        "template": template, "job": job_id, "first": first, "last": last, "recipient": recipient or made.recipient,
    }  # fmt: skip
    work = folder() / ".work" / job_id
    work.mkdir(parents=True, mode=0o700)
    _set(job_id, state="counting")
    con = duck.connect(memory=gather.MEMORY[0], threads=1)  # rows lie on disk
    try:
        planned, unknown, persons = gather.gather(
            con, compiled, work / "rows.duckdb", lambda rows: _set(job_id, rows_planned=rows, state="filling")
        )
        _set(job_id, state="writing")
        facts = _facts(made, job_id, caller, compiled, span, _org_zh(org), at, planned, unknown)
        mark = f"{caller.user} {at} {job_id}"
        draft = work / f"draft.{format}"
        if format == "xlsx":
            written, sheets = files.write_xlsx(
                con, draft, compiled.headers, made.title_zh, mark, facts, rows=planned
            )
        elif format == "pdf":
            written, sheets = summary.write_pdf(
                con, draft, compiled.headers, made.title_zh, mark, facts, period=made.period
            )
        else:
            written, sheets = files.write_csv(con, draft, compiled.headers, mark, facts)
        if written != planned:
            raise MedlakeError("E617", place=template, planned=planned, written=written)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        if leaves:  # what leaves the group is encrypted, and nothing else
            _set(job_id, state="sealing")
            closed = draft.with_name(f"draft.{format}.sm4")
            sealed.seal(draft, closed, password)
            draft.unlink()
            draft = closed
        draft.chmod(0o600)
        digest, size = sm3_file(draft), draft.stat().st_size
        target = (
            Path(out)
            if out
            else folder() / f"{template}_{now.astimezone(SHANGHAI):%Y%m%d}_{job_id}{draft.name[5:]}"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        # first the entry, then the file: nothing leaves without its line in the log
        audit.record("export", **entry, rows=written, result="ok", sm3=digest, persons=persons)
        _place(draft, target)
        _set(job_id, state="done", rows_written=written, file=str(target) if out else target.name, bytes=size,
             sm3=digest, finished_at=datetime.now(UTC))  # fmt: skip
    except MedlakeError as error:
        audit.record("export", **entry, rows=0, result=error.code)
        _set(job_id, state="failed", error=error.code, finished_at=datetime.now(UTC))
        raise
    except Exception:
        _set(job_id, state="failed", error="", finished_at=datetime.now(UTC))  # the log has the reason
        raise
    finally:
        con.close()
        shutil.rmtree(work, ignore_errors=True)
    seconds = round(time.monotonic() - started, 3)
    _log.info("exported", template=template, planned=planned, written=written, sheets=sheets,
              columns=len(compiled.headers), seconds=seconds)  # fmt: skip
    return {
        "job": job_id, "template": template, "title_zh": made.title_zh, "file": str(target), "rows_planned": planned,
        "rows_written": written, "sheets": sheets, "columns": [h.label_zh for h in compiled.headers],
        "masked": [h.label_zh for h in compiled.headers if h.act == "mask"], "hidden": compiled.hidden,
        "has_source": compiled.is_there, "bytes": size, "sha": digest, "seconds": seconds,
    }  # fmt: skip


def _set(job_id: str, **values: Any) -> None:
    with ops.engine().begin() as con:
        con.execute(update(table).where(table.c.job_id == job_id).values(**values))


def _place(draft: Path, target: Path) -> None:
    """Give the draft its name in one step, also on another file system."""
    near = target.with_name(f".{target.name}.part")
    with contextlib.suppress(OSError):
        draft.replace(target)
        return
    shutil.copyfile(draft, near)
    near.chmod(0o600)
    near.replace(target)


def jobs(actor: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """Exports, newest first; ``actor`` keeps one person's."""
    query = select(table).order_by(table.c.asked_at.desc()).limit(limit)
    if actor is not None:
        query = query.where(table.c.actor == actor)
    with ops.reader().connect() as con:
        return [dict(row._mapping) for row in con.execute(query)]


def job(job_id: str, actor: str) -> dict[str, Any]:
    """One export of a person.

    Raises:
        MedlakeError: E619, there is none, or it is another's.
    """
    with ops.reader().connect() as con:
        row = con.execute(select(table).where(table.c.job_id == job_id, table.c.actor == actor)).one_or_none()
    if row is None:
        raise MedlakeError("E619", place=job_id, job=job_id)
    return dict(row._mapping)
