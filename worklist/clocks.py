"""The clocks of an item: started when it enters a step, stopped when it leaves, never twice for one stay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from lake.local_time import SHANGHAI
from worklist import deadlines, tables
from worklist.conditions import lets
from worklist.machine import Deadline, Kind, Level
from worklist.store import Item

_c = tables.item_clock.c


def rows_for(
    kind: Kind, item: Item, at: datetime, rounds: dict[str, int], running: set[str]
) -> list[dict[str, Any]]:
    """Rows of the clocks that start when an item stands in its state at an instant.

    Args:
        rounds: how many rounds each step had before.
        running: steps whose clock runs already; it goes on.
    """
    made: list[dict[str, Any]] = []
    for deadline in kind.clocks(item.state):
        if deadline.step in running:
            continue
        base = deadlines.base_of(
            deadline, entered=at, occurred=item.occurred_at, received=item.received_at, facts=item.facts
        )
        if rounds.get(deadline.step) and deadline.base == "receipt":
            base = at  # a reopened item begins anew: its first receipt is long past
        limit = deadlines.limit_of(
            kind.kind, deadline, item.org_code, item.facts, base.astimezone(SHANGHAI).date()
        )
        made.append(
            {
                "item_id": item.item_id,
                "step": deadline.step,
                "round": rounds.get(deadline.step, 0) + 1,
                "kind": kind.kind,
                "org_code": item.org_code,
                "started_at": at,
                "due_at": deadlines.due(limit, base, item.org_code, item.facts) if limit else None,
                "stopped_at": None,
                "seconds": None,
                "is_on_time": None,
                "levels_fired": 0,
                "is_then_done": False,
            }
        )
    return made


def all_of(connection: Connection, item_id: str) -> list[dict[str, Any]]:
    """All clocks of an item, oldest first."""
    query = select(tables.item_clock).where(_c.item_id == item_id).order_by(_c.started_at, _c.step, _c.round)
    return [dict(row._mapping) for row in connection.execute(query)]


def levels(deadline: Deadline, item: Item) -> list[Level]:
    """The levels of escalation that count for an item, in order of time."""
    fitting = [x for x in deadline.levels if lets(x.condition, x.unless, item.facts)]
    return sorted(fitting, key=lambda x: timedelta(**{x.unit: x.after}))


def next_timer(
    kind: Kind, item: Item, running: list[dict[str, Any]]
) -> tuple[datetime | None, datetime | None]:
    """(earliest due, next instant at which the engine must act) of the running clocks."""
    by_step = {d.step: d for d in kind.deadlines}
    timers: list[datetime] = []
    for clock in running:
        deadline, due_at = by_step.get(clock["step"]), clock["due_at"]
        if deadline is None or due_at is None:
            continue
        left = levels(deadline, item)[clock["levels_fired"] :]
        timers += [deadlines.level_at(left[0], due_at)] if left else []
        timers += [due_at] if deadline.then and not clock["is_then_done"] else []
    return min((c["due_at"] for c in running if c["due_at"]), default=None), min(timers, default=None)


def move(
    connection: Connection, kind: Kind, item: Item, at: datetime, *, restart: bool
) -> list[dict[str, Any]]:
    """Stop the clocks that do not run in the item's (new) state, start those that do. Returns the running ones.

    Args:
        restart: the item was reopened: no clock of before goes on.
    """
    present = all_of(connection, item.item_id)
    rounds: dict[str, int] = {}
    for clock in present:
        rounds[clock["step"]] = max(rounds.get(clock["step"], 0), clock["round"])
    steps = {d.step for d in kind.clocks(item.state)}
    going = [c for c in present if c["stopped_at"] is None]
    kept = [c for c in going if c["step"] in steps and not restart]
    for clock in going:  # a handful of clocks of one item
        if clock not in kept:
            seconds = (at - clock["started_at"]).total_seconds()
            on_time = None if clock["due_at"] is None else at <= clock["due_at"]
            connection.execute(
                update(tables.item_clock)
                .where(_c.item_id == item.item_id, _c.step == clock["step"], _c.round == clock["round"])
                .values(stopped_at=at, seconds=seconds, is_on_time=on_time)
            )
    started = rows_for(kind, item, at, rounds, {c["step"] for c in kept})
    if started:
        connection.execute(insert(tables.item_clock), started)
    return kept + started
