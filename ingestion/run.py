"""The way of a delivery: recover what was killed, find what is new, batch by batch land, stage, apply."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ingestion import apply, landing, prepare
from ingestion import plan as plans
from ingestion.landing import Hashed
from ingestion.readers.base import FILE_TABLE
from ingestion.sources import at_paths, in_drop
from lake import ledger
from lake.contracts import contract
from lake.errors import MedlakeError
from lake.ledger import Line
from lake.local_time import local_today
from lake.log import logger
from lake.settings import settings

_log = logger("ingestion")
_WAIT_SECONDS = 1800
_COUNTS = ("received", "loaded", "duplicate", "quarantined")


@contextmanager
def _feed_lock(feed: str) -> Iterator[None]:
    """One writer per feed: its silver tables have no other. The lock ends with the process that holds it."""
    folder = settings().home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"ingest-{feed}.lock", timeout=_WAIT_SECONDS):
            yield
    except Timeout as error:
        raise MedlakeError("E225", feed=feed, seconds=_WAIT_SECONDS) from error


def recover(feed: str) -> dict[str, Any]:
    """Finish batches of a feed that were killed: those with a plan are applied, others undone."""
    contract(feed)
    with _feed_lock(feed):
        return _recover(feed)


def _recover(feed: str) -> dict[str, Any]:
    finished: list[str] = []
    undone: list[str] = []
    root = plans.root(feed)
    for directory in sorted(root.iterdir()) if root.is_dir() else []:
        plan = plans.load(directory)
        if plan is None:
            plans.discard(directory)
        else:
            apply.apply(plan)
            finished.append(plan.delivery_id)
    for batch in ledger.open_batches(feed):
        ledger.undo(batch, reason="killed")
        undone.append(batch.batch_id)
    if finished or undone:
        _log.warning("recovered", feed=feed, count=len(finished) + len(undone))
    return {"feed": feed, "finished": finished, "undone": undone}


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
        plan = prepare.prepare(contract(feed), data_date, identity, new, known)
        apply.apply(plan)
        notices += plan.notices
        batch_ids += [b.batch_id for b in ledger.attempts(identity) if b.state == "committed"]
    return batch_ids, notices


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
    return summary | {"notices": shown, "seconds": seconds}


def ingest_feed(feed: str, data_date: date) -> dict[str, Any]:
    """Ingest what the drop of a date holds and is not in yet; a date without files is an empty batch.

    Returns:
        the ledger of this feed and date, so that a repeated run returns what the first one did.
    """
    contract(feed)
    started = time.perf_counter()
    with _feed_lock(feed):
        _recover(feed)
        hashed = [landing.hash_file(s) for s in in_drop(feed, data_date)]
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
    contract(feed)
    started = time.perf_counter()
    sources = at_paths([Path(p) for p in paths], org_code)
    day = data_date or local_today()
    with _feed_lock(feed):
        _recover(feed)
        batch_ids, notices = _ingest(feed, day, [landing.hash_file(s) for s in sources])
        return _told(feed, day, batch_ids, notices, len(sources), started)
