"""Asking people for something: rooms write requests here, ``worklist`` turns each into an item.

A request is the same as another when its ``request_key`` is: asking twice (the fast lane and then the batch, or a
step that is run again) changes nothing. What people answer comes back the same way (``answers``), and a room that
finds a matter settled, or open again, says so by a :class:`Settlement`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

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


@dataclass(frozen=True)
class Answer:
    """What a person did with an item that came of a request: one line of the item's log that moved it.

    Args:
        seq: number of that line; with the key it names the answer for ever.
        actor, reason: empty for an anonymous item.
        data: the fields given with the command; ``payload`` are those of the request.
        answered_at: UTC.
    """

    request_key: str
    seq: int
    kind: str
    action: str
    to_state: str
    actor: str
    reason: str | None
    data: Mapping[str, Any]
    answered_at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)


#: Kind of the requests that speak to ``worklist`` itself: move that item as the engine's own doing.
SETTLE = "settle"


@dataclass(frozen=True)
class Settlement:
    """What a later run found out about a request: the engine does ``action`` if the item's state lets it.

    Args:
        request_key: of the request that is settled (or opened again).
        occasion: what found it, such as a run's id: the same occasion says it once.
        data: fields that go to the item.
    """

    request_key: str
    action: str
    occasion: str
    reason: str
    occurred_at: datetime
    origin: str
    data: Mapping[str, Any] = field(default_factory=dict)


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


def settle(settlements: Iterable[Settlement]) -> int:
    """Tell ``worklist`` what became of requests. Returns how many were new."""
    return ask(
        Request(
            request_key=f"{SETTLE}|{s.request_key}|{s.occasion}|{s.action}",
            kind=SETTLE,
            org_code="",
            severity="info",
            subject=s.request_key,
            occurred_at=s.occurred_at,
            origin=s.origin,
            payload={"action": s.action, "reason": s.reason, "data": dict(s.data)},
        )
        for s in settlements
    )


def answer(connection: Connection, given: Answer) -> None:
    """Keep an answer, in the transaction that moves the item; only an item that came of a request has any."""
    asked = select(ops.work_request.c.request_key).where(ops.work_request.c.request_key == given.request_key)
    if connection.execute(asked).one_or_none() is None:
        return
    values = {
        "request_key": given.request_key,
        "seq": given.seq,
        "kind": given.kind,
        "action": given.action,
        "to_state": given.to_state,
        "actor": given.actor,
        "reason": given.reason,
        "data": json.dumps(given.data, ensure_ascii=False, sort_keys=True, default=str),
        "answered_at": given.answered_at.astimezone(UTC),
    }
    connection.execute(insert(ops.work_answer).values(values))


def answers(kind: str, after: datetime | None = None) -> list[Answer]:
    """What people answered to requests of a kind, oldest first, each with its request's payload.

    ``after``: only answers given at or after that instant. An answer's instant is a little older than the end of its
    transaction, so whoever reads on from the newest one goes back some minutes and knows by ``(request_key, seq)``
    what was there already.
    """
    a, r = ops.work_answer, ops.work_request
    query = (
        select(a, r.c.payload)
        .join(r, r.c.request_key == a.c.request_key)
        .where(a.c.kind == kind)
        .order_by(a.c.answered_at, a.c.request_key, a.c.seq)
    )
    if after is not None:
        query = query.where(a.c.answered_at >= after.astimezone(UTC))
    with ops.engine().begin() as connection:
        return [
            Answer(
                request_key=row.request_key,
                seq=row.seq,
                kind=row.kind,
                action=row.action,
                to_state=row.to_state,
                actor=row.actor,
                reason=row.reason,
                data=json.loads(row.data),
                answered_at=_utc(row.answered_at),
                payload=json.loads(row.payload),
            )
            for row in connection.execute(query)
        ]


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
