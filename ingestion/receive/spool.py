"""The files of a journal: which segments there are, adding to them, sealing, handing over, removing.

``commit`` and ``seal`` belong to one thread, ``hand_over_sealed`` to another; what both see is behind a lock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ingestion.receive import handover, segment
from ingestion.receive.handover import Framing
from lake import kill
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.settings import settings

_log = logger("receive")
_NEXT = "next"


@dataclass
class Segment:
    """``first`` and ``last``: its numbers; ``end``: bytes on disk; ``day``: delivery date once it is sealed."""

    path: Path
    first: int
    last: int
    end: int
    began: float
    day: date | None = None
    handed: bool = False

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".sealed")


class Spool:
    """Segments of one door.

    Raises:
        MedlakeError: E250, another process holds the door.
    """

    def __init__(self, door: str, feed: str, suffix: str, framing: Framing) -> None:
        self.door, self.feed, self.suffix, self.framing = door, feed, suffix, framing
        root = settings().folder("receive")
        root.chmod(0o700)
        self.folder = root / door
        self.folder.mkdir(exist_ok=True, mode=0o700)
        self._door_lock = FileLock(self.folder / "lock", mode=0o600)
        try:
            self._door_lock.acquire(timeout=0)
        except Timeout:
            raise MedlakeError("E250", place=door) from None
        self._lock = threading.Lock()
        self._handle = -1
        self._holds: list[Callable[[], int]] = []
        self.handed = 0
        self.segments: list[Segment] = []
        self.next_seq = 1
        self._recover()

    # ---- what a crash left

    def _recover(self) -> None:
        kept = self.folder / _NEXT
        self.next_seq = int(kept.read_text()) if kept.exists() else 1
        for path in sorted(self.folder.glob("*.wal")):
            found = segment.scan(path)
            for at, size in found.damaged:
                _log.error("journal_damaged", path=path.name, bytes=size, code="E251", line=at)
            if found.damaged:
                path.with_suffix(".damaged").write_bytes(path.read_bytes())
            if not found.records:
                self._remove(path)
                continue
            if found.end < path.stat().st_size:
                os.truncate(path, found.end)
            first, last = found.records[0].seq, found.records[-1].seq
            self.segments.append(Segment(path, first, last, found.end, time.monotonic()))
            self.next_seq = max(self.next_seq, last + 1)
        for found_segment in self.segments:
            if found_segment.mark.exists():
                found_segment.day = date.fromisoformat(found_segment.mark.read_text())
            else:
                self._mark(found_segment)
        if self.segments:
            _log.warning("journal_recovered", path=self.door, count=len(self.segments))

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(".sealed").unlink(missing_ok=True)

    # ---- the committing thread

    @property
    def open_segment(self) -> Segment | None:
        last = self.segments[-1] if self.segments else None
        return last if last is not None and last.day is None else None

    def _opened(self) -> Segment:
        current = self.open_segment
        if current is not None:
            return current
        path = self.folder / f"{self.next_seq:016d}.wal"
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            segment.sync_folder(self.folder)
        except OSError:
            os.close(self._handle)
            path.unlink(missing_ok=True)
            raise
        made = Segment(path, self.next_seq, self.next_seq - 1, 0, time.monotonic())
        with self._lock:
            self.segments.append(made)
        return made

    def commit(self, records: Sequence[tuple[str, int, bytes]]) -> int:
        """Write records (institution, receipt in microseconds, payload) with one sync; returns the first's number.

        Raises:
            OSError: nothing of them is kept, and none may be acknowledged.
        """
        current = self._opened()
        first = self.next_seq
        data = b"".join(
            segment.encode(first + n, at, org, payload) for n, (org, at, payload) in enumerate(records)
        )
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fdatasync(self._handle)
        except OSError:
            self._give_up(current)
            raise
        self.next_seq = first + len(records)
        current.end += len(data)
        current.last = self.next_seq - 1
        return first

    def _give_up(self, current: Segment) -> None:
        """After a failed write: cut back to what is durable and begin a new file, since the kernel's view of this
        one can no longer be trusted (a failed sync may report success the next time)."""
        try:
            os.ftruncate(self._handle, current.end)
        except OSError as error:
            _log.error("journal_not_cut", path=self.door, reason=error.strerror)
        os.close(self._handle)
        self._handle = -1
        if current.last < current.first:
            with self._lock:
                self.segments.remove(current)
            self._remove(current.path)
        else:
            self._mark(current)

    def seal(self) -> None:
        """Close the open segment; it is handed over next."""
        current = self.open_segment
        if current is not None:
            os.close(self._handle)
            self._handle = -1
            self._mark(current)
            kill.point("journal.sealed")

    def _mark(self, done: Segment) -> None:
        """Write down the delivery date, so that a hand-over that is repeated another day makes the same files."""
        day = datetime.now(UTC).astimezone(SHANGHAI).date()
        try:
            segment.write_small(done.mark, day.isoformat())
        except OSError as error:  # a full disk: the date then is the next start's, the records are the same
            _log.warning("journal_not_marked", path=self.door, reason=error.strerror)
        done.day = day

    # ---- the handing thread

    def hand_over_sealed(self) -> None:
        """Bring every sealed segment into the drop, oldest first, and remove what nobody needs any more.

        Raises:
            OSError: the drop cannot take it now; what is left stays.
        """
        with self._lock:
            waiting = [s for s in self.segments if s.day is not None]
        for s in waiting:
            if not s.handed:
                found = segment.scan(s.path).records
                assert s.day is not None
                files = handover.hand_over(found, s.day, self.feed, self.door, self.suffix, self.framing)
                kill.point("journal.handed")
                s.handed = True
                self.handed += len(found)
                _log.info(
                    "handed_over", feed=self.feed, records=len(found), files=len(files), path=s.path.stem
                )
        self._clean()

    def _clean(self) -> None:
        done = min((hold() for hold in self._holds), default=self.next_seq)
        with self._lock:
            gone = [s for s in self.segments if s.handed and s.last <= done]
            self.segments = [s for s in self.segments if s not in gone]
        if gone:
            segment.write_small(self.folder / _NEXT, str(max(self.next_seq, gone[-1].last + 1)))
        for s in gone:
            self._remove(s.path)

    @property
    def waits(self) -> bool:
        """Whether a sealed segment is not in the drop, or is there and not removed."""
        return any(s.day is not None for s in self.segments)

    # ---- followers

    def hold(self, position: Callable[[], int]) -> None:
        """Keep segments until ``position()``, the last number that a follower is done with, is past them."""
        self._holds.append(position)

    def after(self, seq: int) -> list[Segment]:
        """Segments with durable numbers above ``seq``, in order."""
        with self._lock:
            return [s for s in self.segments if s.last > seq]

    def close(self) -> None:
        self._door_lock.release()
