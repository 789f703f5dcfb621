"""The centre: takes chunks of all nodes, brings them into the drop, knows how each node is.

``serve`` runs until it is told to stop; the other functions are for the command line and for schedulers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import signal
import threading
from datetime import UTC, date, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from filelock import FileLock, Timeout

from ingestion.edge import centre_store, clock, identity
from ingestion.edge.apply import Applier
from ingestion.edge.centre_store import Heard
from ingestion.edge.chunk import Chunk
from ingestion.edge.crypto import Opener, envelope
from ingestion.edge.identity import CENTRE, Identity
from ingestion.edge.intake import Intake
from ingestion.edge.pki import Authority, write_secret
from ingestion.edge.register import Member
from ingestion.edge.tls import ServerContext
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_MB = 1 << 20

#: The centre takes nothing more when less of the disk is left, or more than this waits for the drop.
RESERVE_BYTES = 2 << 30
MOST_PENDING = 8 << 30

#: Seconds between looks for what is complete, when nothing arrives.
APPLY_SECONDS = 1.0


class Centre:
    """The parent of all institutions. ``arrived`` is set whenever chunks came."""

    def __init__(self, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.store = centre_store.open_store()
        self.intake = Intake(self.store, self, is_centre=True, name=CENTRE, clock=clock.now)
        self.arrived = threading.Event()
        self.applier = Applier(self.store, Opener(self.authority.sealing_keys()))
        self._seen: tuple[tuple[int, date], dict[str, Member], dict[str, Any], str] = (
            (0, date.min),
            {},
            {},
            "",
        )
        self._looking = threading.Lock()

    # ---- the register, read again when it changed

    def _register(self) -> tuple[dict[str, Member], dict[str, Any], str]:
        with self._looking:
            changed = (
                self.authority.register.path.stat().st_mtime_ns,
                clock.now().date(),
            )  # a new list every day
            if changed != self._seen[0]:
                members = self.authority.register.members()
                self._seen = (changed, members, {}, self.authority.crl().decode())
            return self._seen[1:]

    def members(self) -> dict[str, Member]:
        return self._register()[0]

    def crl(self) -> str:
        return self._register()[2]

    def _keys(self, node: str) -> list[tuple[ec.EllipticCurvePublicKey, datetime | None, int]]:
        """A node's keys, newest first, each with when its newest certificate was revoked, and the serial."""
        known = self._register()[1]
        if node not in known:
            found = []
            for _, pem, revoked in self.authority.register.keys(node):
                who = identity.of_certificate(x509.load_pem_x509_certificate(pem))
                found.append((who.key, revoked, who.serial))
            known[node] = found
        keys: list[tuple[ec.EllipticCurvePublicKey, datetime | None, int]] = known[node]
        return keys

    # ---- who may speak

    def admit(self, peer: Identity) -> None:
        member = self.members().get(peer.node)
        revoked = {serial for _, at, serial in self._keys(peer.node) if at}
        if member is None or member.revoked_at or peer.serial in revoked:
            raise MedlakeError("E281", place=peer.node, detail="revoked")
        if member.parent != CENTRE:
            raise MedlakeError("E285", place=peer.node, detail=f"parent {member.parent}")

    def _speaks_for(self, peer: Identity, node: str) -> Member:
        member = self.members().get(node)
        if member is None or (node != peer.node and member.parent != peer.node):
            raise MedlakeError("E285", place=peer.node, detail=f"speaks for {node}")
        return member

    def key_for(self, peer: Identity, chunk: Chunk) -> ec.EllipticCurvePublicKey:
        self._speaks_for(peer, chunk.node)
        for key, revoked, _ in self._keys(chunk.node):
            if not identity.verify(key, chunk.signature, chunk.header):
                continue
            if revoked is None or (chunk.node != peer.node and _had_before(chunk.via, peer.node, revoked)):
                return key
            raise MedlakeError("E281", place=f"{chunk.node}/{chunk.seq}", detail="revoked")
        raise MedlakeError("E284", place=f"{chunk.node}/{chunk.seq}", detail="signature")

    def highest_epoch(self, node: str) -> int | None:
        return self.members()[node].epoch

    # ---- what nodes ask

    def hello(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        now = clock.now()
        streams = [s for s in told.get("streams", []) if self._speaks_for(peer, str(s.get("node")))]
        self._note(peer, told, now)
        names = {peer.node} | {
            n for n, m in self.members().items() if m.parent == peer.node and not m.revoked_at
        }
        members = self.members()
        return {
            "v": 1,
            "now": now.isoformat(),
            "centre_now": now.isoformat(),
            "streams": self.intake.positions(peer.node, streams),
            "epochs": {n: members[n].epoch for n in names},
            "crl": self.crl(),
            "packs": self._packs(names),
        }

    def _packs(self, names: set[str]) -> dict[str, int]:
        from ingestion.edge import pack_files

        return {n: v for n in names if (v := pack_files.newest(n))}

    def _note(self, peer: Identity, told: dict[str, Any], now: datetime) -> None:
        status = told.get("status", {})
        try:
            skew = round((now - datetime.fromisoformat(told["now"])).total_seconds() * 1000)
        except (KeyError, ValueError, TypeError) as error:
            raise MedlakeError("E299", place=peer.node, detail="now") from error
        calls = [Heard(peer.node, peer.org_code, peer.parent, now, "", skew, status)]
        for node, child in told.get("children", {}).items():
            member = self.members().get(node)
            if member is None or member.parent != peer.node:
                continue
            at = min(datetime.fromisoformat(child["at"]), now)
            offset = child.get("status", {}).get("offset_ms")
            calls.append(
                Heard(node, member.org_code, peer.node, at, peer.node, offset, child.get("status", {}))
            )
        centre_store.heard(self.store, calls)

    def busy(self) -> None:
        free = shutil.disk_usage(self.store.path.parent).free
        if free < RESERVE_BYTES:
            raise MedlakeError("E294", detail=f"{free // _MB} MB")
        if self.store.used_bytes() > MOST_PENDING:
            raise MedlakeError("E294", detail="waiting for the drop")
        self.arrived.set()

    def pack(self, peer: Identity, node: str, have: int) -> bytes:
        from ingestion.edge import pack_files

        if self._speaks_for(peer, node).revoked_at:
            raise MedlakeError("E281", place=node, detail="revoked")
        return pack_files.following(node, have)

    def key(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        """The secret of a node's pack, sealed to the node's own key; asked with a signature of that key."""
        node, nonce = str(told.get("node")), str(told.get("nonce"))
        if self._speaks_for(peer, node).revoked_at:
            raise MedlakeError("E281", place=node, detail="revoked")
        try:
            signature = base64.b64decode(str(told.get("signature")), validate=True)
        except ValueError as error:
            raise MedlakeError("E299", place=node, detail="signature") from error
        for key, revoked, _ in self._keys(node):
            if revoked is None and identity.verify(key, signature, f"pack-secret|{node}|{nonce}".encode()):
                sealed = envelope(
                    key, self.authority.pack_secret(node), f"pack-secret|{node}|{nonce}".encode()
                )
                return {"sealed": base64.b64encode(sealed).decode()}
        raise MedlakeError("E281", place=node, detail="signature")

    def renew(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        node = str(told.get("node"))
        self._speaks_for(peer, node)
        return {"certificate": self.authority.renew(node, str(told.get("request")).encode()).decode()}

    # ---- into the drop

    def apply(self) -> int:
        """Bring what is complete into the drop; returns the files made."""
        return self.applier.run(self.members())


def _had_before(via: str, relay: str, revoked: datetime) -> bool:
    """Whether the relay, whom we trust, says that it had the chunk before the revocation."""
    name, _, at = via.partition(" ")
    try:
        return name == relay and datetime.fromisoformat(at) < revoked.astimezone(UTC)
    except ValueError:
        return False


async def serve(host: str, port: int) -> None:
    """Run the centre until SIGTERM or SIGINT.

    Raises:
        MedlakeError: E296, another process is the centre already; E293, no authority.
    """
    from ingestion.edge import tls
    from ingestion.edge.parent import application

    centre = Centre()
    lock = FileLock(centre_store.folder() / "lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MedlakeError("E296", place=str(centre_store.folder())) from None
    place = centre.authority.place / CENTRE
    write_secret(place / "crl.pem", centre.crl().encode())
    context = ServerContext.of(place)
    server = tls.server(application(centre), host, port, context)
    loop = asyncio.get_running_loop()
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        centre.arrived.set()
        server.should_exit = True

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    applying = asyncio.create_task(asyncio.to_thread(_apply_until, centre, stopping, context))
    _log.info("edge_centre_listening", port=port)
    with contextlib.suppress(asyncio.CancelledError):
        await server.serve()
    stop()
    await applying
    lock.release()


def _apply_until(centre: Centre, stopping: threading.Event, context: ServerContext) -> None:
    """Apply as chunks come; watch the register for revocations."""
    known = ""
    while True:
        centre.arrived.wait(APPLY_SECONDS)
        centre.arrived.clear()
        try:
            centre.apply()
            listed = centre.crl()
            if listed != known:  # somebody was issued or revoked, or it is another day
                known = listed
                centre_store.forget(centre.store, clock.now())
                write_secret(centre.authority.place / CENTRE / "crl.pem", listed.encode())
                context.renew()
        except (MedlakeError, OSError) as error:  # a full disk: what is here stays and is tried again
            _log.error("edge_not_applied", reason=type(error).__name__, code=getattr(error, "code", ""))
            stopping.wait(APPLY_SECONDS)
        if stopping.is_set():
            return
