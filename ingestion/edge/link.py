"""The line to a node's parent: one kept-alive connection over mutual TLS, with a time limit and a bandwidth cap."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from ingestion.edge import identity
from ingestion.edge.chunk import Chunk, frame
from ingestion.edge.config import Home, address
from ingestion.edge.tls import client_context
from lake.errors import MedlakeError, retold

_PIECE = 1 << 15

#: What a broken line raises.
BROKEN = (OSError, http.client.HTTPException)


class Bucket:
    """A token bucket: ``take`` waits until so many bytes may go. Rate 0 is no cap."""

    def __init__(self, bytes_per_second: int) -> None:
        self.rate = bytes_per_second
        self._burst = max(bytes_per_second, _PIECE)
        self._tokens = float(self._burst)
        self._at = time.monotonic()

    def take(self, size: int) -> None:
        if not self.rate:
            return
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        self._tokens -= size
        if self._tokens < 0:
            time.sleep(-self._tokens / self.rate)


class Backoff:
    """Waits that double up to a limit, each anywhere between nothing and its length: nodes do not come back at once."""

    def __init__(self, most_seconds: float) -> None:
        self._most, self.failures = most_seconds, 0

    def failed(self) -> float:
        """Seconds to wait now."""
        self.failures += 1
        return random.uniform(0, min(self._most, 0.5 * 2 ** min(self.failures, 20)))

    def worked(self) -> None:
        self.failures = 0


class Link:
    """Not for several threads at once."""

    def __init__(self, home: Home, *, cap: bool = True) -> None:
        self._home = home
        self._connection: http.client.HTTPSConnection | None = None
        self.bucket = Bucket(home.config.bandwidth_bytes_per_second if cap else 0)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            host, port = address(self._home.config.parent_address)
            limit = self._home.config.timeout_seconds
            made = http.client.HTTPSConnection(
                host, port, timeout=limit, context=client_context(self._home.folder)
            )
            made.connect()
            try:
                self._known(made.sock)
            except MedlakeError:
                made.close()
                raise
            made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = made
        return self._connection

    def _known(self, sock: Any) -> None:
        """Raises MedlakeError E281, the other side is not our parent, or is revoked."""
        assert isinstance(sock, ssl.SSLSocket)
        found = identity.of_der(sock.getpeercert(binary_form=True) or b"")
        if found.node != self._home.config.parent:
            raise MedlakeError(
                "E281", place=self._home.config.parent_address, detail=f"{found.node} answered"
            )
        if found.serial in identity.revoked_serials(self._home.crl_path.read_bytes(), self._home.authority):
            raise MedlakeError(
                "E281", place=self._home.config.parent_address, detail=f"{found.node} is revoked"
            )

    def _ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One question and its answer; a connection that the other side let go meanwhile is opened again once."""
        fresh = self._connection is None
        try:
            return self._asked(method, path, body() if callable(body) else body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if fresh:
                raise
            return self._asked(method, path, body() if callable(body) else body, headers)
        except BROKEN:
            self.close()
            raise

    def _asked(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> tuple[int, bytes]:
        connection = self._open()
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        content = answer.read()
        if answer.will_close:
            self.close()
        return answer.status, content

    def ask(self, name: str, told: dict[str, Any]) -> dict[str, Any]:
        """Post JSON and get JSON.

        Raises:
            MedlakeError: what the parent answered with, by its own number.
            OSError, http.client.HTTPException: the line is broken.
        """
        status, content = self._ask(
            "POST", f"/edge/v1/{name}", json.dumps(told).encode(), {"Content-Type": "application/json"}
        )
        return _answer(status, content)

    def send(self, chunks: list[Chunk]) -> dict[str, Any]:
        """Send chunks; raises as ``ask`` does. What the parent kept before it refused one is kept."""
        frames = [frame(c) for c in chunks]

        def pieces() -> Iterator[bytes]:
            for whole in frames:
                for at in range(0, len(whole), _PIECE):
                    self.bucket.take(min(_PIECE, len(whole) - at))
                    yield whole[at : at + _PIECE]

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(sum(map(len, frames)))}
        status, content = self._ask("POST", "/edge/v1/chunks", pieces, headers)
        return _answer(status, content)

    def fetch(self, path: str) -> bytes:
        """Get bytes; empty when there is nothing newer. Raises as ``ask`` does."""
        status, content = self._ask("GET", path)
        if status == 200:
            self.bucket.take(len(content))
            return content
        if status == 204:
            return b""
        _answer(status, content)
        return b""


def _answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise http.client.HTTPException(f"status {status}") from error
    told = found.get("error") if isinstance(found, dict) else None
    if told:
        raise retold(told)
    if status != 200 or not isinstance(found, dict):
        raise http.client.HTTPException(f"status {status}")
    return found
