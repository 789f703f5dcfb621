"""New items: many at once from requests, one by a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from lake.crypto import sm3_hex
from worklist import anonymity, clocks, guards, store, tables
from worklist.conditions import as_text
from worklist.machine import SYSTEM, Kind, kind
from worklist.store import Item


@dataclass(frozen=True)
class Asked:
    """What an item is made of. ``received_at`` is when the platform knew it, ``occurred_at`` when it happened."""

    request_key: str
    kind: str
    org_code: str
    severity: str
    subject: str
    occurred_at: datetime
    received_at: datetime
    origin: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    actor: str = SYSTEM
    role: str = SYSTEM


def item_id_of(request_key: str) -> str:
    """The same request is the same item on every machine."""
    return "W" + sm3_hex(request_key.encode())[:20]


def _priority(rule: Kind, payload: Mapping[str, Any]) -> int:
    """The kind's, or lower where the kind ranks its items by a field; never more urgent than the kind is."""
    said = as_text(payload.get(rule.priority_field)) if rule.priority_field else ""
    return min(max(int(said), rule.priority), 9) if said.isascii() and said.isdigit() else rule.priority


def _item(asked: Asked, rule: Kind, at: datetime) -> Item:
    payload = {k: as_text(v) if isinstance(v, bool) else v for k, v in asked.payload.items()}
    anonymous = anonymity.is_anonymous(rule, payload)
    if anonymous:
        payload = anonymity.without_reporter(rule, payload)
    state = rule.states[rule.initial]
    return Item(
        item_id=item_id_of(asked.request_key),
        request_key=asked.request_key,
        kind=rule.kind,
        subject=asked.subject,
        org_code=asked.org_code,
        severity=asked.severity,
        state=state.name,
        is_open=True,
        priority=_priority(rule, payload),
        owner_role=state.owner,
        owner_id=None if anonymous else as_text(payload.get("owner_id")) or None,
        assignee=None,
        is_anonymous=anonymous,
        origin=asked.origin,
        payload=payload,
        occurred_at=asked.occurred_at.astimezone(UTC),
        received_at=asked.received_at.astimezone(UTC),
        created_at=at,
        entered_at=at,
        due_at=None,
        next_timer_at=None,
        closed_at=None,
        reopened=0,
        seconds_to_item=max(0.0, (at - asked.received_at).total_seconds()),
        version=1,
    )


def insert_all(connection: Connection, asked: Iterable[Asked], at: datetime) -> list[Item]:
    """Insert the items that are not there yet, with their clocks and first events. Returns the new ones."""
    wanted = {item_id_of(a.request_key): a for a in asked}
    query = select(tables.item.c.item_id).where(tables.item.c.item_id.in_(list(wanted)))
    known = {row.item_id for row in connection.execute(query)}
    made: list[Item] = []
    running: list[dict[str, Any]] = []
    events: list[Mapping[str, Any]] = []
    for item_id, one in wanted.items():  # each item by its own kind's rules; at most a few hundred a call
        if item_id in known:
            continue
        rule = kind(one.kind)
        item = _item(one, rule, at)
        started = clocks.rows_for(rule, item, at, {}, set())
        due_at, next_at = clocks.next_timer(rule, item, started)
        made.append(replace(item, due_at=due_at, next_timer_at=next_at))
        running += started
        actor = anonymity.shown_actor(rule, item.is_anonymous, one.actor, one.role)
        events.append(store.event_row(item_id, 1, "create", item.state, at, actor=actor, role=one.role))
    if made:
        rows = [asdict(i) | {"payload": store.as_json(i.payload)} for i in made]
        connection.execute(insert(tables.item), rows)
        connection.execute(insert(tables.item_event), [dict(e) for e in events])
    if running:
        connection.execute(insert(tables.item_clock), running)
    return made


def create(
    kind_name: str,
    *,
    org_code: str,
    subject: str,
    actor: str,
    role: str,
    request_key: str,
    severity: str = "warn",
    payload: Mapping[str, Any] | None = None,
    occurred_at: datetime | None = None,
    at: datetime | None = None,
) -> Item:
    """A person reports something. The same ``request_key`` again returns the item that is there.

    Raises:
        MedlakeError: E902 no such kind; E915 no such role.
    """
    guards.person_role(role)
    now = at or datetime.now(UTC)
    asked = Asked(
        request_key=request_key,
        kind=kind(kind_name).kind,
        org_code=org_code,
        severity=severity,
        subject=subject,
        occurred_at=occurred_at or now,
        received_at=now,
        origin="person",
        payload=payload or {},
        actor=actor,
        role=role,
    )
    with store.begin() as connection:
        insert_all(connection, [asked], now)
        return store.get(connection, item_id_of(request_key))
