"""Mended workbooks that come back through the portal: looked at, put into the drop folder, ingested, told row by row.

A workbook is durable before anything is done with it: it lies in ``sources/<day>/correction/<org>/`` like any delivery,
so a portal that is killed loses nothing, and the daily run takes it. Its number is the SHA-256 of its bytes.
"""

from __future__ import annotations

import os
from datetime import date
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

import ingestion
from lake import access, audit, duck, ledger, ops, tables
from lake import correction_book as layout
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from portal.accounts import Person
from portal.corrections import PURPOSE, caller, delivery_day, is_in_reach, labels, names, reach, shown_sql
from products.reports import workbook

_log = logger("portal")
FEED = "correction"
#: Rows of an outcome that a page shows of each kind.
SHOWN = 500
#: The record changed since the workbook was handed out, or was never there: not the person's mistake.
CONFLICTS = frozenset({"E434", "E438"})


def _institutions(content: bytes) -> set[str]:
    """Whose records a workbook says to hold, from its hidden columns; the loop is over one workbook's rows."""
    from python_calamine import CalamineError, CalamineWorkbook

    found: set[str] = set()
    try:
        with CalamineWorkbook.from_filelike(BytesIO(content)) as opened:
            for sheet in opened.sheet_names:
                rows = iter(opened.get_sheet_by_name(sheet).iter_rows())
                head = [str(c) for c in next(rows, [])]
                if not set(head) >= set(layout.HIDDEN):
                    continue
                next(rows, None)  # labels
                at = head.index(layout.ORG)
                found |= {str(row[at]).strip() for row in rows if at < len(row) and str(row[at]).strip()}
    except (CalamineError, OSError, ValueError) as error:
        raise MedlakeError("E629", place="工作簿", detail=type(error).__name__) from None
    return found


def take(person: Person, content: bytes) -> tuple[str, str]:
    """Look at a mended workbook and put it into the drop folder. Returns its institution and number.

    Raises:
        MedlakeError: E629 no plain workbook (a bomb, macros, links, too large); E431 none of the platform's; E673
            another institution's; E674 of several.
    """
    workbook.inspect(content, "工作簿")
    access.check_purpose(caller(person), "silver/correction")
    orgs = _institutions(content)
    if not orgs:
        raise MedlakeError("E431")
    if len(orgs) > 1:
        raise MedlakeError("E674", count=len(orgs))
    (org,) = orgs
    if not is_in_reach(person, org):
        raise MedlakeError("E673", org_code=org if org.isalnum() and len(org) <= 16 else "?")
    number = sha256(content).hexdigest()
    if not _known(org, number):
        _put(
            settings().sources_dir / delivery_day().isoformat() / FEED / org / f"portal_{number[:24]}.xlsx",
            content,
        )
    audit.record(
        "correction.hand_in", actor=person.user, purpose=PURPOSE, tables=["silver/correction"], fields=[], rows=0,
        result="received", actor_role=person.role, org_code=org, sha256=number,
    )  # fmt: skip
    return org, number


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def bring_in(org: str) -> None:
    """Ingest what an institution handed in; whatever goes wrong, the file lies in the drop for the daily run."""
    for day in sorted({path.parts[-4] for path in _waiting(org)}):
        try:
            ingestion.ingest_feed(FEED, date.fromisoformat(day), org_codes=[org])
        except MedlakeError as error:
            _log.warning("hand_in_waits", code=error.code, org_code=org)


def _waiting(org: str) -> list[Path]:
    """Workbooks from the portal in the drop of the last days that no batch brought in yet."""
    root = settings().sources_dir
    found = sorted(root.glob(f"*/{FEED}/{org}/portal_*.xlsx"))[-200:] if org.isalnum() else []
    with ops.engine().begin() as connection:
        query = select(ops.landing_file.c.sha256).where(
            ops.landing_file.c.feed == FEED, ops.landing_file.c.org_code == org
        )
        known = {row.sha256[:24] for row in connection.execute(query)}
    return [path for path in found if path.stem.removeprefix("portal_") not in known]


def _known(org: str, number: str) -> tuple[str, str] | None:
    return ledger.known_files(FEED, [number]).get((number, org))


def listed(person: Person, limit: int = 20) -> list[dict[str, Any]]:
    """What was handed in by the institutions in reach, newest first.

    Returns:
        number, org_code, org_short_name, data_date, received_at, bytes, received, loaded, duplicate, quarantined.
    """
    seen, short = reach(person), names()
    file, head, line = ops.landing_file.c, ops.batch.c, ops.ledger_line.c
    counts = ("received", "loaded", "duplicate", "quarantined")
    counted = (
        select(line.batch_id, line.source_file, *[func.sum(line[n]).label(n) for n in counts])
        .group_by(line.batch_id, line.source_file)
        .subquery()
    )
    query = (
        select(
            file.sha256.label("number"), file.org_code, head.data_date, file.received_at, file.bytes,
            *[func.coalesce(counted.c[n], 0).label(n) for n in counts],
        )
        .select_from(
            ops.landing_file.join(ops.batch, head.batch_id == file.batch_id).outerjoin(
                counted, (counted.c.batch_id == file.batch_id) & (counted.c.source_file == file.path)
            )
        )
        .where(file.feed == FEED, head.state == "committed")
        .order_by(file.received_at.desc(), file.sha256)
        .limit(limit)
    )  # fmt: skip
    if seen is not None:
        query = query.where(file.org_code.in_(sorted(seen)))
    with ops.engine().begin() as connection:
        rows = [dict(r._mapping) for r in connection.execute(query)]
    return [
        r | {n: int(r[n]) for n in counts} | {"org_short_name": short.get(r["org_code"], r["org_code"])}
        for r in rows
    ]


def outcome(person: Person, number: str) -> dict[str, Any] | None:
    """What became of one workbook, cell by cell, values as the policy shows them; a line of the audit.

    Returns:
        None when nobody in reach handed it in; else org_code, org_short_name, is_in (False: still on its way),
        counts, taken (sheet, cell, table_zh, field_zh, record_key, before, after, state), refused (place, error_code,
        reason_zh, remedy_zh, is_conflict).
    """
    file = ops.landing_file.c
    seen = reach(person)
    with ops.engine().begin() as connection:
        orgs = {
            r.org_code
            for r in connection.execute(select(file.org_code).where(file.feed == FEED, file.sha256 == number))
        }
    found = sorted(o for o in orgs if seen is None or o in seen)
    waiting = [] if found else _on_the_way(person, number)
    if not found and not waiting:
        return None
    org = (found or waiting)[0]
    shown: dict[str, Any] = {"org_code": org, "org_short_name": names().get(org, org), "is_in": False}
    known = _known(org, number)
    if known is None:
        return shown | {"taken": [], "refused": [], "counts": {}}
    batch_id, source_file = known
    lines = [line for line in ledger.lines_of(batch_id) if line.source_file == source_file]
    counts = {
        n: sum(getattr(line, n) for line in lines) for n in ("received", "loaded", "duplicate", "quarantined")
    }
    taken, refused = _taken(person, org, source_file), _refused(org, source_file)
    audit.record(
        "correction.outcome", actor=person.user, purpose=PURPOSE, tables=["silver/correction"],
        fields=["value_before", "value_after"], rows=len(taken) + len(refused), result="shown", actor_role=person.role,
        org_code=org,
    )  # fmt: skip
    return shown | {"is_in": True, "taken": taken, "refused": refused, "counts": counts}


def _on_the_way(person: Person, number: str) -> list[str]:
    at = [p.parent.name for p in settings().sources_dir.glob(f"*/{FEED}/*/portal_{number[:24]}.xlsx")]
    return sorted({org for org in at if is_in_reach(person, org)})


def _rows(sql: str, values: list[Any]) -> list[dict[str, Any]]:
    with duck.connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(sql, values).to_arrow_table().to_pylist()
    return rows


def _taken(person: Person, org: str, source_file: str) -> list[dict[str, Any]]:
    from quality.corrections.state import every_sql

    at = ledger.visible("silver/").get("silver/correction")
    if at is None:
        return []
    source = f"{tables.scan_sql('silver/correction', at)} c"
    mine = [org, source_file]
    asked = caller(person)
    kinds = _rows(
        f"SELECT DISTINCT table_name, field FROM {source} WHERE org_code = ? AND source_file = ?", mine
    )
    rows: list[dict[str, Any]] = []
    for kind in kinds:  # few: the fields that one workbook corrects
        table, field = kind["table_name"], kind["field"]
        table_zh, fields = labels(table)
        rows += [
            row | {"table_zh": table_zh, "field_zh": fields.get(field, field)}
            for row in _rows(
                f"""SELECT c.correction_id, c.source_sheet AS sheet, c.cell, c.source_line,
                       {shown_sql(asked, table, "record_key", "c.record_key")} AS record_key,
                       {shown_sql(asked, table, field, "c.value_before")} AS before,
                       {shown_sql(asked, table, field, "c.value_after")} AS after, o.state
                FROM {source} LEFT JOIN {every_sql()} o USING (org_code, correction_id)
                WHERE c.org_code = ? AND c.source_file = ? AND c.table_name = ? AND c.field = ?
                ORDER BY c.source_line LIMIT {SHOWN}""",
                [*mine, table, field],
            )
        ]
    return sorted(rows, key=lambda r: (r["sheet"] or "", r["source_line"] or 0, r["cell"] or ""))[:SHOWN]


def _refused(org: str, source_file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, at in sorted(ledger.visible(f"quarantine/{FEED}/").items()):
        found += _rows(
            f"""SELECT source_sheet AS sheet, source_line, place, error_code, reason_zh, remedy_zh
            FROM {tables.scan_sql(name, at)} WHERE org_code = ? AND source_file = ?
            ORDER BY source_sheet, source_line, place LIMIT {SHOWN}""",
            [org, source_file],
        )
    return [
        r | {"is_conflict": r["error_code"] in CONFLICTS, "cell": r["place"].split(" ")[-1]} for r in found
    ][:SHOWN]
