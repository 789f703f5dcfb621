"""Single records (HTTP, MLLP) on their way into the chain: callers wait together for one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ingestion.edge import chunk as chunks
from ingestion.edge import clock
from ingestion.edge.chain import Chain
from ingestion.edge.chunk import CONTENT_BYTES, MOST_CONTENT, Draft
from ingestion.edge.clock import Offset
from ingestion.edge.crypto import DataKey
from lake.errors import MedlakeError

#: feed, institution, framing, suffix: records that agree in them share a chunk.
_Kind = tuple[str, str, str, str]
_Waiting = tuple[_Kind, bytes, "asyncio.Future[None]"]


@dataclass
class Records:
    """``async with`` it in the loop whose callers append."""

    chain: Chain
    key: DataKey
    offset: Callable[[], Offset | None]
    taken: int = 0
    _waiting: list[_Waiting] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _closing: bool = False

    async def append(self, feed: str, org: str, framing: str, suffix: str, records: list[bytes]) -> None:
        """Returns when the records are on disk.

        Raises:
            MedlakeError: E282 the spool is full, E283 the disk does not take them, E299 a record is too large; none
                of them was kept.
        """
        if max(map(len, records), default=0) > MOST_CONTENT - (1 << 16):
            raise MedlakeError("E299", detail=f"record over {MOST_CONTENT >> 20} MB")
        told: list[asyncio.Future[None]] = []
        for record in records:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(((feed, org, framing, suffix), record, future))
            told.append(future)
        self._wake.set()
        for done in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done

    async def __aenter__(self) -> Records:
        self._task = asyncio.create_task(self._run(), name="edge-records")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._wake.set()
        assert self._task is not None
        await self._task

    async def _run(self) -> None:
        while not self._closing or self._waiting:
            if not self._waiting:
                await self._wake.wait()
                self._wake.clear()
                continue
            group, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write, group)
            except MedlakeError as error:
                for _, _, told in group:
                    if not told.done():
                        told.set_exception(error)
                continue
            self.taken += len(group)
            for _, _, told in group:
                if not told.done():  # its caller may be gone
                    told.set_result(None)

    def _write(self, group: list[_Waiting]) -> None:
        self.chain.room(sum(len(record) for _, record, _ in group))
        by_kind: dict[_Kind, list[list[bytes]]] = {}
        filled: dict[_Kind, int] = {}
        for kind, record, _ in group:
            parts = by_kind.setdefault(kind, [[]])
            if parts[-1] and filled[kind] + len(record) > CONTENT_BYTES:
                parts.append([])
                filled[kind] = 0
            parts[-1].append(record)
            filled[kind] = filled.get(kind, 0) + len(record)
        self.chain.write([self._seal(kind, part) for kind, parts in by_kind.items() for part in parts])

    def _seal(self, kind: _Kind, records: list[bytes]) -> Draft:
        feed, org, framing, suffix = kind
        draft = chunks.seal(
            self.chain.node,
            self.key,
            {},
            chunks.pack_records(records),
            delivery="",
            part=0,
            last=True,
            feed=feed,
            org_code=org,
            framing=framing,
            suffix=suffix,
            records=len(records),
            at=clock.now(),
            offset=self.offset(),
        )
        return chunks.alone(draft)


@dataclass(frozen=True)
class Journal:
    """What an MLLP listener needs of a journal, before a chain: see ``ingestion.receive.mllp.Listener``."""

    records: Records
    feed: str
    framing: str
    suffix: str

    async def append(self, org_code: str, record: bytes) -> int:
        """Returns the number of records taken so far, once the record is on disk."""
        await self.records.append(self.feed, org_code, self.framing, self.suffix, [record])
        return self.records.taken
