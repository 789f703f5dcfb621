"""A node's process: takes files, HTTP and HL7, spools, forwards, serves its stations, keeps its residents' pack.

Threads: one looks at the drop folder, one forwards; the loop serves the local page, the stations and HL7 senders.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from filelock import FileLock, Timeout

from ingestion.edge import clock, config, identity, take
from ingestion.edge.chain import Chain
from ingestion.edge.config import Home
from ingestion.edge.crypto import DataKey, open_envelope, unlock
from ingestion.edge.forward import Forwarder
from ingestion.edge.link import Link
from ingestion.edge.pack_store import PackStore
from ingestion.edge.pki import write_secret
from ingestion.edge.records import Journal, Records
from ingestion.edge.relay import Relay
from ingestion.edge.spool import Spool
from ingestion.edge.take import Folder
from ingestion.edge.tls import ServerContext
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_MB = 1 << 20

#: Part of a certificate's life after which it is renewed.
_RENEW_WHEN_LEFT = 1 / 3


class Node:
    """Everything of one node but its servers.

    Raises:
        MedlakeError: E280 the folder cannot be used; E296 another process uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.home: Home = config.load(folder)
        self._lock = FileLock(folder / "lock", mode=0o600)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise MedlakeError("E296", place=str(folder)) from None
        c = self.home.config
        self.started = time.monotonic()
        self.spool = Spool(folder / "spool.db", take.TABLES)
        self.chain = Chain(self.spool, self.home)
        self.key = DataKey.fresh(c.node, self.home.sealing)
        self.pack = PackStore(folder / "pack.db", c.node, self.home.centre)
        self.forwarder = Forwarder(self.home, self.spool, self.chain, self.report, self.heard)
        contact = self.forwarder.contact
        self.folder = Folder(
            folder / "drop", self.chain, self.key, c.org_code, c.settle_seconds, lambda: contact.offset
        )
        self.records = Records(self.chain, self.key, lambda: contact.offset)
        self.relay = (
            Relay(self.home, self.spool, self.chain, contact, self.forwarder.poke) if c.listen else None
        )
        self.token = self._local_token()
        self.server_context: ServerContext | None = None
        self.stopping = threading.Event()
        self.certificate_until = self.home.identity.not_after
        self.trouble = ""  # number of the last error of the drop folder's thread

    def _local_token(self) -> str:
        path = self.home.folder / "local.token"
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(24).encode())
        return path.read_text()

    def close(self) -> None:
        self.pack.close()
        self.spool.close()
        self._lock.release()

    # ---- the drop folder's thread

    def watch(self) -> None:
        every = min(1.0, max(self.home.config.settle_seconds, 0.05))
        while not self.stopping.is_set():
            try:
                if self.folder.scan():
                    self.forwarder.poke()
                self.trouble = ""
            except (MedlakeError, OSError) as error:
                self.trouble = error.code if isinstance(error, MedlakeError) else "E283"
                _log.error("edge_watch_failed", code=self.trouble, reason=type(error).__name__)
            self.stopping.wait(every)

    # ---- what goes along with a call to the parent

    def report(self) -> dict[str, Any]:
        """Status for the parent: counts and sizes only, no content and no names."""
        told: dict[str, Any] = {"status": self.status()}
        if self.relay:
            told["children"] = self.relay.children()
        return told

    def status(self) -> dict[str, Any]:
        c, contact = self.home.config, self.forwarder.contact
        own, whole = self.spool.backlog(c.node), self.spool.backlog()
        disk = shutil.disk_usage(self.home.folder)
        return {
            "node": c.node,
            "epoch": self.chain.epoch,
            "waiting_chunks": own.chunks,
            "waiting_records": own.records,
            "waiting_bytes": own.bytes,
            "oldest_at": own.oldest_at,
            "relayed_chunks": whole.chunks - own.chunks,
            "used_mb": self.spool.used_bytes() // _MB,
            "quota_mb": c.quota_mb,
            "free_mb": disk.free // _MB,
            "offset_ms": contact.offset.milliseconds if contact.offset else None,
            "refused": dict(self.folder.refused) | ({self.trouble: 1} if self.trouble else {}),
            "troubles": sorted({t["code"] for t in contact.troubles.values()}),
            "pack_version": self.pack.version,
            "pack_locked": self.pack.locked,
            "certificate_until": int(self.certificate_until),
        }

    # ---- what the parent's answer brings

    def heard(self, link: Link, answer: dict[str, Any]) -> None:
        """Runs in the forwarder's thread after each hello."""
        self._renew(link)
        c = self.home.config
        try:
            if self.pack.locked and c.unlock == "parent":
                self.pack.unlock(self._secret(link))
            offered = int(answer.get("packs", {}).get(c.node, 0))
            if not self.pack.locked and offered > self.pack.version:
                self._fetch_pack(link)
        except MedlakeError as error:  # the pack can wait, what is spooled must not
            self.pack.problem = error.code
            _log.warning("edge_pack_not_taken", code=error.code)

    def _fetch_pack(self, link: Link) -> None:
        path = "/edge/v1/pack?node={}&have={}"
        try:
            found = link.fetch(path.format(self.home.config.node, self.pack.version))
            if found:
                self.pack.take(found)
        except MedlakeError as error:
            if error.code != "E290" or not self.pack.version:
                raise
            found = link.fetch(path.format(self.home.config.node, 0))
            if found:
                self.pack.take(found)
        self.pack.problem = ""

    def _secret(self, link: Link) -> bytes:
        """The pack's secret from the centre, sealed to this node's key; it stays in memory."""
        node, nonce = self.home.config.node, secrets.token_hex(16)
        bound = f"pack-secret|{node}|{nonce}".encode()
        signature = base64.b64encode(identity.sign(self.home.key, bound)).decode()
        answer = link.ask("key", {"node": node, "nonce": nonce, "signature": signature})
        return open_envelope(self.home.key, base64.b64decode(answer["sealed"]), bound)

    def unlock(self, passphrase: str) -> None:
        """Open the pack with the operator's passphrase.

        Raises:
            MedlakeError: E291 it is wrong; E289 this node has no passphrase.
        """
        path = self.home.folder / "pack.locked"
        if not path.exists():
            raise MedlakeError("E289", place=self.home.config.node)
        self.pack.unlock(unlock(passphrase, path.read_bytes()))
        self.forwarder.poke()

    def _renew(self, link: Link) -> None:
        """Ask for a new certificate in good time; the key stays."""
        current = identity.load_certificate(self.home.certificate_path)
        life = (current.not_valid_after_utc - current.not_valid_before_utc).total_seconds()
        offset = (
            self.forwarder.contact.offset
        )  # measured just now: a clock that is weeks ahead must not renew all day
        now = clock.now() + timedelta(milliseconds=offset.milliseconds if offset else 0)
        left = (current.not_valid_after_utc - now).total_seconds()
        self.certificate_until = current.not_valid_after_utc.timestamp()
        if left > life * _RENEW_WHEN_LEFT:
            return
        node = self.home.config.node
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(current.subject)
            .sign(self.home.key, SHA256())
        )
        told = {"node": node, "request": request.public_bytes(Encoding.PEM).decode()}
        try:
            made = link.ask("renew", told)["certificate"].encode()
        except MedlakeError as error:
            _log.error("edge_not_renewed", code=error.code)
            return
        if identity.of_certificate(x509.load_pem_x509_certificate(made)).node == node:
            write_secret(self.home.certificate_path, made)
            if self.server_context is not None:
                self.server_context.renew()
            _log.info("edge_renewed", status=node)


async def run(folder: Path, passphrase: str = "") -> None:
    """Run a node until SIGTERM or SIGINT."""
    import uvicorn

    from ingestion.edge import page, parent, tls

    node = Node(folder)
    if passphrase:
        node.unlock(passphrase)
    c = node.home.config
    servers: list[uvicorn.Server] = [page.server(node, c.page_port)]
    if node.relay is not None:
        node.server_context = ServerContext.of(folder)
        host, port = config.address(c.listen)
        servers.append(tls.server(parent.application(node.relay), host, port, node.server_context))
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    broken: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        """A thread that ends by what nobody foresaw ends the process: a node that takes nothing must not look alive."""
        try:
            work()
        except BaseException as error:
            broken.append(error)
            _log.error("edge_broken", reason=type(error).__name__)
            loop.call_soon_threadsafe(ended.set)

    threads = [
        threading.Thread(target=guarded, args=(w,), name=n)
        for n, w in (("edge-watch", node.watch), ("edge-forward", node.forwarder.run))
    ]
    async with node.records:
        listener = await _hl7(node) if c.mllp_port else None
        serving = [asyncio.create_task(s.serve()) for s in servers]
        for thread in threads:
            thread.start()
        refreshing = asyncio.create_task(_refresh_list(node))
        stopped = asyncio.create_task(ended.wait())
        await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
        refreshing.cancel()
        if listener is not None:
            await listener.stop()
        for s in servers:
            s.should_exit = True
        await asyncio.gather(*serving, return_exceptions=True)
    node.stopping.set()
    node.forwarder.stop()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    node.close()
    if broken:
        raise broken[0]


async def _refresh_list(node: Node) -> None:
    """A relay's handshakes use the newest revocation list that came down."""
    known = 0
    while node.server_context is not None:
        changed = node.home.crl_path.stat().st_mtime_ns
        if changed != known:
            known = changed
            node.server_context.renew()
        await asyncio.sleep(1)


async def _hl7(node: Node) -> Any:
    """HL7 v2 over MLLP, acknowledged when it is in the spool; the centre gets it as batch files."""
    from ingestion.receive.facilities import Facilities
    from ingestion.receive.mllp import Listener

    c = node.home.config
    journal = Journal(node.records, c.mllp_feed, "mllp-batch", ".hl7")
    listener = Listener(journal, Facilities(only=c.org_code))  # type: ignore[arg-type]
    await listener.start("127.0.0.1", c.mllp_port)
    return listener
