"""Deliveries of the past: a request for feeds, institutions and a period, shown first, then worked off by partition.

A partition is one feed and one delivery date. Its line in the operational database says how far it is, so a request
that was stopped goes on where it was; what is in already is told, and costs only a look at the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from ingestion.sources import SourceFile, in_drop
from lake import ledger, ops
from lake.contracts import contract
from lake.errors import MedlakeError

_COUNTS = ("received", "loaded", "duplicate", "quarantined")


def _dates(start: date, end: date) -> Iterator[date]:
    if end < start:
        raise MedlakeError("E248", start=start, end=end)
    for n in range((end - start).days + 1):
        yield start + timedelta(days=n)


def _files(feed: str, day: date, org_codes: Sequence[str]) -> list[SourceFile]:
    return [f for f in in_drop(feed, day) if not org_codes or f.org_code in org_codes]


def preview(
    feeds: Iterable[str], start: date, end: date, *, org_codes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """What a request would do, without doing it: one row per feed and date.

    Returns:
        rows of feed, data_date, files, bytes, known_files (in already, by place), orgs, action (``load``, ``skip``:
        all in, ``empty``: nothing delivered).

    Raises:
        MedlakeError: E102 no such feed; E248 the period ends before it begins.
    """
    rows = []
    for feed in feeds:
        contract(feed)
        for day in _dates(start, end):
            found = _files(feed, day, org_codes)
            known = {origin for origin, _ in ledger.origins(feed, day)}
            old = sum(f.origin in known for f in found)
            rows.append(
                {
                    "feed": feed,
                    "data_date": day,
                    "files": len(found),
                    "bytes": sum(f.path.stat().st_size for f in found),
                    "known_files": old,
                    "orgs": len({f.org_code for f in found}),
                    "action": "empty" if not found else "skip" if old == len(found) else "load",
                }
            )
    return rows


def as_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A preview as text for a task's log."""
    words = {"load": "接入 load", "skip": "已在湖中 already in", "empty": "无投递 nothing delivered"}
    for r in rows:
        yield (
            f"{r['data_date']}  {r['feed']:<16} {r['files']:>6} 文件 files  {r['bytes'] / 1e6:>9.1f} MB  "
            f"{r['orgs']:>3} 机构 institutions  {words[r['action']]}"
        )


def request(
    request_id: str, feeds: Iterable[str], start: date, end: date, *, org_codes: Sequence[str] = ()
) -> list[str]:
    """Write a request's partitions down, unless they are; returns the feeds that have some not done.

    One for which nothing was delivered is done as it is: weeks of them lie between deliveries of long ago.
    """
    part = ops.backfill_partition
    wanted = preview(feeds, start, end, org_codes=org_codes)
    nothing = json.dumps(dict.fromkeys(_COUNTS, 0) | {"batches": 0})
    with ops.engine().begin() as connection:
        have = {
            (r.feed, r.data_date)
            for r in connection.execute(
                select(part.c.feed, part.c.data_date).where(part.c.request_id == request_id)
            )
        }
        rows = [
            {
                "request_id": request_id,
                "feed": r["feed"],
                "data_date": r["data_date"],
                "org_codes": json.dumps(sorted(org_codes)),
                "state": "planned" if r["files"] else "done",
                "result": None if r["files"] else nothing,
                "attempts": 0,
                "files": r["files"],
                "bytes": r["bytes"],
                "updated_at": datetime.now(UTC),
            }
            for r in wanted
            if (r["feed"], r["data_date"]) not in have
        ]
        if rows:
            connection.execute(insert(part), rows)
    return sorted({p["feed"] for p in partitions(request_id) if p["state"] != "done"})


def partitions(request_id: str) -> list[dict[str, Any]]:
    """The ledger of a request: one row per feed and date, with state, attempts and counts."""
    part = ops.backfill_partition
    query = select(part).where(part.c.request_id == request_id).order_by(part.c.feed, part.c.data_date)
    with ops.engine().begin() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def _note(request_id: str, feed: str, day: date, **values: Any) -> None:
    part = ops.backfill_partition
    where = (part.c.request_id == request_id) & (part.c.feed == feed) & (part.c.data_date == day)
    with ops.engine().begin() as connection:
        connection.execute(update(part).where(where).values(updated_at=datetime.now(UTC), **values))


def run(request_id: str, feed: str, *, attempts: int = 3) -> dict[str, Any]:
    """Work off the partitions of one feed that are not done, oldest first.

    A partition that fails is noted and the next one is taken; at the end the failed ones are told as an error, and
    running again tries those that have attempts left.

    Returns:
        feed, partitions, done, and the four counts over all partitions of the feed.

    Raises:
        MedlakeError: E249, some partitions failed.
    """
    from ingestion import ingest_feed

    for p in partitions(request_id):
        if p["feed"] != feed or p["state"] == "done" or p["attempts"] >= attempts:
            continue
        day = p["data_date"]
        _note(request_id, feed, day, state="running", attempts=p["attempts"] + 1)
        try:
            found = ingest_feed(feed, day, org_codes=json.loads(p["org_codes"]) or None)
        except MedlakeError as error:
            _note(request_id, feed, day, state="failed", result=json.dumps({"error": error.code}))
        else:
            kept = {k: found[k] for k in _COUNTS} | {"batches": found["batches"]}
            _note(request_id, feed, day, state="done", result=json.dumps(kept))
    return _told(request_id, feed)


def _told(request_id: str, feed: str) -> dict[str, Any]:
    mine = [p for p in partitions(request_id) if p["feed"] == feed]
    done = [json.loads(p["result"]) for p in mine if p["state"] == "done"]
    if failed := [str(p["data_date"]) for p in mine if p["state"] != "done"]:
        raise MedlakeError("E249", place=feed, dates=", ".join(failed), count=len(failed))
    counts = {n: sum(d[n] for d in done) for n in _COUNTS}
    return {"feed": feed, "partitions": len(mine), "done": len(done), **counts}
