"""What the centre knows of its nodes beside their chunks: contacts, times apart, deliveries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingestion.edge.parameters import parameter
from ingestion.edge.spool import REMEMBERED, Spool
from lake.local_time import SHANGHAI
from lake.settings import settings

TABLES = """
CREATE TABLE IF NOT EXISTS contact (
    node TEXT PRIMARY KEY, org_code TEXT NOT NULL, parent TEXT NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL,
    through TEXT NOT NULL, offset_ms INTEGER, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS absence (
    node TEXT NOT NULL, org_code TEXT NOT NULL, from_at TEXT NOT NULL, to_at TEXT NOT NULL,
    PRIMARY KEY (node, from_at));
CREATE TABLE IF NOT EXISTS delivery (
    delivery TEXT PRIMARY KEY, node TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, feed TEXT NOT NULL,
    org_code TEXT NOT NULL, framing TEXT NOT NULL, suffix TEXT NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
    node_at TEXT NOT NULL, offset_ms INTEGER, received_at TEXT NOT NULL, data_date TEXT NOT NULL,
    file INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS delivery_file ON delivery (state, file);
"""


def folder() -> Path:
    return settings().home / "edge" / "centre"


def open_store() -> Spool:
    """The centre's spool; several processes may read it while the centre runs."""
    settings().folder("edge").chmod(0o700)
    return Spool(folder() / "centre.db", TABLES)


@dataclass(frozen=True)
class Heard:
    """A call, direct or told of by a relay. ``offset_ms``: to add to the node's clock for the centre's time."""

    node: str
    org_code: str
    parent: str
    at: datetime
    through: str
    offset_ms: int | None
    status: dict[str, Any]


def heard(store: Spool, calls: list[Heard]) -> None:
    """Note contacts. A pause longer than ``absence_after_minutes`` before one of them was time apart."""
    with store.writing() as db:
        for call in calls:
            row = db.execute("SELECT last_at FROM contact WHERE node = ?", (call.node,)).fetchone()
            before = datetime.fromisoformat(row[0]) if row else None
            day = call.at.astimezone(SHANGHAI).date()
            if before and call.at - before > timedelta(minutes=parameter("absence_after_minutes", day)):
                db.execute(
                    "INSERT OR REPLACE INTO absence VALUES (?, ?, ?, ?)",
                    (call.node, call.org_code, before.isoformat(), _text(call.at)),
                )
            db.execute(
                "INSERT INTO contact VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node) DO UPDATE SET"
                " org_code = excluded.org_code, parent = excluded.parent, last_at = max(last_at, excluded.last_at),"
                " through = excluded.through, offset_ms = excluded.offset_ms, status = excluded.status",
                (
                    call.node, call.org_code, call.parent, _text(call.at), _text(call.at), call.through,
                    call.offset_ms, json.dumps(call.status),
                ),
            )  # fmt: skip


def forget(store: Spool, now: datetime) -> int:
    """Let go of what is known of deliveries longer ago than ``delivery_memory_days``. Returns how many."""
    days = parameter("delivery_memory_days", now.astimezone(SHANGHAI).date())
    with store.writing() as db:
        before = _text(now - timedelta(days=days))
        done = db.execute("DELETE FROM delivery WHERE state = 'done' AND received_at < ?", (before,))
        db.execute(
            "DELETE FROM seen WHERE EXISTS (SELECT 1 FROM stream WHERE stream.node = seen.node"
            " AND stream.epoch = seen.epoch AND seen.seq < stream.last_seq - ?)",
            (REMEMBERED,),
        )
        return done.rowcount


def failed(store: Spool) -> list[dict[str, Any]]:
    """Deliveries that could not be brought into the drop, with the error's number; their chunks are kept."""
    rows = store.reading().execute(
        "SELECT delivery, node, epoch, seq, feed, org_code, code, received_at FROM delivery WHERE state = 'failed' ORDER BY file"
    )
    names = [d[0] for d in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def try_again(store: Spool) -> int:
    """Have the centre try set-aside deliveries again (after a key, a contract or the register was mended)."""
    with store.writing() as db:
        return db.execute("DELETE FROM delivery WHERE state = 'failed'").rowcount


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
