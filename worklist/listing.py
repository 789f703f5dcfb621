"""What people look at: the list of what waits for them, most urgent first."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from worklist import store, tables
from worklist.store import Event, Item

_t = tables.item.c


def items(
    *,
    kind: str | None = None,
    org_codes: Iterable[str] | None = None,
    role: str | None = None,
    assignee: str | None = None,
    state: str | None = None,
    is_open: bool | None = True,
    limit: int = 50,
) -> list[Item]:
    """Items by what they are and whose they are; overdue and soonest due first, then priority, then age."""
    query = select(tables.item)
    if kind:
        query = query.where(_t.kind == kind)
    if org_codes is not None:
        query = query.where(_t.org_code.in_(list(org_codes)))
    if role:
        query = query.where(_t.owner_role == role)
    if assignee:
        query = query.where(_t.assignee == assignee)
    if state:
        query = query.where(_t.state == state)
    if is_open is not None:
        query = query.where(_t.is_open.is_(is_open))
    order = (_t.due_at.is_(None), _t.due_at, _t.priority, _t.created_at, _t.item_id)
    with store.begin() as connection:
        return [store.item_of(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def find(item_id: str) -> tuple[Item, list[Event]]:
    """One item and its log. The beginning of a number is enough if only one item begins so.

    Raises:
        MedlakeError: E903, there is none, or several.
    """
    with store.begin() as connection:
        like = select(_t.item_id).where(_t.item_id.startswith(item_id, autoescape=True)).limit(2)
        found = [row.item_id for row in connection.execute(like)]
        item = store.get(connection, found[0] if len(found) == 1 else item_id)
        return item, store.events_of(connection, item.item_id)
