"""Receipts of uploads: what was accepted, and what the ledger says became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.exc import IntegrityError

from lake import duck, ops, tables
from lake.settings import settings

#: Files looked at for one receipt: those that landed after it, oldest first; the first is nearly always the one.
_LOOK_AT = 200


@dataclass(frozen=True)
class Receipt:
    """One accepted request. ``idempotency_key`` is the sender's, unique within its institution and feed."""

    receipt_id: str
    feed: str
    org_code: str
    table_name: str
    idempotency_key: str | None
    body_hash: str
    records: int
    attachments: int
    received_at: datetime


def _receipt(row: Row[Any]) -> Receipt:
    values = dict(row._mapping)
    at = values["received_at"]
    return Receipt(**(values | {"received_at": at if at.tzinfo else at.replace(tzinfo=UTC)}))


def by_key(org_code: str, feed: str, key: str) -> Receipt | None:
    """The receipt that an idempotency key was used for."""
    where = ops.ingest_receipt.c
    query = select(ops.ingest_receipt).where(
        where.org_code == org_code, where.feed == feed, where.idempotency_key == key
    )
    with ops.engine().begin() as connection:
        row = connection.execute(query).one_or_none()
    return _receipt(row) if row else None


def by_id(receipt_id: str, org_code: str) -> Receipt | None:
    """A receipt of this institution; another's is as if it were not there."""
    where = ops.ingest_receipt.c
    query = select(ops.ingest_receipt).where(where.receipt_id == receipt_id, where.org_code == org_code)
    with ops.engine().begin() as connection:
        row = connection.execute(query).one_or_none()
    return _receipt(row) if row else None


def keep(receipt: Receipt) -> Receipt:
    """Write a receipt down; when its key was used in the meantime, the receipt that was there first."""
    try:
        with ops.engine().begin() as connection:
            connection.execute(insert(ops.ingest_receipt).values(**receipt.__dict__))
    except IntegrityError:
        first = by_key(receipt.org_code, receipt.feed, receipt.idempotency_key or "")
        if first is None:
            raise
        return first
    return receipt


def _landed(receipt: Receipt) -> list[tuple[str, str]]:
    """(path in landing, batch) of committed uploads of the institution and feed that landed after the receipt."""
    file, head = ops.landing_file.c, ops.batch.c
    query = (
        select(file.path, file.batch_id)
        .select_from(ops.landing_file.join(ops.batch, head.batch_id == file.batch_id))
        .where(
            file.feed == receipt.feed,
            file.org_code == receipt.org_code,
            file.path.like("%.http"),
            file.received_at >= receipt.received_at,
            head.state == "committed",
        )
        .order_by(file.received_at)
        .limit(_LOOK_AT)
    )
    with ops.engine().begin() as connection:
        return [(r.path, r.batch_id) for r in connection.execute(query)]


def _lines(path: str, receipt_id: str) -> list[int]:
    """Numbers of the receipt's lines in a landed file (journals seal at some megabytes)."""
    target = settings().landing_dir / path
    if not target.is_file():
        return []
    data = target.read_bytes()
    sign = f'{{"receipt":"{receipt_id}"'.encode()
    if sign not in data:
        return []
    return [n for n, line in enumerate(data.split(b"\n"), 1) if line.startswith(sign)]


def _rows(name: str, path: str, lines: Sequence[int], columns: str) -> list[tuple[Any, ...]]:
    if not tables.exists(name):
        return []
    query = f"SELECT {columns} FROM {tables.scan_sql(name)} WHERE source_file = ? AND list_contains(?, source_line)"
    with duck.connect() as con:
        return con.execute(query, [path, list(lines)]).fetchall()


def outcome(receipt: Receipt, bronze: str) -> dict[str, Any]:
    """What became of a request's records.

    Args:
        bronze: name of the bronze table of the receipt's records.

    Returns:
        ``status``: ``accepted`` (durable, the batch is still to come), ``loaded`` or ``quarantined`` (some of it);
        counts ``loaded, duplicate, quarantined`` and ``reasons`` per refused record.
    """
    told: dict[str, Any] = {
        "receipt_id": receipt.receipt_id,
        "feed": receipt.feed,
        "table": receipt.table_name,
        "records": receipt.records,
        "attachments": receipt.attachments,
        "received_at": receipt.received_at.isoformat(),
        "status": "accepted",
    }
    for path, batch_id in _landed(receipt):
        lines = _lines(path, receipt.receipt_id)
        if not lines:
            continue
        own = lines[: receipt.records]
        refused = _rows(
            bronze.replace("bronze/", "quarantine/", 1),
            path,
            own,
            "source_line, error_code, field, reason_zh, reason_en, remedy_zh, remedy_en",
        )
        loaded = len(_rows(bronze, path, own, "source_line"))
        names = ("record", "code", "field", "zh", "en", "remedy_zh", "remedy_en")
        reasons = [dict(zip(names, (own.index(r[0]), *r[1:]), strict=True)) for r in refused]
        counts = {
            "loaded": loaded,
            "duplicate": receipt.records - loaded - len(refused),
            "quarantined": len(refused),
        }
        status = "quarantined" if refused else "loaded"
        return told | counts | {"status": status, "batch_id": batch_id, "reasons": reasons}
    return told
