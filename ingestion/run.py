"""The way of a delivery: recover what was killed, find what is new, batch by batch land, stage, apply."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any

from ingestion import apply, landing, locking, prepare, refusal, routing
from ingestion import plan as plans
from ingestion.landing import Hashed
from ingestion.plan import Plan
from ingestion.readers.base import FILE_TABLE
from ingestion.sources import at_paths, in_drop
from lake import ledger, lineage
from lake.contracts import contract
from lake.ledger import Line
from lake.local_time import local_today
from lake.log import logger

_log = logger("ingestion")
_COUNTS = ("received", "loaded", "duplicate", "quarantined")


def feed_lock(feed: str) -> AbstractContextManager[None]:
    """One delivery of a feed at a time: what is known by content is settled before the next one is compared."""
    return locking.held([f"ingest-{feed}"])


def recover(feed: str) -> dict[str, Any]:
    """Finish batches of a feed that were killed: those with a plan are applied, others undone."""
    contract(feed)
    with feed_lock(feed):
        return recover_held(feed)


def recover_held(feed: str) -> dict[str, Any]:
    """As :func:`recover`; the caller holds the feed (``feed_lock``)."""
    settled: list[tuple[str, str]] = []
    for batch in ledger.open_batches(feed):
        with locking.writing(batch.pinned) as found:
            if not batch.pinned:
                found.append((batch.batch_id, locking.settle(batch)))
        settled += found
    root = plans.root(feed)
    for directory in sorted(root.iterdir()) if root.is_dir() else []:
        plan = plans.load(directory)
        if plan is not None and _is_committed(plan.delivery_id):
            with locking.writing(plan.writes()):
                if plans.load(directory) is not None:  # the one who held the tables may just have finished it
                    apply.apply(plan)  # what is left is about the batch, not of it: the inbox and the notices
                    settled.append((plan.delivery_id, "finished"))
        else:  # compared with a silver that may have changed since: read it again
            plans.discard(directory)
    if settled:
        _log.warning("recovered", feed=feed, count=len(settled))
    return {
        "feed": feed,
        "finished": [b for b, how in settled if how == "finished"],
        "undone": [b for b, how in settled if how == "undone"],
    }


def _summary(feed: str, data_date: date, batches: list[tuple[str, list[Line]]], files: int) -> dict[str, Any]:
    lines = [line for _, found in batches for line in found]
    by_table: dict[str, dict[str, int]] = {}
    for line in lines:
        sums = by_table.setdefault(line.table_name, dict.fromkeys(_COUNTS, 0))
        for name in _COUNTS:
            sums[name] += getattr(line, name)
    failed = {line.source_file for line in lines if line.table_name == FILE_TABLE and line.quarantined}
    total = {n: sum(t[n] for t in by_table.values()) for n in _COUNTS}
    return {
        "feed": feed,
        "data_date": data_date.isoformat(),
        "batch_id": batches[-1][0] if batches else "",
        **total,
        "files": files,
        "failed_files": len(failed),
        "batches": [batch_id for batch_id, _ in batches],
        "tables": dict(sorted(by_table.items())),
    }


def _is_committed(identity: str) -> bool:
    return any(b.state == "committed" for b in ledger.attempts(identity))


def _ingest(feed: str, data_date: date, hashed: list[Hashed]) -> tuple[list[str], list[dict[str, Any]]]:
    """Ingest files in as few batches as their size allows; returns batch ids and notices.

    A delivery whose identity is committed already is a delivery of its own when it comes again: it gets a number.
    """
    batch_ids: list[str] = []
    notices: list[dict[str, Any]] = []
    for files in prepare.split_by_bytes(hashed):
        identity = first = prepare.delivery_id(feed, data_date, files)
        number = 1
        while _is_committed(identity):
            number += 1
            identity = f"{first}-r{number}"
        new, known = landing.split_known(feed, files)
        reading = prepare.read_files(contract(feed), data_date, identity, new, known)
        if unkept := reading.stage.unkept():
            notices += refusal.refuse(reading, unkept)
            reading.discard()
            left = [h for n, h in enumerate(new) if n not in unkept] + [k.hashed for k in known]
            more_ids, more_notices = _ingest(feed, data_date, left) if left else ([], [])
            batch_ids, notices = batch_ids + more_ids, notices + more_notices
            continue
        plan = take(reading)
        notices += plan.notices
        batch_ids += [b.batch_id for b in ledger.attempts(identity) if b.state == "committed"]
    return batch_ids, notices


def take(reading: prepare.Reading) -> Plan:
    """Bring what was read into the lake; its tables are held from the comparison with silver to the commit."""
    try:
        with locking.writing(reading.writes()):
            plan = reading.plan()
            _tell_lineage(plan)
            apply.apply(plan)
    except BaseException:
        reading.close()
        raise
    return plan


def _tell_lineage(plan: Plan) -> None:
    by_org: dict[str, list[int]] = {}
    for f in plan.files:
        by_org.setdefault(str(f["org_code"]), []).append(int(f["bytes"]))
    for org, sizes in by_org.items():
        name = f"landing/{plan.feed}/{org or 'unassigned'}"
        lineage.reads_files(name, files=len(sizes), size=sum(sizes))


def _told(
    feed: str,
    data_date: date,
    batch_ids: list[str],
    notices: list[dict[str, Any]],
    files: int,
    started: float,
) -> dict[str, Any]:
    summary = _summary(feed, data_date, [(b, ledger.lines_of(b)) for b in batch_ids], files)
    seconds = round(time.perf_counter() - started, 3)
    _log.info(
        "ingested", **{k: v for k, v in summary.items() if k not in ("tables", "batches")}, seconds=seconds
    )
    shown = [f"{n['code']} {n['file']}{'!' + n['sheet'] if n['sheet'] else ''}" for n in notices]
    failed = ledger.failed(feed, data_date)
    return summary | {"failed_batches": failed, "notices": shown, "seconds": seconds}


def ingest_feed(feed: str, data_date: date, *, org_codes: Collection[str] | None = None) -> dict[str, Any]:
    """Ingest what the drop of a date holds and is not in yet; a date without files is an empty batch.

    Args:
        org_codes: only these institutions' files.

    Returns:
        the ledger of this feed and date, so that a repeated run returns what the first one did.
    """
    feed = routing.FEED_ALIASES.get(feed, feed)
    contract(feed)
    started = time.perf_counter()
    with feed_lock(feed), lineage.step(f"ingestion.{feed}", data_date):
        recover_held(feed)
        found = [f for f in in_drop(feed, data_date) if not org_codes or f.org_code in org_codes]
        hashed = [landing.hash_file(s) for s in found]
        known = ledger.origins(feed, data_date)
        new = [h for h in hashed if (h.source.origin, h.sha256) not in known]
        notices: list[dict[str, Any]] = []
        if new or not ledger.committed(feed, data_date):
            _, notices = _ingest(feed, data_date, new)
        return _told(feed, data_date, ledger.committed(feed, data_date), notices, len(hashed), started)


def ingest_paths(
    paths: Sequence[Path | str], feed: str, *, org_code: str | None = None, data_date: date | None = None
) -> dict[str, Any]:
    """Ingest any files and folders; what is known by content counts as duplicate.

    Args:
        org_code: institution of files whose folders name none.
        data_date: delivery date; today in Asia/Shanghai by default.

    Raises:
        MedlakeError: E102 no such feed; E201, E202 a path that is not there or may not be read.
    """
    feed = routing.FEED_ALIASES.get(feed, feed)
    contract(feed)
    started = time.perf_counter()
    sources = at_paths([Path(p) for p in paths], org_code)
    day = data_date or local_today()
    with feed_lock(feed), lineage.step(f"ingestion.{feed}", day):
        recover_held(feed)
        batch_ids, notices = _ingest(feed, day, [landing.hash_file(s) for s in sources])
        return _told(feed, day, batch_ids, notices, len(sources), started)
