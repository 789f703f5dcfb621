"""The engine: a command moves an item along its kind's state machine, once, guarded, in one SQL transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from lake import audit, work
from lake.errors import MedlakeError
from lake.log import logger
from worklist import anonymity, clocks, guards, store, tables
from worklist.conditions import as_text, is_given
from worklist.machine import ANONYMOUS, SYSTEM, Kind, Transition, kind
from worklist.making import item_id_of
from worklist.store import Event, Item

_log = logger("worklist")
_i = tables.item.c


def save(connection: Connection, before: Item, after: Item) -> Item:
    """Write an item if it is still the version that was read; its version goes up by one.

    Raises:
        MedlakeError: E913, somebody else was faster.
    """
    values = asdict(replace(after, version=before.version + 1))
    values["payload"] = store.as_json(after.payload)
    values.pop("item_id")
    changed = connection.execute(
        update(tables.item).where(_i.item_id == before.item_id, _i.version == before.version).values(values)
    )
    if changed.rowcount != 1:
        raise MedlakeError("E913", item_id=before.item_id, version="?", expected=before.version)
    return replace(after, version=before.version + 1)


def _done_before(connection: Connection, item_id: str, action: str, command_key: str | None) -> bool:
    """Whether this very command was done already.

    Raises:
        MedlakeError: E914, its key was used for another command.
    """
    if command_key is None:
        return False
    query = select(tables.item_event).where(tables.item_event.c.command_key == command_key)
    row = connection.execute(query).one_or_none()
    if row is None:
        return False
    if (row.item_id, row.action) != (item_id, action):
        raise MedlakeError("E914", command_key=command_key)
    return True


def _same_version(item: Item, expected: int | None) -> None:
    if expected is not None and expected != item.version:
        raise MedlakeError("E913", item_id=item.item_id, version=item.version, expected=expected)


def apply(
    connection: Connection,
    rule: Kind,
    item: Item,
    by: Transition,
    *,
    at: datetime,
    data: Mapping[str, Any],
    **event: Any,
) -> Item:
    """Move an item by a transition that is allowed: new state, owner, clocks, one event."""
    target = rule.states[by.target]
    payload = item.payload | dict(data)
    # the engine's word to an item that stays where it is (new counts) takes it from nobody
    stays = target.name == item.state and by.roles == (SYSTEM,)
    moved = replace(
        item,
        state=target.name,
        is_open=not target.terminal,
        payload=payload,
        org_code=as_text(payload.get(by.hand_to)) or item.org_code if by.hand_to else item.org_code,
        owner_role=item.owner_role if stays else target.owner,
        assignee=item.assignee if stays or target.owner == item.owner_role else None,
        entered_at=at if target.name != item.state else item.entered_at,
        closed_at=at if target.terminal else None,
        reopened=item.reopened + by.reopen,
    )
    running = clocks.move(connection, rule, moved, at, restart=by.reopen)
    due_at, next_at = clocks.next_timer(rule, moved, running)
    saved = save(connection, item, replace(moved, due_at=due_at, next_timer_at=next_at))
    _write(connection, saved, by.action, at, from_state=item.state, data=dict(data), **event)
    _log.info("item_moved", state=saved.state, step=by.action, org_code=saved.org_code)
    return saved


def _write(connection: Connection, item: Item, action: str, at: datetime, **values: Any) -> None:
    seq = store.next_seq(connection, item.item_id)
    row = store.event_row(item.item_id, seq, action, item.state, at, **values)
    connection.execute(insert(tables.item_event), [dict(row)])


def act(
    item_id: str,
    action: str,
    *,
    actor: str,
    role: str,
    command_key: str | None = None,
    expected_version: int | None = None,
    reason: str = "",
    channel: str | None = None,
    evidence: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Item:
    """Do a command of a person.

    Args:
        command_key: the caller's name for this command: the same key again changes nothing and returns the item.
        expected_version: refuse if the item is no longer the one that the person saw.
        data: fields of the step; they stay with the item.

    Raises:
        MedlakeError: E903 no such item; E904 to E912 a guard refuses; E913 the item has changed; E914, E915.
    """
    guards.person_role(role)
    now = at or datetime.now(UTC)
    with store.begin() as connection:
        item = store.get(connection, item_id, lock=True)
        if _done_before(connection, item_id, action, command_key):
            return item
        _same_version(item, expected_version)
        rule = kind(item.kind)
        by = guards.possible(rule, item, action, role)
        given = {k: as_text(v) if isinstance(v, bool) else v for k, v in (data or {}).items()}
        if item.is_anonymous:
            given = anonymity.without_reporter(rule, given)
        guards.check(
            rule,
            item,
            by,
            actor=actor,
            at=now,
            reason=reason,
            evidence=evidence,
            data=given,
            log=store.events_of(connection, item_id),
        )
        shown = anonymity.shown_actor(rule, item.is_anonymous, actor, role)
        saved = apply(
            connection,
            rule,
            item,
            by,
            at=now,
            data=given,
            actor=shown,
            role=role,
            reason=reason.strip() or None,
            channel=channel,
            evidence=[e for e in evidence if is_given(e)],
            command_key=command_key,
            is_decision=by.decision,
        )
        _answer(connection, saved, by, given, actor=shown, reason=reason, at=now)
        audit.record(
            "worklist",
            actor=shown,
            purpose=rule.kind,
            tables=["worklist_item"],
            fields=sorted(given),
            rows=1,
            result=by.action,
            connection=connection,
            item_id=item_id,
            role=role,
        )
        return saved


def _answer(
    connection: Connection,
    item: Item,
    by: Transition,
    given: Mapping[str, Any],
    *,
    actor: str,
    reason: str,
    at: datetime,
) -> None:
    """Tell the room that asked; of an anonymous item it learns neither who nor why, as in ``decisions``."""
    known = not item.is_anonymous
    work.answer(
        connection,
        work.Answer(
            request_key=item.request_key,
            seq=store.next_seq(connection, item.item_id) - 1,
            kind=item.kind,
            action=by.action,
            to_state=item.state,
            actor=actor if known else ANONYMOUS,
            reason=(reason.strip() or None) if known else None,
            data=given,
            answered_at=at,
        ),
    )


def act_as_system(
    connection: Connection,
    item: Item,
    action: str,
    *,
    at: datetime,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> Item:
    """What the engine does itself (a time-out, a recheck), in the caller's transaction; no decision of a person.

    Raises:
        MedlakeError: E904, E905, E906, E911: it cannot be done now.
    """
    rule = kind(item.kind)
    by = guards.possible(rule, item, action, SYSTEM)
    log = store.events_of(connection, item.item_id)
    given = dict(data or {})
    guards.check(rule, item, by, actor=SYSTEM, at=at, reason=reason, evidence=(), data=given, log=log)
    return apply(connection, rule, item, by, at=at, data=given, reason=reason or None)


def settle(
    request_key: str,
    action: str,
    *,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Item | None:
    """What a later run finds out about an item (a feed came back, a check no longer fires), done by the engine.

    Returns:
        the item, moved if its state lets the engine do that now; None when nobody ever asked under this key.
    """
    with store.begin() as connection:
        query = select(_i.item_id).where(_i.item_id == item_id_of(request_key))
        if connection.execute(query).one_or_none() is None:
            return None
        item = store.get(connection, item_id_of(request_key), lock=True)
        by = kind(item.kind).find(action, item.state)
        if by is None or SYSTEM not in by.roles:
            return item
        return act_as_system(connection, item, action, at=at or datetime.now(UTC), reason=reason, data=data)


def assign(
    item_id: str,
    assignee: str,
    *,
    actor: str,
    role: str,
    owner_id: str | None = None,
    command_key: str | None = None,
    expected_version: int | None = None,
    at: datetime | None = None,
) -> Item:
    """Give an item to a person (``take``: to oneself). Its state stays; ``owner_id`` is who answers for it.

    Raises:
        MedlakeError: E903, E905, E913, E914, E915; E918, it is closed.
    """
    guards.person_role(role)
    now = at or datetime.now(UTC)
    name = "take" if actor == assignee else "assign"
    with store.begin() as connection:
        item = store.get(connection, item_id, lock=True)
        if _done_before(connection, item_id, name, command_key):
            return item
        _same_version(item, expected_version)
        if not item.is_open:
            raise MedlakeError("E918", item_id=item_id)
        rule = kind(item.kind)
        allowed = {item.owner_role, *(r for t in rule.actions(item.state) for r in t.roles)} - {SYSTEM}
        if name == "take" and role not in allowed:
            raise MedlakeError("E905", role=role, action=name, allowed=guards.role_names(sorted(allowed)))
        saved = save(connection, item, replace(item, assignee=assignee, owner_id=owner_id or item.owner_id))
        _write(
            connection,
            saved,
            name,
            now,
            from_state=item.state,
            actor=anonymity.shown_actor(rule, item.is_anonymous, actor, role),
            role=role,
            data={"assignee": assignee} | ({"owner_id": owner_id} if owner_id else {}),
            command_key=command_key,
        )
        return saved


def log_of(item_id: str) -> list[Event]:
    """The event log of an item, oldest first."""
    with store.begin() as connection:
        store.get(connection, item_id)
        return store.events_of(connection, item_id)
