"""The batch ledger as pages show it: what came per feed and day, filtered, and down to each file of a batch.

Counts only, no value of a record. Whoever works for a part of the institution tree sees the lines of that part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Select, func, select

from lake import access, contracts, ops
from lake.access import Caller
from lake.errors import MedlakeError
from portal import serving
from portal.accounts import Person
from portal.corrections import names

COUNTS = ("received", "loaded", "duplicate", "quarantined")
STATES = {"committed": "已平账", "open": "处理中", "undone": "已撤销", "failed": "整批拒收"}
PAGE_DAYS = 7
#: Files of a batch that a page lists, those with most in quarantine first.
FILES = 300
_line, _head, _file = ops.ledger_line.c, ops.batch.c, ops.landing_file.c


@dataclass(frozen=True)
class Chosen:
    """A filter; empty: any. ``is_quarantined``: only lines that left records in quarantine."""

    feed: str = ""
    org: str = ""
    state: str = ""
    first: date | None = None
    last: date | None = None
    is_quarantined: bool = False


def _reach(person: Person) -> frozenset[str] | None:
    return access.scope(Caller(person.user, person.role, person.org_code))


def _narrowed(query: Select[Any], person: Person, chosen: Chosen) -> Select[Any]:
    seen = _reach(person)
    if seen is not None:
        query = query.where(_line.org_code.in_(sorted(seen)))
    if chosen.org:
        query = query.where(_line.org_code == chosen.org)
    if chosen.feed:
        query = query.where(_head.feed == chosen.feed)
    if chosen.state:
        query = query.where(_head.state == chosen.state)
    if chosen.first:
        query = query.where(_head.data_date >= chosen.first)
    if chosen.last:
        query = query.where(_head.data_date <= chosen.last)
    return query.where(_line.quarantined > 0) if chosen.is_quarantined else query


def _labels() -> dict[str, str]:
    return {name: c.label_zh for name, c in contracts.contracts().items()}


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    counts = {n: int(row[n] or 0) for n in COUNTS}  # PostgreSQL sums to a decimal
    return row | counts | {"balances": counts["received"] == sum(counts[n] for n in COUNTS[1:])}


def days(person: Person, chosen: Chosen, page: int) -> dict[str, Any]:
    """Delivery days, newest first, each with one row a feed and state.

    Returns:
        days: data_date, totals (of committed batches), rows (feed, label_zh, state, batches, files, counts, balances);
        totals of everything chosen that is committed; page, last.
    """
    source = ops.batch.outerjoin(ops.ledger_line, _head.batch_id == _line.batch_id)
    sums = [func.coalesce(func.sum(_line[n]), 0).label(n) for n in COUNTS]
    every = _narrowed(select(_head.data_date).select_from(source).group_by(_head.data_date), person, chosen)
    whole = _narrowed(select(*sums).select_from(source).where(_head.state == "committed"), person, chosen)
    with ops.engine().begin() as connection:
        there = [r.data_date for r in connection.execute(every.order_by(_head.data_date.desc()))]
        last = max(1, -(-len(there) // PAGE_DAYS))
        page = min(max(page, 1), last)
        shown = there[(page - 1) * PAGE_DAYS : page * PAGE_DAYS]
        query = (
            select(
                _head.feed, _head.data_date, _head.state, func.count(func.distinct(_head.batch_id)).label("batches"),
                func.count(func.distinct(_line.source_file)).label("files"), *sums,
            )
            .select_from(source)
            .where(_head.data_date.in_(shown))
            .group_by(_head.feed, _head.data_date, _head.state)
            .order_by(_head.feed, _head.state)
        )  # fmt: skip
        rows = [dict(r._mapping) for r in connection.execute(_narrowed(query, person, chosen))]
        total = _counted(dict(connection.execute(whole).one()._mapping))
    labels = _labels()
    rows = [_counted(r) | {"label_zh": labels.get(r["feed"], r["feed"])} for r in rows]
    found = []
    for day in shown:
        kept = [r for r in rows if r["data_date"] == day]
        done = [r for r in kept if r["state"] == "committed"]
        found.append({"data_date": day, "rows": kept, "totals": {n: sum(r[n] for r in done) for n in COUNTS}})
    return {"days": found, "totals": total, "page": page, "last": last}


def batches(person: Person, chosen: Chosen, limit: int = 100) -> list[dict[str, Any]]:
    """Batches of a choice, newest first: batch_id, feed, label_zh, data_date, state, reason, received_at, committed_at,
    files, counts, balances."""
    query = (
        select(
            _head.batch_id, _head.feed, _head.data_date, _head.state, _head.reason, _head.received_at, _head.committed_at,
            func.count(func.distinct(_line.source_file)).label("files"),
            *[func.coalesce(func.sum(_line[n]), 0).label(n) for n in COUNTS],
        )
        .select_from(ops.batch.outerjoin(ops.ledger_line, _head.batch_id == _line.batch_id))
        .group_by(*[_head[n] for n in ("batch_id", "feed", "data_date", "state", "reason", "received_at", "committed_at")])
        .order_by(_head.received_at.desc(), _head.batch_id)
        .limit(limit)
    )  # fmt: skip
    with ops.engine().begin() as connection:
        rows = [dict(r._mapping) for r in connection.execute(_narrowed(query, person, chosen))]
    labels = _labels()
    return [_counted(r) | {"label_zh": labels.get(r["feed"], r["feed"])} for r in rows]


def one(person: Person, batch_id: str) -> dict[str, Any] | None:
    """A batch with its files, those with most in quarantine first; None when there is none or nothing of it in reach.

    Returns:
        the batch as :func:`batches` has it; lines (source_file, table_zh, org_code, org_short_name, bytes, counts,
        balances); more (lines left out); refused (files of a batch that was refused as a whole).
    """
    seen = _reach(person)
    mine = select(_line.batch_id).where(_line.batch_id == batch_id)
    if seen is not None:
        mine = mine.where(_line.org_code.in_(sorted(seen)))
    of_file = (_file.batch_id == _line.batch_id) & (_file.path == _line.source_file)
    with ops.engine().begin() as connection:
        head = connection.execute(select(ops.batch).where(_head.batch_id == batch_id)).one_or_none()
        landed = select(_file.path, _file.org_code, _file.bytes).where(_file.batch_id == batch_id)
        if seen is not None:
            landed = landed.where(_file.org_code.in_(sorted(seen)))
        files = [dict(r._mapping) for r in connection.execute(landed.order_by(_file.path).limit(FILES))]
        if head is None or (
            seen is not None and not files and connection.execute(mine.limit(1)).first() is None
        ):
            return None
        query = select(ops.ledger_line, _file.bytes).select_from(
            ops.ledger_line.outerjoin(ops.landing_file, of_file)
        )
        query = query.where(_line.batch_id == batch_id)
        if seen is not None:
            query = query.where(_line.org_code.in_(sorted(seen)))
        order = (_line.quarantined.desc(), _line.source_file, _line.table_name)
        lines = [
            _counted(dict(r._mapping)) for r in connection.execute(query.order_by(*order).limit(FILES + 1))
        ]
        sums = select(*[func.coalesce(func.sum(_line[n]), 0).label(n) for n in COUNTS]).where(
            _line.batch_id == batch_id
        )
        if seen is not None:
            sums = sums.where(_line.org_code.in_(sorted(seen)))
        total = _counted(dict(connection.execute(sums).one()._mapping))
    known = contracts.contracts().get(head.feed)
    tables = {n: t.label_zh for n, t in known.tables.items()} if known else {}
    short = names()
    for line in lines:
        line["table_zh"] = tables.get(
            line["table_name"], "整个文件" if line["table_name"] == "file" else line["table_name"]
        )
        line["org_short_name"] = short.get(line["org_code"], line["org_code"])
    return dict(head._mapping) | total | {
        "label_zh": _labels().get(head.feed, head.feed), "lines": lines[:FILES], "is_cut": len(lines) > FILES,
        "files": [] if lines else files,
    }  # fmt: skip


def lateness() -> dict[str, int] | None:
    """How many sources are silent and late at the newest publication; None before there is one."""
    try:
        if not serving.has("gold", "ingest_status"):
            return None
    except MedlakeError:  # nothing was published yet
        return None
    (row,) = serving.rows(
        "SELECT count(*) FILTER (is_silent) AS silent, count(*) FILTER (NOT is_silent AND lag_days > 0) AS late "
        "FROM gold.ingest_status"
    )
    return {k: int(v) for k, v in row.items()}
