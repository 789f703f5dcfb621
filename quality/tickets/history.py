"""The tickets as they stand, read from the tables where rooms meet (``lake.work``): requests, settlements, answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import select

from lake import ops, work
from lake.local_time import SHANGHAI
from quality.tickets import KIND

#: States of an item that waits for somebody, and those that do not (worklist/kinds/quality_ticket.yaml).
OPEN = frozenset({"open", "assigned", "fixed", "recheck", "waiver_asked"})
CLOSED = frozenset({"auto_closed", "waived"})
#: What a check says of a ticket -> the states in which the engine does it, and where it leads (None: it stays).
BY_CHECK: dict[str, tuple[frozenset[str], str | None]] = {
    "confirm_gone": (OPEN, "auto_closed"),
    "still_there": (frozenset({"fixed", "recheck"}), "assigned"),
    "reopen": (CLOSED, "open"),
    "recount": (OPEN, None),
}


@dataclass(frozen=True)
class Ticket:
    """One ticket. ``payload``: facts of the request and of all that was said since; days are local.

    ``told_on`` is the newest data date whose check spoke of it; ``moved_on`` the day of the last person's step;
    ``waived_by`` and ``waiver_asked_by`` are set while it is waived.
    """

    request_key: str
    rule_id: str
    org_code: str
    state: str
    payload: Mapping[str, Any]
    asked_on: date
    told_on: date
    moved_on: date | None = None
    reopened: int = 0
    waiver_asked_by: str | None = None
    waived_by: str | None = None
    waived_on: date | None = None
    waived_from: date | None = None


@dataclass(frozen=True)
class Step:
    """One thing that happened to a ticket, by a person (``actor``) or by a check; ``at`` is UTC."""

    at: datetime
    request_key: str
    action: str
    to_state: str | None
    actor: str | None
    data: Mapping[str, Any]
    said_at: datetime


def local_day(at: datetime) -> date:
    return at.astimezone(SHANGHAI).date()


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def request_key(rule_id: str, org_code: str) -> str:
    return f"{KIND}|{rule_id}|{org_code}"


def _steps() -> Iterator[Step]:
    """All that was said about all tickets, in the order in which the worklist did it."""
    r = ops.work_request
    prefix = f"{work.SETTLE}|{KIND}|"
    query = select(r).where(r.c.kind == work.SETTLE, r.c.request_key.startswith(prefix, autoescape=True))
    with ops.engine().begin() as connection:
        rows = connection.execute(query).all()
    found = [
        Step(_utc(a.answered_at), a.request_key, a.action, a.to_state, a.actor, a.data, _utc(a.answered_at))
        for a in work.answers(KIND)
    ]
    never = datetime.max.replace(tzinfo=UTC)  # what still waits will be done last, in the order of asking
    for row in rows:
        said = json.loads(row.payload)
        at = _utc(row.taken_at) if row.taken_at else never
        found.append(Step(at, row.subject, said["action"], None, None, said["data"], _utc(row.requested_at)))
    yield from sorted(found, key=lambda s: (s.at, s.said_at, s.request_key))


def _moved(ticket: Ticket, step: Step) -> Ticket:
    """A ticket after a step; a check's word that the item's state did not allow changes nothing."""
    if step.actor is None:
        sources, target = BY_CHECK.get(step.action, (frozenset(), None))
        if ticket.state not in sources:
            return ticket
        told = step.data.get("data_date")
        moved = replace(
            ticket,
            state=target or ticket.state,
            payload={**ticket.payload, **step.data},
            told_on=max(ticket.told_on, date.fromisoformat(told)) if told else ticket.told_on,
        )
    else:
        moved = replace(
            ticket,
            state=step.to_state or ticket.state,
            payload={**ticket.payload, **step.data},
            moved_on=local_day(step.at),
        )
    if step.action == "reopen":
        moved = replace(
            moved,
            reopened=ticket.reopened + 1,
            waiver_asked_by=None,
            waived_by=None,
            waived_on=None,
            waived_from=None,
        )
    elif step.action == "ask_waiver":
        moved = replace(moved, waiver_asked_by=step.actor)
    elif step.action == "waive":
        decided = local_day(step.at)
        # it was decided on what that check had found, which may be of an earlier data date
        moved = replace(
            moved, waived_by=step.actor, waived_on=decided, waived_from=min(decided, ticket.told_on)
        )
    return moved


def tickets() -> dict[str, Ticket]:
    """All tickets ever asked for, by request key: a row a rule and institution, a few thousand at most."""
    return {t.request_key: t for t, _ in lives().values()}


def lives() -> dict[str, tuple[Ticket, list[Ticket]]]:
    """Each ticket as it stands, and as it stood after each step (for what held at an earlier date)."""
    r = ops.work_request
    with ops.engine().begin() as connection:
        rows = connection.execute(select(r).where(r.c.kind == KIND)).all()
    found: dict[str, tuple[Ticket, list[Ticket]]] = {}
    for row in rows:
        said = json.loads(row.payload)
        if "rule_id" not in said:  # asked for by somebody else, for reasons of their own
            continue
        asked_on = local_day(_utc(row.occurred_at))
        ticket = Ticket(row.request_key, said["rule_id"], row.org_code, "open", said, asked_on, asked_on)
        found[row.request_key] = (ticket, [ticket])
    for step in _steps():
        if (known := found.get(step.request_key)) is not None:
            moved = _moved(known[0], step)
            known[1].append(moved)
            found[step.request_key] = (moved, known[1])
    return found
