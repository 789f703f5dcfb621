"""Asking people for something: rooms write requests here, ``worklist`` turns each into an item.

A request is the same as another when its ``request_key`` is: asking twice (the fast lane and then the batch, or a
step that is run again) changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from lake import ops


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        request_key: what makes it this request, such as ``critical_value|H001|R17|3`` (at most 200 characters).
        kind: a kind of item that ``worklist`` knows, such as ``critical_value``.
        org_code: the institution that must act.
        severity: ``error``, ``warn`` or ``info``.
        subject: what it is about, as ``table/key``; never a name or an identifier of a person.
        payload: facts that the person who acts needs; restricted like the table they come from.
        occurred_at: when it happened at the source, UTC; deadlines count from here or from receipt, as the kind says.
        origin: who asks: ``fast_lane``, ``ingestion``, ``quality``, ...
    """

    request_key: str
    kind: str
    org_code: str
    severity: str
    subject: str
    occurred_at: datetime
    origin: str
    payload: Mapping[str, Any] = field(default_factory=dict)


def ask(requests: Iterable[Request]) -> int:
    """Write requests that are not there yet, in one transaction. Returns how many were new."""
    now = datetime.now(UTC)
    rows = [
        {
            "request_key": r.request_key,
            "kind": r.kind,
            "org_code": r.org_code,
            "severity": r.severity,
            "subject": r.subject,
            "payload": json.dumps(r.payload, ensure_ascii=False, sort_keys=True, default=str),
            "occurred_at": r.occurred_at.astimezone(UTC),
            "requested_at": now,
            "origin": r.origin,
        }
        for r in sorted(
            requests, key=lambda r: r.request_key
        )  # one order for all: no two writers wait for each other
    ]
    if not rows:
        return 0
    engine = ops.engine()
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(ops.work_request)
        .on_conflict_do_nothing(index_elements=["request_key"])
        .returning(ops.work_request.c.request_key)
    )
    new = 0
    with engine.begin() as connection:
        for start in range(0, len(rows), 500):
            new += len(connection.execute(statement.values(rows[start : start + 500])).all())
    return new


def known(request_keys: Iterable[str]) -> set[str]:
    """Those of the keys that somebody has asked for already."""
    keys = list(request_keys)
    found: set[str] = set()
    with ops.engine().begin() as connection:
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            query = select(ops.work_request.c.request_key).where(ops.work_request.c.request_key.in_(part))
            found.update(row.request_key for row in connection.execute(query))
    return found


def asked(kind: str, subjects: Iterable[str]) -> list[tuple[str, datetime]]:
    """(subject, when it happened in UTC) of all requests of a kind for the given subjects."""
    wanted = list(subjects)
    found: list[tuple[str, datetime]] = []
    t = ops.work_request.c
    with ops.engine().begin() as connection:
        for start in range(0, len(wanted), 500):
            query = select(t.subject, t.occurred_at).where(
                t.kind == kind, t.subject.in_(wanted[start : start + 500])
            )
            found += [(row.subject, _utc(row.occurred_at)) for row in connection.execute(query)]
    return found


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
