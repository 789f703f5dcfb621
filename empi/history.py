"""What happened to one ``empi_id``: its events in the lake, the changes that no run has taken up yet, where it leads."""

from __future__ import annotations

import json
from typing import Any

from empi import members, redirects
from lake import duck, ledger, ops, tables
from lake.errors import MedlakeError

EVENT = "silver/person_event"
_LATER = ("before", "after", "actor", "change_id", "undoes")


def _counts(text: str | None) -> str | None:
    """``{id: [record]}`` as numbers of records: a history names ids, never people."""
    return ", ".join(f"{e}:{len(r)}" for e, r in json.loads(text).items()) if text else None


def _told(empi_id: str, limit: int) -> list[dict[str, Any]]:
    visible = ledger.visible("silver/")
    if EVENT not in visible:
        raise MedlakeError("E103", table=EVENT)
    present = set(tables.columns(EVENT, visible[EVENT]))
    later = ", ".join(c if c in present else f"NULL AS {c}" for c in _LATER)
    lake = duck.connect()
    try:
        found = lake.execute(
            f"""SELECT occurred_on, event_type, empi_id, other_empi_id, event_id, run_id, {later}
            FROM {tables.scan_sql(EVENT, visible[EVENT])} WHERE empi_id = ? OR other_empi_id = ?
            ORDER BY occurred_on DESC, event_id LIMIT ?""",
            [empi_id, empi_id, limit],
        ).to_arrow_table()
    finally:
        lake.close()
    rows: list[dict[str, Any]] = found.to_pylist()
    return [row | {c: _counts(row[c]) for c in ("before", "after")} for row in reversed(rows)]


def of(empi_id: str, limit: int = 200) -> dict[str, Any]:
    """The newest ``limit`` events of an id, newest last, without names or numbers of registrations.

    Returns:
        ``empi_id, current_empi_id, records, is_retired, events, open_changes``.

    Raises:
        MedlakeError: E103, nothing was linked yet; E327, the id was never issued.
    """
    events = _told(empi_id, limit)
    if not events:
        raise MedlakeError("E327", place=empi_id)
    with ops.engine().begin() as connection:
        now = members.members(connection, empi_id)[empi_id]
        waiting = [
            {
                "change_id": row.change_id,
                "kind": row.kind,
                "empi_id": row.empi_id,
                "other_empi_id": row.other_empi_id,
                "actor": row.actor,
            }
            for row in members.pending(connection)
            if empi_id in (row.empi_id, row.other_empi_id)
        ]
    current = empi_id if now else redirects.resolve(empi_id)
    merged = [c for c in waiting if c["kind"] == "merge" and c["other_empi_id"] == empi_id]
    if not now and merged:
        current = merged[-1]["empi_id"]
    return {
        "empi_id": empi_id,
        "current_empi_id": current,
        "is_retired": not now,
        "records": len(now),
        "events": events,
        "open_changes": waiting,
    }
