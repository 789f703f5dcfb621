"""Who belongs to a person right now: the visible crosswalk, and on top what people changed since the run that made it."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from empi.decisions import RecordKey
from lake import duck, ledger, ops, tables
from lake.errors import MedlakeError

IDENTIFIER = "silver/person_identifier"
ARCHIVE = "silver/ph_archive"

Members = dict[str, list[RecordKey]]


def pending(connection: Connection) -> list[Any]:
    """Online changes that no run has taken into the lake yet, in order (rows of ``ops.registry_change``)."""
    t = ops.registry_change
    return list(connection.execute(select(t).where(t.c.run_id.is_(None)).order_by(t.c.seq)))


def replay(changes: list[Any]) -> dict[RecordKey, str]:
    """Record -> the person whom the changes gave it to last."""
    owner: dict[RecordKey, str] = {}
    for row in changes:
        for empi_id, records in json.loads(row.after).items():
            owner.update({RecordKey(*r): empi_id for r in records})
    return owner


def members(connection: Connection, *empi_ids: str) -> Members:
    """The records of each person, sorted; none for an id that is retired or was never issued.

    Raises:
        MedlakeError: E103, nothing was linked yet.
    """
    visible = ledger.visible("silver/")
    if IDENTIFIER not in visible:
        raise MedlakeError("E103", table=IDENTIFIER)
    marks = ", ".join("?" for _ in empi_ids)
    lake = duck.connect()
    try:
        rows = lake.execute(
            f"""SELECT empi_id, source_system, org_code, identifier_value
            FROM {tables.scan_sql(IDENTIFIER, visible[IDENTIFIER])}
            WHERE identifier_type = 'MR' AND valid_to IS NULL AND empi_id IN ({marks})""",
            list(empi_ids),
        ).fetchall()
    finally:
        lake.close()
    moved = replay(pending(connection))
    owner = {RecordKey(*r[1:]): str(r[0]) for r in rows}
    owner |= {k: e for k, e in moved.items() if e in empi_ids or k in owner}
    found: Members = {e: [] for e in empi_ids}
    for record, empi_id in sorted(owner.items()):
        if empi_id in found:
            found[empi_id].append(record)
    return found


def active_archives(records: list[RecordKey]) -> list[RecordKey]:
    """Those of the records that are public-health archives in use."""
    ours = [r for r in records if r.source_system == "public_health"]
    visible = ledger.visible("silver/")
    if not ours or ARCHIVE not in visible:
        return []
    lake = duck.connect()
    try:
        duck.create_views(lake, {ARCHIVE: visible[ARCHIVE]})
        marks = ", ".join("(?, ?)" for _ in ours)
        rows = lake.execute(
            f"""SELECT org_code, archive_id FROM silver.ph_archive
            WHERE coalesce(status_code, '0') = '0' AND (org_code, archive_id) IN ({marks})""",
            [part for r in ours for part in (r.org_code, r.identifier_value)],
        ).fetchall()
    finally:
        lake.close()
    return sorted(RecordKey("public_health", *r) for r in rows)
