"""The journal of a door: what it receives is on disk before anybody is told so, and reaches the drop even so.

Many callers append at once and share one ``fdatasync`` (group commit). A segment is sealed by size or age, written
to the drop one file an institution, and removed once it is there and every follower (the fast lane) is past it.
After a crash the next start cuts off a torn tail, which was never acknowledged, and hands over the rest: a record
can come twice, as a duplicate by content, and never not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from ingestion.receive.handover import Framing
from ingestion.receive.segment import Record
from ingestion.receive.spool import Segment, Spool
from lake.errors import MedlakeError
from lake.log import logger

__all__ = ["Journal", "Record"]

_log = logger("receive")

#: Seconds between two tries to hand over or to remove, where one left something behind (full disk, slow follower).
RETRY_SECONDS = 1.0

_Waiting = tuple[str, int, bytes, "asyncio.Future[int]"]


class Journal:
    """Append-only segments of one door below ``home/receive/<door>/``; one event loop, one process a door.

    ``async with Journal(...)`` runs and closes it; else run ``run()`` as a task and ``close()`` at the end.

    Args:
        door: names the folder and the files in the drop, such as ``mllp``.
        feed: feed of the drop.
        suffix: of the files in the drop, with its dot.
        seal_bytes, seal_seconds: a segment of this size or age is handed over.
        framing: ``lines`` (a record a line) or ``mllp-batch`` (HL7 messages in a batch envelope with their count).

    Raises:
        MedlakeError: E250, another process holds this door.
    """

    def __init__(
        self,
        door: str,
        feed: str,
        *,
        suffix: str,
        seal_bytes: int = 16 << 20,
        seal_seconds: float = 30.0,
        framing: Framing,
    ) -> None:
        self.door = door
        self.seal_bytes, self.seal_seconds = seal_bytes, seal_seconds
        self._spool = Spool(door, feed, suffix, framing)
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._followers: list[asyncio.Event] = []
        self._committer = ThreadPoolExecutor(1, f"{door}-commit")
        self._hander = ThreadPoolExecutor(1, f"{door}-handover")
        self._handing: asyncio.Future[None] | None = None
        self._hand_at = 0.0  # monotonic; not before

    # ---- what callers use

    async def append(self, org_code: str, record: bytes) -> int:
        """Returns the record's number once it is on disk.

        Raises:
            OSError: it is not (disk full, I/O error); the journal goes on.
            MedlakeError: E252, the journal is closing.
        """
        if self._closing:
            raise MedlakeError("E252", place=self.door)
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((org_code, time.time_ns() // 1000, record, told))
        self._wake.set()
        return await told

    async def run(self) -> None:
        """Commit, seal and hand over until ``close``."""
        loop = asyncio.get_running_loop()
        while not self._closing or self._waiting:
            if not self._waiting and not self._closing:
                self._wake.clear()
                timer = loop.call_later(max(self._due_in(), 0.0), self._wake.set)
                await self._wake.wait()
                timer.cancel()
            if self._waiting:
                group, self._waiting = self._waiting, []
                await self._commit(loop, group)
            if self._seal_in() <= 0:
                await loop.run_in_executor(self._committer, self._spool.seal)
                self._hand_at = 0.0
            self._start_handing(loop)
        self._ended.set()

    async def close(self) -> None:
        """Make durable what waits, seal, hand over, let go. What the drop cannot take stays for the next start."""
        if self._closing:
            await self._ended.wait()
            return
        self._closing = True
        self._wake.set()
        if self._task is None and not self._waiting:
            self._ended.set()
        await self._ended.wait()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._committer, self._spool.seal)
        await loop.run_in_executor(self._hander, self._hand_over)
        self._committer.shutdown()
        self._hander.shutdown()
        self._spool.close()

    async def __aenter__(self) -> Journal:
        self._task = asyncio.create_task(self.run(), name=f"{self.door}-journal")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- what followers use

    @property
    def folder(self) -> Path:
        """Where segments lie; a follower keeps its position there."""
        return self._spool.folder

    @property
    def durable(self) -> int:
        """The number of the last record on disk."""
        return self._spool.next_seq - 1

    @property
    def handed(self) -> int:
        """Records that reached the drop since this start."""
        return self._spool.handed

    def hold(self, position: Callable[[], int]) -> asyncio.Event:
        """Keep segments until ``position()``, the last number a follower is done with, is past them.

        Returns:
            an event that is set whenever something became durable; the follower clears it.
        """
        self._spool.hold(position)
        event = asyncio.Event()
        self._followers.append(event)
        return event

    def after(self, seq: int) -> list[Segment]:
        """Segments with durable records numbered above ``seq``, in order."""
        return self._spool.after(seq)

    # ---- the loop's parts

    async def _commit(self, loop: asyncio.AbstractEventLoop, group: list[_Waiting]) -> None:
        records = [(org, at, payload) for org, at, payload, _ in group]
        try:
            first = await loop.run_in_executor(self._committer, self._spool.commit, records)
        except OSError as error:
            _log.error("journal_refused", path=self.door, records=len(group), reason=error.strerror)
            for _, _, _, told in group:
                if not told.done():  # its caller may be gone
                    told.set_exception(error)
            return
        for n, (_, _, _, told) in enumerate(group):
            if not told.done():
                told.set_result(first + n)
        for event in self._followers:
            event.set()

    def _seal_in(self) -> float:
        """Seconds until the open segment must be sealed; a long time when there is none."""
        current = self._spool.open_segment
        if current is None or current.last < current.first:
            return 3600.0
        if current.end >= self.seal_bytes:
            return 0.0
        return current.began + self.seal_seconds - time.monotonic()

    def _due_in(self) -> float:
        waits = self._spool.waits and (self._handing is None or self._handing.done())
        return min(self._seal_in(), self._hand_at - time.monotonic() if waits else 3600.0)

    def _start_handing(self, loop: asyncio.AbstractEventLoop) -> None:
        busy = self._handing is not None and not self._handing.done()
        if self._spool.waits and not busy and time.monotonic() >= self._hand_at:
            self._hand_at = time.monotonic() + RETRY_SECONDS
            self._handing = loop.run_in_executor(self._hander, self._hand_over)
            self._handing.add_done_callback(lambda _: self._wake.set())

    def _hand_over(self) -> None:
        try:
            self._spool.hand_over_sealed()
        except OSError as error:
            _log.error("handover_failed", path=self.door, reason=error.strerror)
