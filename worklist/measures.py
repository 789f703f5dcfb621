"""Is the loop closed in time? On-time rate and median of every step, open overdue, reopened, receipt to item."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, Select, case, cast, func, select

from worklist import store, tables
from worklist.machine import kinds

_i, _c = tables.item.c, tables.item_clock.c


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(case((condition, 1), else_=0)), 0), Integer)


def _ranked(value: Any, *groups: Any) -> Select[Any]:
    """Values numbered within their group, with the group's size: medians and quantiles without a database's own."""
    return select(
        *groups,
        value.label("value"),
        func.row_number().over(partition_by=groups, order_by=value).label("n"),
        func.count().over(partition_by=groups).label("of"),
    )


def by_kind(now: datetime | None = None, *, org_code: str | None = None) -> list[dict[str, Any]]:
    """One row a kind: items, open, overdue, escalated steps, reopened, and receipt-to-item in seconds."""
    at = now or datetime.now(UTC)
    only = [] if org_code is None else [_i.org_code == org_code]
    query = (
        select(
            _i.kind,
            func.count().label("items"),
            _count(_i.is_open.is_(True)).label("open"),
            _count(_i.is_open.is_(True) & (_i.due_at < at)).label("open_overdue"),
            _count(_i.reopened > 0).label("reopened"),
        )
        .where(*only)
        .group_by(_i.kind)
        .order_by(_i.kind)
    )
    ranked = _ranked(_i.seconds_to_item, _i.kind).where(*only).subquery()
    worst = (
        select(ranked.c.kind, func.min(ranked.c.value).label("p99"))
        .where(ranked.c.n * 100 >= ranked.c.of * 99)
        .group_by(ranked.c.kind)
    )
    with store.begin() as connection:
        latency = {row.kind: row.p99 for row in connection.execute(worst)}
        found = [dict(row._mapping) for row in connection.execute(query)]
    label = {name: k.zh for name, k in kinds().items()}
    return [
        {"kind": r["kind"], "zh": label.get(r["kind"], r["kind"])}
        | {n: r[n] for n in ("items", "open", "open_overdue", "reopened")}
        | {"p99_seconds_to_item": round(float(latency[r["kind"]]), 3)}
        for r in found
    ]


def by_step(*, org_code: str | None = None) -> list[dict[str, Any]]:
    """One row a kind and step: finished, on-time rate (of those with a deadline), median minutes, escalated."""
    only = [] if org_code is None else [_c.org_code == org_code]
    done = _c.stopped_at.is_not(None)
    query = (
        select(
            _c.kind,
            _c.step,
            _count(done).label("done"),
            _count(done & _c.is_on_time.is_not(None)).label("timed"),
            _count(_c.is_on_time.is_(True)).label("on_time"),
            _count(_c.levels_fired > 0).label("escalated"),
        )
        .where(*only)
        .group_by(_c.kind, _c.step)
        .order_by(_c.kind, _c.step)
    )
    ranked = _ranked(_c.seconds, _c.kind, _c.step).where(done, *only).subquery()
    middle = (ranked.c.n * 2 >= ranked.c.of) & (ranked.c.n * 2 <= ranked.c.of + 2)
    halves = (
        select(ranked.c.kind, ranked.c.step, cast(func.avg(ranked.c.value), Float).label("median"))
        .where(middle)
        .group_by(ranked.c.kind, ranked.c.step)
    )
    with store.begin() as connection:
        median = {(row.kind, row.step): row.median for row in connection.execute(halves)}
        found = [dict(row._mapping) for row in connection.execute(query)]
    for row in found:
        timed, on_time = row.pop("timed"), row.pop("on_time")
        seconds = median.get((row["kind"], row["step"]))
        row["on_time_pct"] = round(100 * on_time / timed, 1) if timed else None
        row["median_minutes"] = None if seconds is None else round(seconds / 60, 1)
    return found
