"""An institution as the parent of its stations: their chunks go on unchanged, under their own numbers and signatures.

It cannot read them. What only the centre can answer (a pack, its key, a new certificate) is asked of the centre; the
newest pack of each station is kept, sealed as it came, for days without a network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from ingestion.edge import clock, identity
from ingestion.edge.chain import Chain
from ingestion.edge.chunk import Chunk
from ingestion.edge.config import Home
from ingestion.edge.forward import Contact
from ingestion.edge.identity import NODE_NAME, Identity
from ingestion.edge.intake import Intake
from ingestion.edge.link import BROKEN, Link
from ingestion.edge.pki import write_secret
from ingestion.edge.spool import Spool
from lake.errors import MedlakeError


class Relay:
    """``contact`` is the forwarder's, for the centre's time and what packs there are."""

    def __init__(
        self, home: Home, spool: Spool, chain: Chain, contact: Contact, arrived: Callable[[], None]
    ) -> None:
        self._home, self._spool, self._chain, self._contact = home, spool, chain, contact
        self._arrived = arrived
        self._up = threading.Lock()
        self._crl: tuple[int, frozenset[int]] = (0, frozenset())
        self.intake = Intake(spool, self, is_centre=False, name=home.config.node, clock=self.centre_time)

    def centre_time(self) -> datetime:
        """The centre's time as far as this node knows it."""
        offset = self._contact.offset
        return clock.now() + timedelta(milliseconds=offset.milliseconds if offset else 0)

    # ---- who may speak

    def admit(self, peer: Identity) -> None:
        if peer.parent != self._home.config.node:
            raise MedlakeError("E285", place=peer.node, detail=f"parent {peer.parent}")
        if peer.serial in self._revoked():
            raise MedlakeError("E281", place=peer.node, detail="revoked")

    def _revoked(self) -> frozenset[int]:
        changed = self._home.crl_path.stat().st_mtime_ns
        if changed != self._crl[0]:
            self._crl = (
                changed,
                identity.revoked_serials(self._home.crl_path.read_bytes(), self._home.authority),
            )
        return self._crl[1]

    def key_for(self, peer: Identity, chunk: Chunk) -> ec.EllipticCurvePublicKey:
        if chunk.node != peer.node:
            raise MedlakeError("E285", place=peer.node, detail=f"speaks for {chunk.node}")
        return peer.key

    def highest_epoch(self, node: str) -> int | None:
        return None

    # ---- what stations ask

    def hello(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        streams = [s for s in told.get("streams", []) if s.get("node") == peer.node]
        report = {
            "org_code": peer.org_code,
            "at": self.centre_time().isoformat(timespec="seconds"),
            "now": told.get("now"),
            "status": told.get("status", {}),
        }
        self._spool.remember_all({f"child|{peer.node}": json.dumps(report)})
        offset = self._contact.offset
        grant = self._spool.fact(f"grant|{peer.node}")
        packs = {n: v for n, v in self._contact.packs.items() if n == peer.node}
        return {
            "v": 1,
            "now": clock.now().isoformat(),
            "centre_now": self.centre_time().isoformat() if offset else None,
            "streams": self.intake.positions(peer.node, streams),
            "epochs": {peer.node: int(grant)} if grant else {},
            "crl": self._home.crl_path.read_text() if self._home.crl_path.exists() else "",
            "packs": packs,
        }

    def children(self) -> dict[str, Any]:
        """What the stations told when they last called."""
        return {node: json.loads(text) for node, text in self._spool.facts("child|").items()}

    def busy(self) -> None:
        self._chain.room()
        self._arrived()

    def pack(self, peer: Identity, node: str, have: int) -> bytes:
        if node != peer.node or not NODE_NAME.fullmatch(node):
            raise MedlakeError("E285", place=peer.node, detail=f"pack of {node}")
        kept = self._home.folder / "packs" / f"{node}.pack"
        try:
            found = self._asking(lambda link: link.fetch(f"/edge/v1/pack?node={node}&have={have}"))
        except MedlakeError as error:
            if error.code != "E294":
                raise
            return kept.read_bytes() if kept.exists() else b""
        if found:
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            write_secret(kept, found)
        return found

    def key(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        if told.get("node") != peer.node:
            raise MedlakeError("E285", place=peer.node, detail="key")
        return self._asking(lambda link: link.ask("key", told))

    def renew(self, peer: Identity, told: dict[str, Any]) -> dict[str, Any]:
        if told.get("node") != peer.node:
            raise MedlakeError("E285", place=peer.node, detail="renewal")
        return self._asking(lambda link: link.ask("renew", told))

    def _asking(self, work: Callable[[Link], Any]) -> Any:
        """Ask the parent for a station. Raises MedlakeError E294 when there is no line up."""
        last = self._contact.last_at
        if not self._contact.connected or last is None:
            raise MedlakeError("E294", place=self._home.config.node, detail="no line to the centre")
        with self._up:
            link = Link(self._home)
            try:
                return work(link)
            except BROKEN as error:
                raise MedlakeError(
                    "E294", place=self._home.config.node, detail=type(error).__name__
                ) from error
            finally:
                link.close()
