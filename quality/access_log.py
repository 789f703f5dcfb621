"""Access events that connected systems deliver: ``<sources>/<date>/access_log/<institution>/audit_event_*.csv``.

A vendor's log of who looked at what stays in its system; what concerns sensitive diseases comes as a file with the
columns of :data:`COLUMNS` (UTF-8, local time) and is judged together with Medlake's own audit log (rule SMI-011).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from lake import registry
from lake.local_time import SHANGHAI
from lake.settings import settings

FOLDER = "access_log"
COLUMNS = {
    "event_id": "VARCHAR", "happened_at": "TIMESTAMP", "actor": "VARCHAR", "actor_role": "VARCHAR", "action": "VARCHAR",
    "tables": "VARCHAR", "purpose": "VARCHAR", "result": "VARCHAR",
}  # fmt: skip


def files(until: date) -> list[Path]:
    """The logs of known institutions that were delivered up to a date, in order."""
    root, known, found = settings().sources_dir, set(registry.org_codes()), []
    for day in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            delivered = date.fromisoformat(day.name)
        except ValueError:  # another thing beside the deliveries
            continue
        if delivered <= until:
            found += [p for p in sorted((day / FOLDER).glob("*/audit_event_*.csv")) if p.parent.name in known]
    return found


def delivered_events(until: date) -> list[dict[str, Any]]:
    """Events of the delivered logs up to the end of a local day; ``happened_at`` with its zone, one row per event.

    A line that has no id or no time, or that cannot be read, is no event.
    """
    paths = files(until)
    if not paths:
        return []
    names = ", ".join(COLUMNS)
    kinds = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    with duckdb.connect(config={"threads": 1}) as connection:
        found = connection.execute(
            f"""
            SELECT parse_path(filename)[-2] AS org_code, {names}
            FROM read_csv($paths, columns = {{{kinds}}}, header = true, filename = true, ignore_errors = true)
            WHERE event_id IS NOT NULL AND happened_at::DATE <= $until
            QUALIFY row_number() OVER (PARTITION BY org_code, event_id ORDER BY filename DESC) = 1
            ORDER BY org_code, event_id""",
            {"paths": [str(p) for p in paths], "until": until},
        ).fetchall()
    events = [dict(zip(("org_code", *COLUMNS), row, strict=True)) for row in found]
    return [event | {"happened_at": event["happened_at"].replace(tzinfo=SHANGHAI)} for event in events]
