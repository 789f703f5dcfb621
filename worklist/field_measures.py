"""One kind of item measured by a field of its payload or by institution: what waits, what is late, how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Float, String, case, cast, func, select, type_coerce

from worklist import store, tables
from worklist.machine import kind

_i, _c, _e = tables.item.c, tables.item_clock.c, tables.item_event.c


def _field(name: str, dialect: str) -> ColumnElement[Any]:
    """A field of the payload as text; SQLite reads JSON out of text, PostgreSQL wants the type."""
    payload = cast(_i.payload, JSON) if dialect == "postgresql" else type_coerce(_i.payload, JSON)
    return payload[name].as_string()


def _sum(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def by_field(
    kind_name: str,
    field: str,
    *,
    step: str,
    done_by: str,
    now: datetime | None = None,
    org_code: str | Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """One row a value of ``field`` (``org_code``, ``state``, ``severity``, or a name in the payload; None: not given).

    Args:
        step: the clock that measures the work; ``done_by`` the action that ended it well.
        org_code: one institution or several; None: all.

    Returns:
        rows of ``value``, ``items``, ``open``, ``overdue``, ``reopened`` (times), ``done`` (rounds ended by ``done_by``)
        and ``mean_hours`` of those rounds (None without any).

    Raises:
        MedlakeError: E902, no such kind.
    """
    at = now or datetime.now(UTC)
    name = kind(kind_name).kind
    with store.begin() as connection:
        own = {"org_code": _i.org_code, "state": _i.state, "severity": _i.severity}
        value = cast(own[field] if field in own else _field(field, connection.dialect.name), String).label(
            "value"
        )
        of = [org_code] if isinstance(org_code, str) else org_code
        only = [_i.kind == name] + ([] if of is None else [_i.org_code.in_(list(of))])
        counted = (
            select(
                value,
                func.count().label("items"),
                _sum(_i.is_open.is_(True)).label("open"),
                _sum(_i.is_open.is_(True) & (_i.due_at < at)).label("overdue"),
                func.coalesce(func.sum(_i.reopened), 0).label("reopened"),
            )
            .where(*only)
            .group_by(value)
            .order_by(value)
        )
        took = (
            select(value, func.count().label("done"), cast(func.avg(_c.seconds), Float).label("mean"))
            .join(tables.item_clock, (_c.item_id == _i.item_id) & (_c.step == step))
            .join(
                tables.item_event,
                (_e.item_id == _i.item_id) & (_e.at == _c.stopped_at) & (_e.action == done_by),
            )
            .where(*only)
            .group_by(value)
        )
        means = {row.value: (row.done, row.mean) for row in connection.execute(took)}
        found = [dict(row._mapping) for row in connection.execute(counted)]
    for row in found:
        done, mean = means.get(row["value"], (0, None))
        row |= {n: int(row[n]) for n in ("items", "open", "overdue", "reopened")}
        row |= {"done": int(done), "mean_hours": None if mean is None else round(mean / 3600, 2)}
    return found
