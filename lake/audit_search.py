"""Questions to the audit log, for auditors alone: what happened, and whose data a leak concerns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from lake import audit_archive, ops
from lake.access_tables import audit_archive as archives
from lake.access_tables import audit_person


def _text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="microseconds") if at else None


#: What every entry has; a forged one may lack it, and must be shown all the same.
_EMPTY = {"actor": "", "action": "", "purpose": "", "tables": [], "rows": 0, "result": ""}


def _read(entry: str) -> dict[str, Any]:
    """An entry as it stands. One that is no entry (any more) says so: the search goes on, ``verify`` names it."""
    try:
        found = json.loads(entry)
    except ValueError:
        found = None
    return _EMPTY | (found if isinstance(found, dict) else {"result": "unreadable"})


def entries(since: datetime | None = None, until: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Entries of a window, newest first, hot ones then archived ones. Each is read as JSON, so they come one by one."""
    start, end = _text(since) or "", _text(until) or "9"
    hot = ops.audit_entry
    with ops.reader().connect() as connection:
        query = select(hot).where(hot.c.at >= start, hot.c.at < end).order_by(hot.c.seq.desc())
        for row in connection.execution_options(yield_per=1000).execute(query):
            yield {**_read(row.entry), "seq": row.seq, "at": row.at, "hash": row.hash, "persons": None}
    with ops.reader().connect() as connection:
        overlap = (archives.c.last_at >= start) & (archives.c.first_at < end)
        kept = connection.execute(select(archives).where(overlap).order_by(archives.c.first_seq.desc())).all()
    for archive in kept:
        for seq, at, entry, _, digest, persons in reversed(list(audit_archive.read(archive))):
            if start <= at < end:
                yield {**_read(entry), "seq": seq, "at": at, "hash": digest, "persons": persons}


def _fits(entry: dict[str, Any], actor: str, action: str, table: str) -> bool:
    return (
        (not actor or entry.get("actor") == actor)
        and (not action or str(entry.get("action", "")).startswith(action))
        and (
            not table
            or any(re.split(r"[./]", t)[-1] == re.split(r"[./]", table)[-1] for t in entry.get("tables", []))
        )
    )


def search(
    *, actor: str = "", action: str = "", table: str = "", since: datetime | None = None,
    until: datetime | None = None, limit: int = 100,
) -> list[dict[str, Any]]:  # fmt: skip
    """The newest entries that fit. ``action`` is a beginning, such as ``export``."""
    found: list[dict[str, Any]] = []
    for entry in entries(since, until):
        if _fits(entry, actor, action, table):
            found.append(entry)
            if len(found) >= limit:
                break
    return found


def affected(
    *, actor: str = "", table: str = "", since: datetime | None = None, until: datetime | None = None
) -> dict[str, Any]:
    """Residents whose data were shown or taken: ``persons`` [{empi_id, entries, first_at, last_at}], ``entries`` that
    fit, and ``untold``: entries with rows of which no resident is known (counts, and what older releases wrote)."""
    persons: dict[str, dict[str, Any]] = {}
    fitting = [e for e in entries(since, until) if _fits(e, actor, "", table)]
    hot = [e["seq"] for e in fitting if e["persons"] is None and e.get("persons_count")]
    about: dict[int, list[str]] = {e["seq"]: e["persons"] for e in fitting if e["persons"]}
    with ops.reader().connect() as connection:
        for start in range(0, len(hot), 500):
            chosen = audit_person.c.seq.in_(hot[start : start + 500])
            for seq, empi_id in connection.execute(select(audit_person).where(chosen)):
                about.setdefault(seq, []).append(empi_id)
    for entry in fitting:
        for empi_id in about.get(entry["seq"], []):
            kept = persons.setdefault(empi_id, {"empi_id": empi_id, "entries": 0, "last_at": entry["at"]})
            kept["entries"] += 1
            kept["first_at"] = entry["at"]
    untold = sum(1 for e in fitting if e.get("rows") and e["seq"] not in about)
    listed = sorted(persons.values(), key=lambda p: str(p["empi_id"]))
    return {"persons": listed, "entries": len(fitting), "untold": untold}
