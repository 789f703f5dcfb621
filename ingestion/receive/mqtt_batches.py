"""Micro-batches: what the MQTT door handed to the drop is ingested every few seconds, in a process of its own.

A file that a batch did not take stays in the drop and is tried again; one that any batch has taken is known by the
ledger, so a restart finds exactly what is left.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import date
from pathlib import Path

from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("receive")

#: Delivery dates that are looked into for files that wait: today's and those of the days before.
_DAYS = 7


def waiting(feed: str, door: str) -> dict[date, list[Path]]:
    """Files of a door in the drop that no committed batch has, by delivery date, oldest first."""
    from lake import ledger

    found: dict[date, list[Path]] = {}
    root = settings().sources_dir
    days = sorted(p for p in root.iterdir() if (p / feed).is_dir()) if root.is_dir() else []
    for folder in days[-_DAYS:]:
        day = date.fromisoformat(folder.name)
        files = sorted((folder / feed).glob(f"{door}_*.mqtt"))
        if files:
            known = {origin for origin, _ in ledger.origins(feed, day)}
            if left := [f for f in files if str(f) not in known]:
                found[day] = left
    return found


def ingest_waiting(feed: str, door: str) -> dict[str, int]:
    """One micro-batch a delivery date: received, loaded, duplicate, quarantined and files."""
    import ingestion

    total = {"received": 0, "loaded": 0, "duplicate": 0, "quarantined": 0, "files": 0}
    for day, files in waiting(feed, door).items():
        done = ingestion.ingest_paths(files, feed, data_date=day)
        for name in total:
            total[name] += done[name]
    return total


def _end_with_parent() -> None:
    """A listener that is killed leaves no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Batches:
    """Runs ``ingest_waiting`` every ``seconds`` until ``stop``, and once more then: end the journal first."""

    def __init__(self, feed: str, door: str, seconds: float) -> None:
        self.feed, self.door, self.seconds = feed, door, seconds
        self.totals = {"received": 0, "loaded": 0, "duplicate": 0, "quarantined": 0, "files": 0}
        self.runs = self.failures = 0
        self._stop = asyncio.Event()
        self._pool: ProcessPoolExecutor | None = None

    async def run(self) -> None:
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), self.seconds)
            except TimeoutError:
                await self.once()
        await self.once()
        if self._pool is not None:
            self._pool.shutdown()

    def stop(self) -> None:
        self._stop.set()

    async def once(self) -> None:
        """One round; what fails is told and tried again in the next."""
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, spawn, initializer=_end_with_parent)
        try:
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(self._pool, ingest_waiting, self.feed, self.door)
        except (MedlakeError, OSError, BrokenProcessPool) as error:
            self.failures += 1
            self._pool.shutdown(wait=False)
            self._pool = None
            code = error.code if isinstance(error, MedlakeError) else ""
            _log.error("micro_batch_failed", feed=self.feed, code=code, reason=type(error).__name__)
            return
        self.runs += 1
        for name, n in done.items():
            self.totals[name] += n
