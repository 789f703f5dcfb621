"""One-click export: a template to a formatted XLSX, rows planned = rows written, one line in the audit log."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from lake import audit, registry, runs
from lake.crypto import sm3_file, sm3_hex
from lake.errors import MedlakeError
from lake.kill import point
from lake.log import logger
from lake.settings import settings
from products import reading
from products.export_query import Compiled, compile_template
from products.export_sheet import write_workbook
from products.export_template import Template, load

_log = logger("products")
_IDENTIFIERS_ZH = {"full": "完整（已按用途授权）", "masked": "已脱敏", "none": "不含"}


def _folder() -> Path:
    folder = settings().home / "exports"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _rows(con: duckdb.DuckDBPyConnection, compiled: Compiled) -> Iterator[tuple[Any, ...]]:
    cursor = con.execute(compiled.rows_sql, compiled.values)
    while block := cursor.fetchmany(2000):
        yield from block


def _scope_zh(org_scope: list[str] | None) -> str:
    if not org_scope:
        return "全市"
    table = registry.orgs()
    names = dict(zip(table["org_code"].to_pylist(), table["org_name"].to_pylist(), strict=True))
    return "、".join(f"{names[code]}（{code}）" for code in sorted(org_scope)) + "及其下级机构"


def _conditions_zh(template: Template) -> str:
    terms = [f"{field} ∈ {', '.join(map(str, allowed))}" for field, allowed in template.status.items()]
    if template.period is not None:
        start, end = template.period.start or "…", template.period.end or "…"
        terms.append(f"{template.period.field}: {start} 至 {end}")
    return "；".join(terms) or "无"


def _facts(
    template: Template,
    data_date: date,
    run_id: str,
    scope: list[str] | None,
    actor: str,
    purpose: str,
    planned: int,
) -> Any:
    def lines(written: int, sheets: int) -> list[tuple[str, str]]:
        return [
            ("导出模板", f"{template.title_zh}（{template.template}）"),
            ("数据产品", template.product),
            ("数据日期", data_date.isoformat()),
            ("运行编号", run_id),
            ("机构范围", _scope_zh(scope)),
            ("筛选条件", _conditions_zh(template)),
            ("个人标识", _IDENTIFIERS_ZH[template.identifiers]),
            ("操作者", actor),
            ("用途", purpose or "（未填写）"),
            ("计划行数", str(planned)),
            ("实际行数", str(written)),
            ("核对", "计划行数 = 实际行数" if planned == written else "计划行数 ≠ 实际行数"),
            ("数据工作表", str(sheets)),
        ]

    return lines


def _written(
    draft: Path, con: duckdb.DuckDBPyConnection, compiled: Compiled, title_zh: str, planned: int, facts: Any
) -> int:
    """Fill the draft; returns its data sheets.

    Raises:
        MedlakeError: E624, rows planned and written differ.
    """
    written, sheets = write_workbook(
        draft, compiled.headers, _rows(con, compiled), title_zh=title_zh, facts=facts
    )
    if written != planned:
        raise MedlakeError("E624", place=draft.name, planned=planned, written=written)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    return sheets


def export(
    template: str | Path,
    data_date: date | None = None,
    *,
    actor: str,
    purpose: str = "",
    org_scope: list[str] | None = None,
    identifiers: str | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Write the published rows of a template into an XLSX file (mode 0600), all of it or none.

    Args:
        template: name of a shipped template, or a YAML file.
        data_date: the published date that is wanted; None takes the one that is published.
        org_scope: institutions whose rows leave, with everything under them; None for the whole city.
        identifiers: ``full``, ``masked`` or ``none`` instead of the template's own.
        out: the file; by default ``home/exports/<template>_<date>_<request>.xlsx``.

    Returns:
        ``template, title_zh, product, data_date, run_id, file, rows_planned, rows_written, sheets, columns,
        identifiers, bytes, sm3, seconds``.

    Raises:
        MedlakeError: E608 nothing published; E620-E623 the template or what it needs; E624 rows differ; E625 unknown
            institution; E626 full identifiers without a purpose; E627 a text too long. No file is left then.
    """
    started = time.monotonic()
    wanted = load(template)
    if identifiers is not None:
        wanted = wanted.with_identifiers(identifiers)
    if wanted.identifiers == "full" and not purpose.strip():
        raise MedlakeError("E626", place=wanted.template)
    org_codes = reading.below(org_scope) if org_scope else None
    with reading.published() as con:
        data_day, run_id = reading.data_dates(con, [wanted.product], data_date)[wanted.product]
        compiled = compile_template(con, wanted, org_codes, _person_version(data_day, run_id))
        counted = con.execute(compiled.count_sql, compiled.values).fetchone()
        planned = int(counted[0]) if counted else 0
        facts = _facts(wanted, data_day, run_id, org_scope, actor, purpose, planned)
        request = sm3_hex(repr((wanted, org_scope, actor, purpose)).encode())[:8]
        target = Path(out) if out else _folder() / f"{wanted.template}_{data_day}_{request}.xlsx"
        entry: dict[str, Any] = {
            "actor": actor,
            "purpose": purpose,
            "tables": compiled.reads,
            "fields": [h.field for h in compiled.headers],
            "template": wanted.template,
            "identifiers": wanted.identifiers,
            "org_scope": org_scope or [],
            "data_date": data_day,
            "run_id": run_id,
            "file": target.name,
        }
        with FileLock(_folder() / ".export.lock"):
            work = _folder() / ".work"
            shutil.rmtree(work, ignore_errors=True)  # what a killed export left
            work.mkdir(mode=0o700)
            try:
                draft = work / "draft.xlsx"
                sheets = _written(draft, con, compiled, wanted.title_zh, planned, facts)
                draft.chmod(0o600)
                digest, size = sm3_file(draft), draft.stat().st_size
                point("export.written")
                # first the entry, then the file: nothing can leave without its line in the log
                audit.record("export", **entry, rows=planned, result="ok", sm3=digest)
                target.parent.mkdir(parents=True, exist_ok=True)
                _place(draft, target)
            except MedlakeError as error:
                audit.record("export", **entry, rows=0, result=error.code)
                raise
            finally:
                shutil.rmtree(work, ignore_errors=True)
    seconds = round(time.monotonic() - started, 3)
    _log.info("exported", template=wanted.template, data_date=data_day, run_id=run_id, planned=planned, written=planned,
              sheets=sheets, columns=len(compiled.headers), seconds=seconds)  # fmt: skip
    return {
        "template": wanted.template,
        "title_zh": wanted.title_zh,
        "product": wanted.product,
        "data_date": data_day.isoformat(),
        "run_id": run_id,
        "file": str(target),
        "rows_planned": planned,
        "rows_written": planned,
        "sheets": sheets,
        "columns": [h.label_zh for h in compiled.headers],
        "identifiers": wanted.identifiers,
        "bytes": size,
        "sm3": digest,
        "seconds": seconds,
    }


def _place(draft: Path, target: Path) -> None:
    """Give the draft its name in one step, also when the target lies on another file system."""
    if draft.stat().st_dev == target.parent.stat().st_dev:
        draft.replace(target)
        return
    near = target.with_name(f".{target.name}.part")
    shutil.copyfile(draft, near)
    near.chmod(0o600)
    near.replace(target)


def _person_version(data_day: date, run_id: str) -> int | None:
    """silver/person as the published run saw it; the newest if that run is no longer on record."""
    try:
        run = runs.get_run(data_day)
    except MedlakeError:
        return None
    return run.versions.get("silver/person") if run.run_id == run_id else None
