"""What people look at: the list of what waits for them, most urgent first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, func, select

from worklist import store, tables
from worklist.store import Event, Item

_t = tables.item.c


def _chosen(
    query: Select[Any],
    *,
    kind: str | Iterable[str] | None = None,
    org_codes: Iterable[str] | None = None,
    role: str | Iterable[str] | None = None,
    assignee: str | None = None,
    state: str | None = None,
    is_open: bool | None = True,
) -> Select[Any]:
    for column, wanted in ((_t.kind, kind), (_t.owner_role, role)):
        if wanted is not None and wanted != "":
            query = query.where(column.in_([wanted] if isinstance(wanted, str) else list(wanted)))
    if org_codes is not None:
        query = query.where(_t.org_code.in_(list(org_codes)))
    if assignee:
        query = query.where(_t.assignee == assignee)
    if state:
        query = query.where(_t.state == state)
    return query if is_open is None else query.where(_t.is_open.is_(is_open))


def items(*, limit: int = 50, **chosen: Any) -> list[Item]:
    """Items by what they are and whose they are; overdue and soonest due first, then priority, then age.

    Args:
        chosen: ``kind`` and ``role`` (of who owns the step), one or several; ``org_codes``, ``assignee``, ``state``,
            ``is_open`` (True without it, None for both).
    """
    order = (_t.due_at.is_(None), _t.due_at, _t.priority, _t.created_at, _t.item_id)
    query = _chosen(select(tables.item), **chosen).order_by(*order).limit(limit)
    with store.begin() as connection:
        return [store.item_of(row) for row in connection.execute(query)]


def counts(**chosen: Any) -> dict[str, int]:
    """How many items there are of each kind, chosen as for :func:`items`."""
    query = _chosen(select(_t.kind, func.count().label("items")), **chosen).group_by(_t.kind)
    with store.begin() as connection:
        return {str(row.kind): int(row.items) for row in connection.execute(query)}


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
