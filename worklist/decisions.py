"""Decisions go back into the lake as the feed ``decision``: files in the drop, each decision in exactly one of them.

First a decision is claimed for a file (in the database), then the file is written whole under its name. A process
killed in between leaves a claim without a written file; the next call writes that same file.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from lake.crypto import sm3_hex
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.settings import settings
from worklist import store, tables

_log = logger("worklist")
_f, _e, _i = tables.decision_file.c, tables.item_event.c, tables.item.c

#: Folder of the drop: the contract's name, and the table that a file's name begins with.
FEED, TABLE = "worklist", "decision"


def _claim(connection: Connection, data_date: date, limit: int) -> int:
    """Give every decision taken before the end of a local day to a file of that day, one an institution."""
    until = datetime.combine(data_date + timedelta(days=1), time(), SHANGHAI)
    query = (
        select(_e.item_id, _e.seq, _i.org_code)
        .join(tables.item, _i.item_id == _e.item_id)
        .outerjoin(tables.decision_file, (_f.item_id == _e.item_id) & (_f.seq == _e.seq))
        .where(_e.is_decision.is_(True), _e.at < until, _f.item_id.is_(None))
        .order_by(_i.org_code, _e.at, _e.item_id, _e.seq)
        .limit(limit)
    )
    found = connection.execute(query).all()
    groups: dict[str, list[Any]] = {}
    for row in found:
        groups.setdefault(row.org_code, []).append(row)
    rows = []
    for org_code, members in groups.items():
        digest = sm3_hex("\n".join(f"{m.item_id} {m.seq}" for m in members).encode())[:12]
        name = f"{TABLE}_{data_date:%Y%m%d}_{digest}.ndjson"
        rows += [
            {
                "item_id": m.item_id,
                "seq": m.seq,
                "data_date": data_date,
                "org_code": org_code,
                "file_name": name,
            }
            for m in members
        ]
    if rows:
        connection.execute(insert(tables.decision_file), rows)
    return len(rows)


def _record(row: Any) -> dict[str, Any]:
    """One decision as the contract names it; an anonymous item gives neither actor nor reason away."""
    return {
        "decision_id": f"{row.item_id}-{row.seq}",
        "item_id": row.item_id,
        "kind": row.kind,
        "subject": row.subject,
        "org_code": row.item_org,
        "action": row.action,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "actor": None if row.is_anonymous else row.actor,
        "actor_role": row.role,
        "reason": None if row.is_anonymous else row.reason,
        "decided_at": row.at.isoformat(timespec="microseconds"),
        "payload": row.data,
    }


def _write(data_date: date, org_code: str, name: str) -> int:
    """Write one claimed file whole, then say so. Writing it again gives the same bytes."""
    query = (
        select(
            tables.item_event, _i.kind, _i.subject, _i.is_anonymous, _f.org_code.label("item_org"),
        )
        .join(tables.item, _i.item_id == _e.item_id)
        .join(tables.decision_file, (_f.item_id == _e.item_id) & (_f.seq == _e.seq))
        .where(_f.file_name == name, _f.org_code == org_code, _f.data_date == data_date)
        .order_by(_e.at, _e.item_id, _e.seq)
    )  # fmt: skip
    with store.begin() as connection:
        records = [_record(row) for row in connection.execute(query)]
    folder = settings().sources_dir / data_date.isoformat() / FEED / org_code
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = folder / f".{name}.{os.getpid()}.part"
    with draft.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / name)
    _sync(folder)
    with store.begin() as connection:
        connection.execute(
            update(tables.decision_file)
            .where(_f.file_name == name, _f.org_code == org_code, _f.data_date == data_date)
            .values(written_at=datetime.now(UTC))
        )
    return len(records)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def drop(data_date: date, *, limit: int = 50_000) -> dict[str, Any]:
    """Write all decisions up to the end of a local day that are in no file yet into that day's drop.

    Returns:
        data_date, decisions and files written by this call.
    """
    with store.begin() as connection:
        _claim(connection, data_date, limit)
    pending = select(_f.data_date, _f.org_code, _f.file_name).where(_f.written_at.is_(None)).distinct()
    with store.begin() as connection:
        files = connection.execute(pending.order_by(_f.data_date, _f.org_code, _f.file_name)).all()
    written = sum(_write(f.data_date, f.org_code, f.file_name) for f in files)
    if files:
        _log.info("decisions_dropped", data_date=data_date, files=len(files), rows=written)
    return {"data_date": data_date.isoformat(), "decisions": written, "files": len(files)}
