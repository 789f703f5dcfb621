"""The batch ledger: a batch balances or fails, and nothing of it is visible before its line commits.

Life of a batch: ``begin`` (pins the versions of the tables it will write) -> the room writes bronze, quarantine
and silver -> ``commit`` (checks every line, then publishes the new versions in one SQL transaction) or ``undo``
(brings every table back to its pinned version). A killed batch stays ``open``: ``open_batches`` finds it, and
its feed must finish or undo it before the next one begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from lake import lineage, ops, tables
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("lake")


@dataclass(frozen=True)
class Line:
    """What became of one file's records for one table. All four are row counts."""

    table_name: str
    org_code: str
    source_file: str
    received: int
    loaded: int
    duplicate: int
    quarantined: int

    @property
    def balances(self) -> bool:
        return self.received == self.loaded + self.duplicate + self.quarantined


@dataclass(frozen=True)
class Announced:
    """A source's own count of what one file holds (``table_name`` empty: all of it), and what was received."""

    source_file: str
    table_name: str
    what: str
    announced: int
    received: int


@dataclass(frozen=True)
class Batch:
    """One delivery of a feed; ``pinned`` maps each table it writes to the version before (-1: none yet)."""

    batch_id: str
    feed: str
    data_date: date
    state: str
    received_at: datetime
    pinned: dict[str, int]


def _batch(row: Any) -> Batch:
    at = row.received_at if row.received_at.tzinfo else row.received_at.replace(tzinfo=UTC)
    return Batch(row.batch_id, row.feed, row.data_date, row.state, at, json.loads(row.pinned))


def get(batch_id: str) -> Batch | None:
    with ops.engine().begin() as connection:
        row = connection.execute(select(ops.batch).where(ops.batch.c.batch_id == batch_id)).one_or_none()
    return _batch(row) if row else None


def open_batches(feed: str | None = None) -> list[Batch]:
    """Batches (of a feed) that were begun and neither committed nor undone: they are at work, or were killed."""
    query = select(ops.batch).where(ops.batch.c.state == "open")
    if feed is not None:
        query = query.where(ops.batch.c.feed == feed)
    with ops.engine().begin() as connection:
        return [_batch(row) for row in connection.execute(query.order_by(ops.batch.c.received_at))]


def begin(
    batch_id: str,
    feed: str,
    data_date: date,
    *,
    contract_version: str,
    writes: Iterable[str],
    received_at: datetime | None = None,
    files: Iterable[Mapping[str, Any]] = (),
) -> Batch:
    """Open a batch, or take up the one of the same id that was killed.

    A delivery whose batch was undone is tried again under the next attempt's id (``<batch_id>.2``): the Delta
    transactions of the undone attempt stay in the tables' logs and must not be taken for this one's.

    Args:
        batch_id: deterministic over what is delivered, so the same delivery is the same batch.
        writes: tables that the batch may write.
        files: rows of ``landing_file`` without ``batch_id`` and ``received_at``.

    Returns:
        the batch; its state is ``committed`` when the delivery is already in, and there is nothing to do.
    """
    now = received_at or datetime.now(UTC)
    with ops.engine().begin() as connection:
        attempts = select(ops.batch).where(
            (ops.batch.c.batch_id == batch_id) | ops.batch.c.batch_id.like(f"{batch_id}.%")
        )
        found = connection.execute(attempts).all()
        for row in found:
            if row.state in ("open", "committed"):
                return _batch(row)
        if found:
            batch_id = f"{batch_id}.{len(found) + 1}"
        pinned = {name: tables.version(name) if tables.exists(name) else -1 for name in sorted(set(writes))}
        values = {
            "feed": feed,
            "data_date": data_date,
            "state": "open",
            "received_at": now,
            "contract_version": contract_version,
            "pinned": json.dumps(pinned),
            "reason": None,
        }
        connection.execute(insert(ops.batch).values(batch_id=batch_id, **values))
        rows = [dict(f) | {"batch_id": batch_id, "received_at": now} for f in files]
        if rows:
            connection.execute(insert(ops.landing_file), rows)
    return Batch(batch_id, feed, data_date, "open", now, pinned)


def fail(
    batch_id: str,
    feed: str,
    data_date: date,
    *,
    contract_version: str,
    reason: str,
    files: Iterable[Mapping[str, Any]],
    announced: Iterable[Announced] = (),
) -> None:
    """Record a delivery that is refused as a whole: a batch with its files, without a line, visible nowhere."""
    now = datetime.now(UTC)
    with ops.engine().begin() as connection:
        if connection.execute(select(ops.batch).where(ops.batch.c.batch_id == batch_id)).one_or_none():
            return
        connection.execute(
            insert(ops.batch).values(
                batch_id=batch_id,
                feed=feed,
                data_date=data_date,
                state="failed",
                received_at=now,
                contract_version=contract_version,
                pinned="{}",
                reason=reason,
            )
        )
        connection.execute(
            insert(ops.landing_file), [dict(f) | {"batch_id": batch_id, "received_at": now} for f in files]
        )
        _keep_announced(connection, batch_id, announced)
    _log.error("batch_failed", batch_id=batch_id, feed=feed, data_date=data_date, reason=reason)


def failed(feed: str, data_date: date) -> list[str]:
    """Ids of the batches of a feed and delivery date that were refused as a whole."""
    query = select(ops.batch.c.batch_id).where(
        ops.batch.c.feed == feed, ops.batch.c.data_date == data_date, ops.batch.c.state == "failed"
    )
    with ops.engine().begin() as connection:
        return [row.batch_id for row in connection.execute(query.order_by(ops.batch.c.batch_id))]


def known_files(feed: str, sha256: Iterable[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Files of committed batches among the given hashes: (sha256, org_code) -> (batch_id, landing path)."""
    wanted = list(sha256)
    found: dict[tuple[str, str], tuple[str, str]] = {}
    with ops.engine().begin() as connection:
        for start in range(0, len(wanted), 500):
            query = (
                select(ops.landing_file)
                .join(ops.batch, ops.batch.c.batch_id == ops.landing_file.c.batch_id)
                .where(
                    ops.landing_file.c.feed == feed,
                    ops.batch.c.state == "committed",
                    ops.landing_file.c.sha256.in_(wanted[start : start + 500]),
                )
            )
            for row in connection.execute(query):
                found[(row.sha256, row.org_code)] = (row.batch_id, row.path)
    return found


def attempts(delivery_id: str) -> list[Batch]:
    """All batches of one delivery: the first attempt and those numbered after undone ones, oldest first."""
    query = select(ops.batch).where(
        (ops.batch.c.batch_id == delivery_id) | ops.batch.c.batch_id.like(f"{delivery_id}.%")
    )
    with ops.engine().begin() as connection:
        return [_batch(row) for row in connection.execute(query.order_by(ops.batch.c.received_at))]


def committed(feed: str, data_date: date) -> list[str]:
    """Ids of the committed batches of a feed and delivery date, oldest first."""
    query = select(ops.batch.c.batch_id).where(
        ops.batch.c.feed == feed, ops.batch.c.data_date == data_date, ops.batch.c.state == "committed"
    )
    with ops.engine().begin() as connection:
        return [row.batch_id for row in connection.execute(query.order_by(ops.batch.c.committed_at))]


def origins(feed: str, data_date: date) -> set[tuple[str, str]]:
    """(origin, sha256) of every file that committed batches of a feed and delivery date brought in."""
    query = (
        select(ops.landing_file.c.origin, ops.landing_file.c.sha256)
        .join(ops.batch, ops.batch.c.batch_id == ops.landing_file.c.batch_id)
        .where(ops.batch.c.feed == feed, ops.batch.c.data_date == data_date, ops.batch.c.state == "committed")
    )
    with ops.engine().begin() as connection:
        return {(row.origin, row.sha256) for row in connection.execute(query)}


def lines_of(batch_id: str) -> list[Line]:
    query = select(ops.ledger_line).where(ops.ledger_line.c.batch_id == batch_id)
    with ops.engine().begin() as connection:
        rows = connection.execute(query).all()
    return [
        Line(r.table_name, r.org_code, r.source_file, r.received, r.loaded, r.duplicate, r.quarantined)
        for r in rows
    ]


def set_visible(connection: Connection, name: str, at: int, batch_id: str | None) -> None:
    """Let readers see a table at a version; part of the caller's SQL transaction."""
    changed = connection.execute(
        update(ops.visible_version)
        .where(ops.visible_version.c.table_name == name)
        .values(version=at, batch_id=batch_id)
    )
    if changed.rowcount == 0:
        connection.execute(insert(ops.visible_version).values(table_name=name, version=at, batch_id=batch_id))


def _keep_announced(connection: Connection, batch_id: str, announced: Iterable[Announced]) -> None:
    rows = [{"batch_id": batch_id, "seq": n} | a.__dict__ for n, a in enumerate(announced)]
    connection.execute(delete(ops.announcement).where(ops.announcement.c.batch_id == batch_id))
    if rows:
        connection.execute(insert(ops.announcement), rows)


def announced(batch_id: str) -> list[Announced]:
    """What the sources of a batch announced, in the order of its files."""
    t = ops.announcement.c
    query = select(t.source_file, t.table_name, t.what, t.announced, t.received).where(t.batch_id == batch_id)
    with ops.engine().begin() as connection:
        return [Announced(*row) for row in connection.execute(query.order_by(t.seq))]


def announced_by_source(until: date) -> dict[tuple[str, str], dict[str, int]]:
    """Per feed and delivering institution: ``announced_files`` (whose sources say what they hold; in), ``refused_files``
    (that did not hold it, and are not in)."""
    told, head, landed = ops.announcement.c, ops.batch.c, ops.landing_file.c
    of_file = (landed.batch_id == told.batch_id) & (landed.path == told.source_file)
    query = (
        select(
            head.feed, landed.org_code, head.state, func.count(func.distinct(landed.sha256)).label("files")
        )
        .select_from(
            ops.announcement.join(ops.batch, head.batch_id == told.batch_id).join(ops.landing_file, of_file)
        )
        .where(head.state.in_(("committed", "failed")), head.data_date <= until)
        .group_by(head.feed, landed.org_code, head.state)
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    with ops.engine().begin() as connection:
        for row in connection.execute(query):
            counts = found.setdefault((row.feed, row.org_code), {"announced_files": 0, "refused_files": 0})
            counts["announced_files" if row.state == "committed" else "refused_files"] = int(row.files)
    return found


def commit(batch: Batch, lines: Iterable[Line], announced: Iterable[Announced] = ()) -> dict[str, int]:
    """Check every line and make the batch visible, in one SQL transaction. Returns its totals.

    Raises:
        MedlakeError: E105, a line does not balance; every table is back at its pinned version.
    """
    kept = list(lines)
    total = {
        k: sum(getattr(line, k) for line in kept) for k in ("received", "loaded", "duplicate", "quarantined")
    }
    if not all(line.balances for line in kept):
        undo(batch, reason="E105")
        raise MedlakeError("E105", batch_id=batch.batch_id, **total)
    written = {name: tables.version(name) for name in batch.pinned if tables.exists(name)}
    lineage.writes(written, _rows_by_table(written, kept))
    with ops.engine().begin() as connection:
        connection.execute(delete(ops.ledger_line).where(ops.ledger_line.c.batch_id == batch.batch_id))
        if kept:
            connection.execute(
                insert(ops.ledger_line), [{"batch_id": batch.batch_id} | line.__dict__ for line in kept]
            )
        _keep_announced(connection, batch.batch_id, announced)
        for name, at in written.items():
            set_visible(connection, name, at, batch.batch_id)
        connection.execute(
            update(ops.batch)
            .where(ops.batch.c.batch_id == batch.batch_id)
            .values(state="committed", committed_at=datetime.now(UTC))
        )
    _log.info("batch_committed", batch_id=batch.batch_id, feed=batch.feed, data_date=batch.data_date, **total)
    return total


def _rows_by_table(written: Iterable[str], lines: Iterable[Line]) -> dict[str, int]:
    """Rows that went into each bronze table, for the lineage of the step."""
    bronze = {name.rsplit("/", 1)[1]: name for name in written if name.startswith("bronze/")}
    found: dict[str, int] = {}
    for line in lines:
        if name := bronze.get(line.table_name):
            found[name] = found.get(name, 0) + line.loaded
    return found


def show(name: str) -> None:
    """Let readers see a table's newest version: its content is the same, only its files changed."""
    at = tables.version(name)
    with ops.engine().begin() as connection:
        set_visible(connection, name, at, None)


def undo(batch: Batch, *, reason: str) -> None:
    """Bring every table of an uncommitted batch back to where it was, and close the batch as ``undone``."""
    for name, at in batch.pinned.items():
        if not tables.exists(name):
            continue
        if at < 0:
            tables.drop(name)
        else:
            tables.restore(name, at)
    with ops.engine().begin() as connection:
        for name, at in batch.pinned.items():
            if at >= 0 and tables.exists(name):
                set_visible(connection, name, tables.version(name), None)
        connection.execute(
            update(ops.batch)
            .where(ops.batch.c.batch_id == batch.batch_id)
            .values(state="undone", reason=reason)
        )
    _log.error(
        "batch_undone", batch_id=batch.batch_id, feed=batch.feed, data_date=batch.data_date, reason=reason
    )


def visible(prefix: str = "silver/") -> dict[str, int]:
    """The versions that readers may see, by table. Waits for no writer, so it may be asked inside a transaction."""
    query = select(ops.visible_version).where(ops.visible_version.c.table_name.like(prefix + "%"))
    with ops.reader().connect() as connection:
        return {row.table_name: row.version for row in connection.execute(query)}


def totals(data_date: date | None = None) -> dict[str, int]:
    """Received, loaded, duplicate and quarantined rows of all committed batches (of one delivery date)."""
    names = ("received", "loaded", "duplicate", "quarantined")
    line, head = ops.ledger_line.c, ops.batch.c
    query = (
        select(*[func.coalesce(func.sum(line[n]), 0) for n in names])
        .select_from(ops.ledger_line.join(ops.batch, head.batch_id == line.batch_id))
        .where(head.state == "committed")
    )
    if data_date is not None:
        query = query.where(head.data_date == data_date)
    with ops.engine().begin() as connection:
        row = connection.execute(query).one()
    return {name: int(value) for name, value in zip(names, row, strict=True)}


def deliveries(until: date | None = None) -> list[Any]:
    """One row per feed, delivering institution and delivery date of all committed batches, in that order.

    Returns:
        rows of feed, org_code, data_date, received_at (of the last batch), files and the four counts of their records.
    """
    landed, head, line = ops.landing_file.c, ops.batch.c, ops.ledger_line.c
    names = ("received", "loaded", "duplicate", "quarantined")
    counted = (
        select(line.batch_id, line.source_file, *[func.sum(line[n]).label(n) for n in names])
        .group_by(line.batch_id, line.source_file)
        .subquery()
    )
    of_file = (counted.c.batch_id == landed.batch_id) & (counted.c.source_file == landed.path)
    query = (
        select(
            head.feed,
            landed.org_code,
            head.data_date,
            func.max(head.received_at).label("received_at"),
            func.count().label("files"),
            *[func.coalesce(func.sum(counted.c[n]), 0).label(n) for n in names],
        )
        .select_from(
            ops.landing_file.join(ops.batch, head.batch_id == landed.batch_id).outerjoin(counted, of_file)
        )
        .where(head.state == "committed")
        .group_by(head.feed, landed.org_code, head.data_date)
        .order_by(head.feed, landed.org_code, head.data_date)
    )
    if until is not None:
        query = query.where(head.data_date <= until)
    with ops.engine().begin() as connection:
        return list(connection.execute(query).all())


def by_feed() -> list[dict[str, Any]]:
    """One row per feed and delivery date: batches and the four counts of committed ones, undone batches."""
    line, head = ops.ledger_line.c, ops.batch.c
    names = ("received", "loaded", "duplicate", "quarantined")
    query = (
        select(
            head.feed,
            head.data_date,
            head.state,
            func.count(func.distinct(head.batch_id)).label("batches"),
            func.max(head.committed_at).label("committed_at"),
            *[func.coalesce(func.sum(line[n]), 0).label(n) for n in names],
        )
        .select_from(ops.batch.outerjoin(ops.ledger_line, head.batch_id == line.batch_id))
        .group_by(head.feed, head.data_date, head.state)
        .order_by(head.data_date.desc(), head.feed)
    )
    with ops.engine().begin() as connection:
        found = [dict(row._mapping) for row in connection.execute(query)]
    return [row | {n: int(row[n]) for n in names} for row in found]  # PostgreSQL sums to a decimal
