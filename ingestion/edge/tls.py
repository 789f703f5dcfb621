"""Mutual TLS between nodes: contexts for both sides, and a uvicorn server that knows who is calling.

A certificate of our authority is asked for on both sides; the server's store holds the revocation list, so a revoked
node fails in the handshake. A connection that was open before is refused at its next request.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ingestion.edge import identity
from ingestion.edge.identity import Identity


class ServerContext(ssl.SSLContext):
    """A server's context that can be made anew while it serves: OpenSSL keeps every revocation list it was given, and
    of two that were made in one second the older one rules. For a folder with ``node.crt, node.key, ca.crt, crl.pem``.
    """

    _folder: Path
    _current: ssl.SSLContext

    @classmethod
    def of(cls, folder: Path) -> ServerContext:
        made = cls(ssl.PROTOCOL_TLS_SERVER)
        made._folder = folder
        made.renew()
        return made

    def renew(self) -> None:
        """Use the folder's certificate and revocation list as they are now, for connections from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._folder / "node.crt", self._folder / "node.key")
        context.load_verify_locations(self._folder / "ca.crt")
        context.load_verify_locations(self._folder / "crl.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        context.num_tickets = 0  # a resumed session would not be checked against a newer list
        self._current = context

    def wrap_bio(self, *words: Any, **named: Any) -> ssl.SSLObject:
        return self._current.wrap_bio(*words, **named)


def client_context(folder: Path) -> ssl.SSLContext:
    """The parent is known by the node's name in its certificate (``identity``), not by where it is reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(folder / "node.crt", folder / "node.key")
    context.load_verify_locations(folder / "ca.crt")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Protocol(H11Protocol):
    """HTTP/1.1 that puts the caller's identity into the request's state."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        found = transport.get_extra_info("ssl_object")
        der = found.getpeercert(binary_form=True) if found is not None else None
        peer: Identity | None = identity.of_der(der) if der else None
        self.app_state = {**self.app_state, "peer": peer}


class Server(uvicorn.Server):
    """Leaves signals to the process: several servers and threads stop together."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, host: str, port: int, context: ServerContext) -> Server:
    """A server that has not started; ``await server.serve()`` in a running loop."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        ssl_context_factory=lambda _config, _default: context,
    )
    return Server(config)
