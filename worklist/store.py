"""Rows of the worklist: one transaction at a time, the schema checked first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.engine import Connection

from lake import ops
from lake.errors import MedlakeError
from worklist import tables

#: The newest revision under ``migrations/versions``; a test holds it to that.
HEAD = "0007"

_ready: set[str] = set()


def engine() -> Engine:
    """The operational database with the worklist's tables in it.

    The embedded SQLite is migrated by itself; a server's database only by ``medlake worklist migrate``.

    Raises:
        MedlakeError: E916, a server's schema is not current.
    """
    made = ops.engine()
    url = str(made.url)
    if url not in _ready:
        from worklist import schema

        found = schema.current(made)
        if found != HEAD:
            if made.dialect.name != "sqlite":
                raise MedlakeError("E916", found=found or "-", wanted=HEAD)
            schema.upgrade(made)
        _ready.add(url)
    return made


@contextmanager
def begin() -> Iterator[Connection]:
    with engine().begin() as connection:
        yield connection


def forget() -> None:
    """Check the schema again on next use (after a migration, or when tests change databases)."""
    _ready.clear()


@dataclass(frozen=True)
class Item:
    """One item as it stands; instants are UTC."""

    item_id: str
    request_key: str
    kind: str
    subject: str
    org_code: str
    severity: str
    state: str
    is_open: bool
    priority: int
    owner_role: str
    owner_id: str | None
    assignee: str | None
    is_anonymous: bool
    origin: str
    payload: dict[str, Any]
    occurred_at: datetime
    received_at: datetime
    created_at: datetime
    entered_at: datetime
    due_at: datetime | None
    next_timer_at: datetime | None
    closed_at: datetime | None
    reopened: int
    seconds_to_item: float
    version: int

    @property
    def facts(self) -> dict[str, Any]:
        """What conditions look at: the payload and the item's own severity and institution."""
        return self.payload | {"severity": self.severity, "org_code": self.org_code, "origin": self.origin}


@dataclass(frozen=True)
class Event:
    """One line of an item's log."""

    item_id: str
    seq: int
    action: str
    from_state: str | None
    to_state: str
    actor: str
    role: str
    at: datetime
    reason: str | None
    channel: str | None
    evidence: list[str]
    data: dict[str, Any]
    command_key: str | None
    is_decision: bool


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def item_of(row: Any) -> Item:
    return Item(**dict(row._mapping) | {"payload": json.loads(row.payload)})


def event_of(row: Any) -> Event:
    loaded = {"evidence": json.loads(row.evidence), "data": json.loads(row.data)}
    return Event(**dict(row._mapping) | loaded)


def get(connection: Connection, item_id: str, *, lock: bool = False) -> Item:
    """One item; with ``lock`` nobody else changes it before this transaction ends.

    Raises:
        MedlakeError: E903, there is none.
    """
    query = select(tables.item).where(tables.item.c.item_id == item_id)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise MedlakeError("E903", item_id=item_id)
    return item_of(row)


def events_of(connection: Connection, item_id: str) -> list[Event]:
    t = tables.item_event
    query = select(t).where(t.c.item_id == item_id).order_by(t.c.seq)
    return [event_of(row) for row in connection.execute(query)]


def next_seq(connection: Connection, item_id: str) -> int:
    t = tables.item_event
    newest = connection.execute(select(func.max(t.c.seq)).where(t.c.item_id == item_id)).scalar()
    return int(newest or 0) + 1


def event_row(
    item_id: str, seq: int, action: str, to_state: str, at: datetime, **values: Any
) -> Mapping[str, Any]:
    """A row of the log; what is not given is empty, the actor is the system."""
    empty = {
        "from_state": None,
        "actor": "system",
        "role": "system",
        "reason": None,
        "channel": None,
        "command_key": None,
        "is_decision": False,
    }
    texts = {"evidence": as_json(values.pop("evidence", [])), "data": as_json(values.pop("data", {}))}
    return (
        empty
        | {"item_id": item_id, "seq": seq, "action": action, "to_state": to_state, "at": at}
        | values
        | texts
    )
