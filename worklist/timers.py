"""What time does: each missed level of escalation once, in order, however late; then what the kind says.

All is in the database (due instants, levels fired, next instant to act), so a stopped engine goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from lake.errors import MedlakeError
from lake.log import logger
from worklist import clocks, deadlines, engine, store, tables
from worklist.machine import Deadline, Kind, Level, kind
from worklist.store import Item

_log = logger("worklist")
_c = tables.item_clock.c


def _missed(
    rule: Kind, item: Item, running: list[dict[str, Any]], now: datetime
) -> Iterator[tuple[datetime, dict[str, Any], Level]]:
    """(planned instant, clock, level) of all levels that are due and did not fire."""
    by_step = {d.step: d for d in rule.deadlines}
    for clock in running:
        deadline: Deadline | None = by_step.get(clock["step"])
        if deadline is None or clock["due_at"] is None:
            continue
        for level in clocks.levels(deadline, item)[clock["levels_fired"] :]:
            if (planned := deadlines.level_at(level, clock["due_at"])) <= now:
                yield planned, clock, level


def _mark(connection: Connection, clock: dict[str, Any], **values: Any) -> None:
    clock.update(values)
    connection.execute(
        update(tables.item_clock)
        .where(_c.item_id == clock["item_id"], _c.step == clock["step"], _c.round == clock["round"])
        .values(values)
    )


def _escalate(connection: Connection, rule: Kind, item: Item, now: datetime) -> tuple[Item, int]:
    """Fire the missed levels: the item goes to the next role, and an event says so."""
    running = [c for c in clocks.all_of(connection, item.item_id) if c["stopped_at"] is None]
    seq = store.next_seq(connection, item.item_id)
    rows: list[dict[str, Any]] = []
    owner = item.owner_role
    for planned, clock, level in sorted(_missed(rule, item, running, now), key=lambda m: m[0]):
        told = {"step": clock["step"], "level": clock["levels_fired"] + 1, "to_role": level.role}
        told |= {"planned_at": planned.isoformat(), "due_at": clock["due_at"].isoformat()}
        row = store.event_row(
            item.item_id, seq + len(rows), "escalate", item.state, now,
            from_state=item.state, channel=level.channel, data=told,
        )  # fmt: skip
        rows.append(dict(row))
        _mark(connection, clock, levels_fired=clock["levels_fired"] + 1)
        owner = level.role
    if rows:
        connection.execute(insert(tables.item_event), rows)
    due_at, next_at = clocks.next_timer(rule, item, running)
    assignee = item.assignee if owner == item.owner_role else None
    after = replace(item, owner_role=owner, assignee=assignee, due_at=due_at, next_timer_at=next_at)
    return engine.save(connection, item, after), len(rows)


def _then(connection: Connection, rule: Kind, item: Item, now: datetime) -> Item:
    """Do what the kind says about an overdue step (time-out), once; a guard may say no, and then people must act."""
    by_step = {d.step: d for d in rule.deadlines}
    for clock in clocks.all_of(connection, item.item_id):
        deadline = by_step.get(clock["step"])
        is_due = clock["due_at"] is not None and clock["due_at"] <= now and clock["stopped_at"] is None
        if deadline is None or not deadline.then or clock["is_then_done"] or not is_due:
            continue
        _mark(connection, clock, is_then_done=True)
        try:
            return engine.act_as_system(connection, item, deadline.then, at=now)
        except MedlakeError as error:
            if error.code not in ("E904", "E905", "E906", "E911"):
                raise
            running = [c for c in clocks.all_of(connection, item.item_id) if c["stopped_at"] is None]
            due_at, next_at = clocks.next_timer(rule, item, running)
            return engine.save(connection, item, replace(item, due_at=due_at, next_timer_at=next_at))
    return item


def due_items(now: datetime, limit: int) -> list[str]:
    """Items whose time has come, the longest waiting first."""
    t = tables.item.c
    query = select(t.item_id).where(t.next_timer_at <= now).order_by(t.next_timer_at, t.item_id).limit(limit)
    with store.begin() as connection:
        return [row.item_id for row in connection.execute(query)]


def fire(now: datetime | None = None, *, limit: int = 1000) -> dict[str, int]:
    """Fire what is due. Returns how many items were looked at, levels fired, actions done by the engine itself.

    Each item is one transaction: killed anywhere, the rest fires with the next call, and nothing fires twice.
    """
    at = now or datetime.now(UTC)
    counts = {"items": 0, "escalated": 0, "timed_out": 0}
    for item_id in due_items(at, limit):
        with store.begin() as connection:
            item = store.get(connection, item_id, lock=True)
            if item.next_timer_at is None or item.next_timer_at > at:
                continue  # somebody acted since
            rule = kind(item.kind)
            item, levels = _escalate(connection, rule, item, at)
            moved = _then(connection, rule, item, at)
            counts["items"] += 1
            counts["escalated"] += levels
            counts["timed_out"] += moved.state != item.state
    if counts["escalated"] or counts["timed_out"]:
        _log.warning("timers_fired", count=counts["escalated"] + counts["timed_out"], rows=counts["items"])
    return counts
