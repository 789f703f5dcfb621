"""Forwarding: call the parent, learn how far each chain is there, send what is missing, wait, again; for ever.

A broken line costs a back-off with jitter and nothing else: where to go on is asked of the parent at each contact.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ingestion.edge import clock
from ingestion.edge.chain import Chain
from ingestion.edge.clock import Offset
from ingestion.edge.config import Home
from ingestion.edge.link import BROKEN, Backoff, Link
from ingestion.edge.pki import write_secret
from ingestion.edge.spool import Spool, Stream
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")

#: Bytes of one request: halved when a line breaks, doubled when a request arrives.
LEAST_REQUEST, MOST_REQUEST = 1 << 16, 8 << 20


@dataclass
class Contact:
    """What the node knows of its line to the parent, for the page and for reports. Instants by the node's clock."""

    last_at: datetime | None = None
    connected: bool = False
    problem: dict[str, str] | None = None
    offset: Offset | None = None
    sent_bytes: int = 0
    sent_chunks: int = 0
    packs: dict[str, int] = field(default_factory=dict)
    troubles: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)


class Forwarder:
    """Runs in a thread of its own. ``report`` tells the parent how this node is; ``heard`` is given its answer."""

    def __init__(
        self,
        home: Home,
        spool: Spool,
        chain: Chain,
        report: Callable[[], dict[str, Any]],
        heard: Callable[[Link, dict[str, Any]], None],
    ) -> None:
        self._home, self._spool, self._chain = home, spool, chain
        self._report, self._heard = report, heard
        self.contact = Contact()
        self._link = Link(home)
        self._backoff = Backoff(home.config.most_backoff_seconds)
        self._request = MOST_REQUEST
        self._wake = threading.Event()
        self._stopping = False
        offset = spool.fact("offset_ms")
        if offset:
            self.contact.offset = Offset(int(offset), datetime.fromisoformat(spool.fact("offset_at")))

    def poke(self) -> None:
        """There is something to send."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def run(self) -> None:
        while not self._stopping:
            try:
                self._talk()
                self._backoff.worked()
                self._wait(self._home.config.heartbeat_seconds, poked=True)
            except MedlakeError as error:
                self._failed(
                    error, {"code": error.code, "zh": error.zh, "en": error.en, "remedy_zh": error.remedy_zh}
                )
            except BROKEN as error:
                self._request = max(self._request // 2, LEAST_REQUEST)
                self._failed(error, None)
        self._link.close()

    def _failed(self, error: Exception, problem: dict[str, str] | None) -> None:
        self._link.close()
        if self.contact.connected or not self._backoff.failures or problem != self.contact.problem:
            _log.warning(
                "edge_line_broken", reason=type(error).__name__, code=problem["code"] if problem else ""
            )
        self.contact.connected = False
        self.contact.problem = problem
        self._wait(self._backoff.failed(), poked=False)

    def _wait(self, seconds: float, *, poked: bool) -> None:
        """New input ends a quiet wait at once, but does not shorten a back-off."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            if self._stopping:
                return
            if self._wake.is_set():
                self._wake.clear()
                if poked:
                    return

    # ---- one contact

    def _talk(self) -> None:
        """Say hello and send until the parent has everything."""
        answer, moved = self._hello()
        while not self._stopping and (self._send(answer) or moved):
            answer, moved = self._hello()  # also to tell the parent that nothing waits any more

    def _hello(self) -> tuple[dict[str, Any], bool]:
        """The parent's answer, and whether it has more than we knew."""
        sent = clock.now()
        told = {
            "v": 1,
            "now": sent.isoformat(),
            "streams": [self._told(s) for s in self._open_streams()],
            **self._report(),
        }
        answer = self._link.ask("hello", told)
        heard = clock.now()
        theirs = datetime.fromisoformat(answer["centre_now"] or answer["now"])
        contact = self.contact
        contact.offset = clock.measured(sent, heard, theirs)
        contact.last_at, contact.connected, contact.problem = heard, True, None
        contact.packs = {str(k): int(v) for k, v in answer.get("packs", {}).items()}
        self._spool.remember(
            offset_ms=str(contact.offset.milliseconds),
            offset_at=heard.isoformat(),
            last_contact=heard.isoformat(),
            **{f"grant|{n}": str(e) for n, e in answer.get("epochs", {}).items()},
        )
        if answer.get("crl"):
            write_secret(self._home.crl_path, answer["crl"].encode())
        self._heard(self._link, answer)
        granted = int(answer.get("epochs", {}).get(self._chain.node, 0))
        if granted > self._chain.epoch:
            self._chain.begin_again(granted)
            return self._hello()
        return answer, self._settle(answer)

    def _open_streams(self) -> list[Stream]:
        """Chains with something here, and the own one."""
        own = (self._chain.node, self._chain.epoch)
        found = [s for s in self._spool.streams() if (s.node, s.epoch) == own or s.last_seq > s.final]
        return [s for s in found if s.node != own[0] or s.epoch == own[1]]

    def _told(self, stream: Stream) -> dict[str, Any]:
        first = self._spool.first(stream.node, stream.epoch)
        return {
            "node": stream.node,
            "epoch": stream.epoch,
            "first": first,
            "last": stream.last_seq,
            "digest": stream.last_digest,
        }

    def _settle(self, answer: dict[str, Any]) -> bool:
        """Note what the parent and the centre have, and let go of it. Returns whether that is news."""
        troubles: dict[tuple[str, int], dict[str, str]] = {}
        moved = False
        for one in answer["streams"]:
            node, epoch, have, final = one["node"], one["epoch"], one["have"], one["final"]
            if one.get("trouble"):
                troubles[node, epoch] = one["trouble"]
            else:
                known = self._spool.stream(node, epoch)
                if known and (known.acked, known.final) != (max(have, known.acked), max(final, known.final)):
                    self._spool.acknowledged(node, epoch, have, final)
                    moved = True
        self.contact.troubles = troubles
        if moved:
            self._spool.prune(pressed=False)
        return moved

    def _send(self, answer: dict[str, Any]) -> bool:
        """Send each chain's next stretch; returns whether anything was sent."""
        sent = False
        for one in answer["streams"]:
            if one.get("trouble") or self._stopping:
                continue
            after = one["have"]
            while not self._stopping:
                chunks = self._spool.chunks(one["node"], one["epoch"], after, self._request)
                if not chunks:
                    break
                try:
                    self._link.send(chunks)
                except MedlakeError as error:
                    if error.code in ("E286", "E287"):  # this chain's own trouble; the others go on
                        self.contact.troubles[one["node"], one["epoch"]] = {
                            "code": error.code,
                            "zh": error.zh,
                            "remedy_zh": error.remedy_zh,
                        }
                        break
                    raise
                sent = True
                after = chunks[-1].seq
                self.contact.sent_chunks += len(chunks)
                self.contact.sent_bytes += sum(c.size for c in chunks)
                self._request = min(self._request * 2, MOST_REQUEST)
        return sent
