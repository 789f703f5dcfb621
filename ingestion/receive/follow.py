"""Following a journal: each durable record is shown to a function at least once, restarts included.

The position is a small file beside the segments. It may lag behind (a record is shown again), never run ahead.
Segments stay until their followers are past them, so a follower that was away misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ingestion.receive import segment
from ingestion.receive.journal import Journal
from ingestion.receive.segment import Record
from lake.log import logger

_log = logger("receive")

#: Seconds until records are shown again to a function that failed on them.
RETRY_SECONDS = 1.0


class Follower:
    """Shows a journal's records to ``handle`` in order, in a thread of its own, about a megabyte at a time.

    ``handle`` raises to see the same records again later; what it can never take it must pass over by itself.
    Reading is from disk, so memory stays bounded however far behind it is. ``pause``: seconds between two stretches,
    for a function that would rather see many records seldom than few often.
    """

    def __init__(
        self, journal: Journal, name: str, handle: Callable[[list[Record]], None], *, pause: float = 0.0
    ) -> None:
        self._journal = journal
        self._handle = handle
        self._pause = pause
        self._file = journal.folder / f"{name}.position"
        self.position = min(self._kept(), journal.durable)
        self.failures = 0
        self._changed = journal.hold(lambda: self.position)
        self._stopping = False
        self._thread = ThreadPoolExecutor(1, f"{journal.door}-{name}")
        self._offset: tuple[Path, int] = (Path(), 0)

    def _kept(self) -> int:
        try:
            return int(self._file.read_text())
        except (
            FileNotFoundError,
            ValueError,
        ):  # a torn file after a power cut: show everything that is left again
            return 0

    async def run(self) -> None:
        """Until ``stop``; what was not shown by then is shown after the next start."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                while not self._stopping and await loop.run_in_executor(self._thread, self._advance):
                    await asyncio.sleep(self._pause)
            except Exception as error:  # whatever the function's room raises: the records are shown again
                self.failures += 1
                _log.error("follower_failed", path=self._file.stem, reason=type(error).__name__)
                await asyncio.sleep(0.0 if self._stopping else RETRY_SECONDS)
                self._changed.set()
            if self._stopping:
                break
            await self._changed.wait()
        self._thread.shutdown()

    def stop(self) -> None:
        self._stopping = True
        self._changed.set()

    def _advance(self) -> bool:
        """Show one stretch; returns whether there was any."""
        for s in self._journal.after(self.position):
            at = self._offset[1] if self._offset[0] == s.path else 0
            records, following = segment.read_some(s.path, at, s.end)
            new = [r for r in records if r.seq > self.position]
            if new:
                self._handle(new)
            self._offset = (s.path, following)
            if new:
                self.position = new[-1].seq
            elif following >= s.end:  # damaged since the start: what could not be read cannot be shown
                _log.error("journal_damaged", path=s.path.name, code="E251")
                self.position = s.last
            draft = self._file.with_suffix(".draft")
            draft.write_text(str(self.position))
            draft.rename(self._file)
            return True
        return False
