"""How each institution delivers each feed, and what of it needs a person: late, incomplete, refused, unknown codes."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import func, select

from lake import ledger, ops, tables, work
from lake.contracts import contracts
from lake.local_time import SHANGHAI
from lake.settings import settings

_COUNTS = ("received", "loaded", "duplicate", "quarantined")

#: Days over which completeness is counted, and over which refused batches are still asked about.
WINDOW_DAYS = 28
#: Unmapped codes that become items: those of most records.
UNMAPPED_ITEMS = 50


def status(as_of: date) -> list[dict[str, Any]]:
    """One row per feed and delivering institution, from the ledger.

    Returns:
        feed, feed_zh, org_code, last_delivery_on, last_received_at (UTC), lag_hours (from the end of the last
        delivered day to the end of ``as_of``), grace_hours, is_silent, delivered_days and expected_days (of the last
        four weeks, from the first delivery on), completeness_pct, files, received, loaded, duplicate, quarantined,
        announced_files (whose sources say how many records they hold: all of them hold it), refused_files (that do not).
    """
    known = contracts()
    told = ledger.announced_by_source(as_of)
    groups: dict[tuple[str, str], list[Any]] = {}
    for row in ledger.deliveries(as_of):
        groups.setdefault((row.feed, row.org_code), []).append(row)
    found = []
    for (feed, org), rows in groups.items():
        grace = known[feed].grace_hours if feed in known else 0
        last, first = rows[-1].data_date, rows[0].data_date
        lag = (as_of - last).days * 24
        expected = min(WINDOW_DAYS, (as_of - first).days + 1)
        delivered = sum(r.data_date > as_of - timedelta(days=WINDOW_DAYS) for r in rows)
        sums = {n: sum(int(getattr(r, n)) for r in rows) for n in ("files", *_COUNTS)}
        found.append(
            {
                "feed": feed,
                "feed_zh": known[feed].label_zh if feed in known else feed,
                "org_code": org,
                "last_delivery_on": last,
                "last_received_at": max(r.received_at for r in rows),
                "lag_hours": lag,
                "grace_hours": grace,
                "is_silent": lag > grace,
                "delivered_days": delivered,
                "expected_days": expected,
                "completeness_pct": round(100 * delivered / expected, 1),
                **sums,
                **told.get((feed, org), {"announced_files": 0, "refused_files": 0}),
            }
        )
    return found


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(23, 59), SHANGHAI).astimezone(UTC)


def _silent(as_of: date) -> list[work.Request]:
    return [
        work.Request(
            request_key=f"silent_feed|{row['feed']}|{row['org_code']}|{row['last_delivery_on']}",
            kind="silent_feed",
            org_code=row["org_code"] or settings().default_org_code,
            severity="warn",
            subject=f"feed/{row['feed']}",
            occurred_at=_end_of(row["last_delivery_on"]) + timedelta(hours=row["grace_hours"]),
            origin="ingestion",
            payload={
                k: row[k]
                for k in ("feed", "last_delivery_on", "lag_hours", "grace_hours", "completeness_pct")
            },
        )
        for row in status(as_of)
        if row["is_silent"]
    ]


def _refused(as_of: date) -> list[work.Request]:
    line, batch = ops.ledger_line.c, ops.batch.c
    query = (
        select(
            batch.batch_id,
            batch.feed,
            batch.data_date,
            batch.received_at,
            line.org_code,
            func.sum(line.quarantined).label("quarantined"),
            func.sum(line.received).label("received"),
        )
        .select_from(ops.ledger_line.join(ops.batch, batch.batch_id == line.batch_id))
        .where(
            batch.state == "committed",
            batch.data_date <= as_of,
            batch.data_date > as_of - timedelta(days=WINDOW_DAYS),
        )
        .group_by(batch.batch_id, batch.feed, batch.data_date, batch.received_at, line.org_code)
        .having(func.sum(line.quarantined) > 0)
    )
    with ops.engine().begin() as connection:
        rows = connection.execute(query).all()
    return [
        work.Request(
            request_key=f"quarantined_batch|{r.batch_id}|{r.org_code}",
            kind="quarantined_batch",
            org_code=r.org_code,
            severity="warn",
            subject=f"batch/{r.batch_id}",
            occurred_at=r.received_at if r.received_at.tzinfo else r.received_at.replace(tzinfo=UTC),
            origin="ingestion",
            payload={
                "batch_id": r.batch_id,
                "feed": r.feed,
                "data_date": r.data_date,
                "quarantined": int(r.quarantined),
                "received": int(r.received),
            },
        )
        for r in rows
    ]


def _unmapped(as_of: date) -> list[work.Request]:
    from ingestion import codes

    if not tables.exists("ops/unmapped_code"):
        return []
    return [
        work.Request(
            request_key=f"unmapped_code|{c['code_system']}|{c['source_code']}"[:200],
            kind="unmapped_code",
            org_code=settings().default_org_code,
            severity="warn",
            subject=f"code/{c['code_system']}/{c['source_code']}"[:200],
            occurred_at=_end_of(min(c["first_on"], as_of)),
            origin="ingestion",
            payload={k: c[k] for k in ("code_system", "source_code", "records", "institutions", "tables")},
        )
        for c in codes.inbox(limit=UNMAPPED_ITEMS)
    ]


def watch(as_of: date) -> dict[str, Any]:
    """Ask for work on what is late beyond its grace, what was refused, and the unknown codes of most records.

    Asking again for the same thing asks nothing. Also keeps ``ops/ingest_status`` (Delta) in step with ``status``.

    Returns:
        as_of, sources, silent, refused, unmapped (how many there are) and asked (how many requests were new).
    """
    import pyarrow as pa

    rows = status(as_of)
    if rows:
        tables.overwrite(
            "ops/ingest_status", pa.Table.from_pylist([{"as_of": as_of} | r for r in _utc(rows)])
        )
    silent, refused, unmapped = _silent(as_of), _refused(as_of), _unmapped(as_of)
    asked = work.ask([*silent, *refused, *unmapped])
    return {
        "as_of": as_of.isoformat(),
        "sources": len(rows),
        "silent": len(silent),
        "refused": len(refused),
        "unmapped": len(unmapped),
        "asked": asked,
    }


def _utc(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """SQLite gives instants without their zone; they are UTC."""
    return [
        r | {"last_received_at": at if (at := r["last_received_at"]).tzinfo else at.replace(tzinfo=UTC)}
        for r in rows
    ]
