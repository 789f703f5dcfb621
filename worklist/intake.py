"""From requests to items: at least once from the table, exactly one item a request.

A request of kind ``settle`` (``lake.work.settle``) makes no item: it moves the one it names, as the engine's doing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, case, select, update

from lake import ops, work
from lake.errors import MedlakeError
from lake.log import logger
from worklist import anonymity, engine, making, store
from worklist.machine import kinds
from worklist.making import Asked

_log = logger("worklist")
_r = ops.work_request.c


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _received(payload: dict[str, Any], requested_at: datetime) -> datetime:
    """When the platform received it: the fast lane says so in the payload; else when it was asked for."""
    try:
        at = datetime.fromisoformat(str(payload.get("received_at", "")))
    except ValueError:
        return requested_at
    return min(at, requested_at) if at.tzinfo else requested_at


def _asked(row: Any) -> Asked:
    payload = json.loads(row.payload)
    requested = _utc(row.requested_at)
    return Asked(
        request_key=row.request_key,
        kind=row.kind,
        org_code=row.org_code,
        severity=row.severity,
        subject=row.subject,
        occurred_at=_utc(row.occurred_at),
        received_at=_received(payload, requested),
        origin=row.origin,
        payload=payload,
    )


def take_requests(now: datetime | None = None, *, chunk: int = 200, most: int = 4000) -> dict[str, Any]:
    """Turn waiting requests into items. Returns ``taken``, ``known``, ``unknown_kind`` and ``latency_s_max``.

    The kinds of highest priority go first and a call takes ``most`` at most: a flood of unmapped codes delays neither
    a critical value nor the timers.

    A chunk is one transaction: item, event, clocks and the mark on the request together. A request of a kind that
    nobody defined waits untouched and is counted, so a newer release takes it.
    """
    known_kinds = list(kinds())
    urgency = case({name: k.priority for name, k in kinds().items()}, value=_r.kind, else_=9)
    counts = {"taken": 0, "known": 0}
    slowest = 0.0
    waiting = (
        select(ops.work_request)
        .where(_r.taken_at.is_(None), _r.kind.in_(known_kinds))
        .order_by(urgency, _r.requested_at, _r.request_key)
        .limit(chunk)
        .with_for_update(skip_locked=True)
    )
    for _ in range(max(1, most // chunk)):
        with store.begin() as connection:
            at = now or datetime.now(UTC)
            rows = connection.execute(waiting).all()
            asked = [_asked(row) for row in rows]
            made = making.insert_all(connection, asked, at)
            if rows:
                done = update(ops.work_request).where(_r.request_key == bindparam("key"))
                values = [
                    {"key": r.request_key, "taken": at, "kept": _kept(a, r.payload)}
                    for r, a in zip(rows, asked, strict=True)
                ]
                connection.execute(
                    done.values(taken_at=bindparam("taken"), payload=bindparam("kept")), values
                )
        counts["taken"] += len(made)
        counts["known"] += len(rows) - len(made)
        slowest = max([slowest, *(i.seconds_to_item for i in made)])
        if len(rows) < chunk:
            break
    _settle(now, chunk, most)
    with store.begin() as connection:
        lost = select(_r.kind).where(_r.taken_at.is_(None), _r.kind.not_in([*known_kinds, work.SETTLE]))
        unknown = sorted({row.kind for row in connection.execute(lost.distinct())})
    if counts["taken"] or unknown:
        _log.info("requests_taken", count=counts["taken"], codes=unknown, seconds=round(slowest, 3))
    return counts | {"unknown_kind": unknown, "latency_s_max": round(slowest, 3)}


def _settle(now: datetime | None, chunk: int, most: int) -> None:
    """Do what later runs found out about requests, oldest first. One for a request that still waits, waits too.

    A step and the mark on its request are two transactions: done again, the step finds the item moved and does nothing.
    """
    target = ops.work_request.alias("target").c
    untaken = select(target.request_key).where(target.request_key == _r.subject, target.taken_at.is_(None))
    waiting = (
        select(ops.work_request)
        .where(_r.taken_at.is_(None), _r.kind == work.SETTLE, ~untaken.exists())
        .order_by(_r.requested_at, _r.request_key)
        .limit(chunk)
    )
    for _ in range(max(1, most // chunk)):
        with store.begin() as connection:
            rows = connection.execute(waiting).all()
        for row in rows:  # each its own item's transaction
            said, at = json.loads(row.payload), now or datetime.now(UTC)
            try:
                engine.settle(row.subject, said["action"], reason=said["reason"], data=said["data"], at=at)
            except MedlakeError as error:  # a guard of the kind refuses: that is an answer too
                _log.warning("settlement_refused", code=error.code, step=said["action"])
            with store.begin() as connection:
                mark = update(ops.work_request).where(_r.request_key == row.request_key)
                connection.execute(mark.values(taken_at=at))
        if len(rows) < chunk:
            break


def _kept(asked: Asked, payload: str) -> str:
    """What stays in the request: of an anonymous report nothing that tells who reported."""
    rule = kinds()[asked.kind]
    if not anonymity.is_anonymous(rule, asked.payload):
        return payload
    return store.as_json(anonymity.without_reporter(rule, asked.payload))
