"""HL7 v2 over MLLP: many connections, one message at a time each, acknowledged when it is on disk.

A connection that is waited for is not read from, so a slow disk slows its senders down (TCP) and memory stays
bounded by connections times the largest message.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ingestion.receive import hl7_ack
from ingestion.receive.facilities import Facilities
from ingestion.receive.hl7_ack import Accepted, Header, Trouble
from ingestion.receive.journal import Journal
from ingestion.receive.mllp_frame import Frame, Framer
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("receive")
_SECOND_START = re.compile(rb"[\r\n](?:MSH|FHS|BHS|BTS|FTS)[^A-Za-z0-9]")
_READ = 1 << 16
#: Between two lines of the log that say how much came in.
_TELL_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """Parameters of the door, from ``mllp.yaml``."""

    accepted: Accepted
    max_message_bytes: int
    max_connections: int
    frame_seconds: float
    keepalive: tuple[int, int, int]


@lru_cache(maxsize=1)
def limits() -> Limits:
    """The parameters as reviewed."""
    import yaml

    node = yaml.safe_load((Path(__file__).parent / "mllp.yaml").read_text("utf-8"))
    accepted = Accepted(
        frozenset(node["types"]), tuple(node["versions"]), frozenset(map(str, node["processing_ids"]))
    )
    return Limits(
        accepted,
        node["max_message_bytes"],
        node["max_connections"],
        node["frame_seconds"],
        tuple(node["keepalive"]),
    )


@dataclass
class Counts:
    """What a listener did since it started. ``refused``: AE; ``rejected``: AR; ``garbage``: bytes outside frames."""

    received: int = 0
    accepted: int = 0
    refused: int = 0
    rejected: int = 0
    bytes: int = 0
    garbage: int = 0
    connections: int = 0
    closed_slow: int = 0
    turned_away: int = 0


@dataclass(eq=False)
class _Connection:
    task: asyncio.Task[Any]
    writer: asyncio.StreamWriter
    framer: Framer
    reading: bool = False
    begun: float = field(default=0.0)  # monotonic, when the unfinished frame began


class Listener:
    """An MLLP server in front of a journal. ``port`` 0 takes a free one; ``start`` returns which."""

    def __init__(self, journal: Journal, facilities: Facilities, given: Limits | None = None) -> None:
        self.counts = Counts()
        self._journal = journal
        self._facilities = facilities
        self._limits = given or limits()
        self._open: set[_Connection] = set()
        self._stopping = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._boot = f"{time.time_ns() // 1_000_000:x}"
        self._answers = 0

    async def start(self, host: str, port: int) -> int:
        self._server = await asyncio.start_server(self._talk, host, port, limit=2 * _READ)
        self._sweeper = asyncio.create_task(self._sweep())
        bound = int(self._server.sockets[0].getsockname()[1])
        _log.info("listening", port=bound)
        return bound

    async def stop(self) -> None:
        """Take no more; answer what is in hand; close."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            if connection.reading:
                connection.task.cancel()
        while self._open:
            await asyncio.wait([c.task for c in self._open])
        if self._sweeper is not None:
            self._sweeper.cancel()
        _log.info("stopped", received=self.counts.received, rows=self.counts.accepted)

    def facts(self) -> dict[str, int]:
        return asdict(self.counts) | {"open": len(self._open)}

    # ---- a connection

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._stopping or len(self._open) >= self._limits.max_connections:
            self.counts.turned_away += 1
            writer.close()
            return
        connection = _Connection(task, writer, Framer(self._limits.max_message_bytes))
        self._open.add(connection)
        self.counts.connections += 1
        _keep_alive(writer, self._limits.keepalive)
        try:
            await self._messages(connection, reader)
        except (asyncio.CancelledError, OSError):
            pass  # stopped, or the peer is gone: what it was not told about it sends again
        finally:
            self.counts.garbage += connection.framer.garbage
            self._open.discard(connection)
            writer.close()

    async def _messages(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        framer, writer = connection.framer, connection.writer
        while not self._stopping:
            connection.reading = True
            data = await reader.read(_READ)
            connection.reading = False
            if not data:
                return
            for frame in framer.feed(data):
                answer = await self._answer(frame)
                if answer is not None:
                    writer.write(b"\x0b" + answer + b"\x1c\r")
                    await writer.drain()
            if not framer.inside:
                connection.begun = 0.0
            elif not connection.begun:
                connection.begun = time.monotonic()

    async def _sweep(self) -> None:
        """Close connections whose frame does not end: nobody knows whether their sender still lives. Tell now and then."""
        told, told_at = 0, time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, self._limits.frame_seconds / 4))
            if self.counts.received > told and time.monotonic() - told_at >= _TELL_SECONDS:
                told, told_at = self.counts.received, time.monotonic()
                _log.info("receiving", received=told, records=self.counts.accepted, count=len(self._open))
            before = time.monotonic() - self._limits.frame_seconds
            for connection in list(self._open):
                if connection.reading and 0 < connection.begun < before:
                    self.counts.closed_slow += 1
                    _log.warning("frame_never_ended", count=self.counts.closed_slow)
                    connection.writer.transport.abort()

    # ---- a message

    async def _answer(self, frame: Frame) -> bytes | None:
        self.counts.received += 1
        self.counts.bytes += len(frame.content)
        header = hl7_ack.header_of(frame.content)
        trouble = self._trouble(frame, header)
        if trouble is None and header is not None:
            trouble = await self._keep(header, frame.content)
        if trouble is None:
            self.counts.accepted += 1
        elif trouble.reject:
            self.counts.rejected += 1
        else:
            self.counts.refused += 1
        code = hl7_ack.code_of(header, trouble)
        if code is None:
            return None
        self._answers += 1
        return hl7_ack.build(header, code, trouble, f"{self._boot}-{self._answers}", datetime.now(UTC))

    def _trouble(self, frame: Frame, header: Header | None) -> Trouble | None:
        if header is None:
            return Trouble(100, "MSH^1")
        if not frame.whole:
            return Trouble(207, detail=f"longer than {self._limits.max_message_bytes} bytes")
        found = hl7_ack.trouble_of(header, self._limits.accepted)
        if found is None and _SECOND_START.search(frame.content):
            found = Trouble(100, "MSH^2")
        if found is None and self._facilities.org_of(header.first(3), header.first(4)) is None:
            found = Trouble(103, "MSH^1^4", reject=True)
        return found

    async def _keep(self, header: Header, content: bytes) -> Trouble | None:
        org = self._facilities.org_of(header.first(3), header.first(4))
        assert org is not None
        try:
            await self._journal.append(org, content)
        except OSError as error:
            return Trouble(207, detail=(error.strerror or "not written"))
        except MedlakeError as error:
            return Trouble(207, detail=error.code)
        return None


def _keep_alive(writer: asyncio.StreamWriter, times: tuple[int, int, int]) -> None:
    found = writer.get_extra_info("socket")
    idle, between, probes = times
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
