"""What a parent does with chunks that arrive, institution and centre alike: check, keep, acknowledge.

A chunk is taken once: a number that is here already is acknowledged again, one that skips ahead is answered with the
number that is wanted, one that contradicts what is here is refused by number (E286). Nothing is kept in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from ingestion.edge import identity
from ingestion.edge.chunk import GENESIS, Chunk
from ingestion.edge.identity import Identity
from ingestion.edge.spool import Spool
from lake import kill
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_TYPES: dict[str, type] = {
    "chunk": str, "delivery": str, "part": int, "last": bool, "feed": str, "org_code": str, "framing": str,
    "suffix": str, "records": int, "content_bytes": int, "at": str, "key": str, "previous": str, "sm3": str,
}  # fmt: skip

#: Chunks are made durable together up to so many bytes.
COMMIT_BYTES = 8 << 20


class Members(Protocol):
    """Who may speak. A relay knows its children by their certificates, the centre everybody by the register."""

    def key_for(self, peer: Identity, chunk: Chunk) -> ec.EllipticCurvePublicKey:
        """The key that must have signed a chunk which this peer sends.

        Raises:
            MedlakeError: E285 the peer may not send this; E281 the signer is revoked.
        """

    def highest_epoch(self, node: str) -> int | None:
        """The newest epoch a node may use; None when only the centre knows."""


@dataclass
class Taken:
    """What became of a request's chunks; ``problem`` is the first that was not taken."""

    kept: int = 0
    again: int = 0
    problem: MedlakeError | None = None


class Intake:
    """``is_centre``: chains begin at 1 here. A relay that knows nothing of a chain (its disk is new) takes it up where
    the station's own begins, as its hello says; the centre sees whether anything is missing before that."""

    def __init__(
        self, spool: Spool, members: Members, *, is_centre: bool, name: str, clock: Callable[[], datetime]
    ) -> None:
        self.spool, self._members, self._is_centre, self._name, self._clock = (
            spool,
            members,
            is_centre,
            name,
            clock,
        )

    def take(self, peer: Identity, chunks: Iterable[Chunk]) -> Taken:
        """Keep what follows on from what is here; stop at the first chunk that does not."""
        taken = Taken()
        group: list[Chunk] = []
        size = 0
        for chunk in chunks:
            try:
                self._check(peer, chunk)
            except MedlakeError as error:
                taken.problem = error
                break
            group.append(chunk)
            size += chunk.size
            if size >= COMMIT_BYTES:
                self._keep(group, taken)
                group, size = [], 0
            if taken.problem:
                return taken
        problem, taken.problem = taken.problem, None
        self._keep(group, taken)
        taken.problem = taken.problem or problem
        return taken

    def _check(self, peer: Identity, chunk: Chunk) -> None:
        head = chunk.fields
        place = f"{chunk.node}/{chunk.epoch}/{chunk.seq}"
        if any(not isinstance(head.get(k), kind) for k, kind in _TYPES.items()) or head.get("v") != 1:
            raise MedlakeError("E299", place=place, detail="header")
        if chunk.seq < 1 or chunk.epoch < 1:
            raise MedlakeError("E299", place=place, detail="number")
        if sm3_hex(chunk.payload) != head["sm3"]:
            raise MedlakeError("E284", place=place, detail="SM3")
        if not identity.verify(self._members.key_for(peer, chunk), chunk.signature, chunk.header):
            raise MedlakeError("E284", place=place, detail="signature")
        highest = self._members.highest_epoch(chunk.node)
        if highest is not None and chunk.epoch > highest:
            raise MedlakeError("E285", place=place, detail=f"epoch {chunk.epoch}")

    def _keep(self, group: list[Chunk], taken: Taken) -> None:
        if not group:
            return
        now = self._clock()
        fork: Chunk | None = None
        with self.spool.writing() as db:
            for chunk in group:
                end = self.spool.end_of(db, chunk.node, chunk.epoch)
                if self.spool.trouble_of(db, chunk.node, chunk.epoch) == "E286":
                    fork = chunk
                    break
                if end is None and not self._is_centre:  # only a hello tells where a chain is taken up
                    taken.problem = MedlakeError("E299", place=f"{chunk.node}/{chunk.epoch}", detail="hello")
                    break
                last, digest = end or (0, GENESIS)
                if chunk.seq <= last:
                    known = db.execute(
                        "SELECT digest FROM seen WHERE node = ? AND epoch = ? AND seq = ?",
                        (chunk.node, chunk.epoch, chunk.seq),
                    ).fetchone()
                    if known and known[0] != chunk.digest:
                        fork = chunk
                        break
                    taken.again += 1
                    continue
                if chunk.seq > last + 1:
                    detail = f"{chunk.node}: {last + 1} wanted, {chunk.seq} came"
                    taken.problem = MedlakeError("E299", place=f"{chunk.node}/{chunk.epoch}", detail=detail)
                    break
                if digest and chunk.fields["previous"] != digest:
                    fork = chunk
                    break
                Spool.put(
                    db, self._through(chunk, now), now.astimezone(UTC).isoformat(timespec="microseconds")
                )
                taken.kept += 1
                kill.point("edge.keeping")
        kill.point("edge.kept")
        if fork is not None:
            taken.problem = self.forked(fork.node, fork.epoch, fork.seq, fork.seq)

    def _through(self, chunk: Chunk, now: datetime) -> Chunk:
        """A relay notes that it had the chunk, and when: the centre then knows what came before a revocation."""
        if self._is_centre:
            return chunk
        via = f"{self._name} {now.astimezone(UTC).isoformat(timespec='seconds')}"
        return Chunk(chunk.node, chunk.epoch, chunk.seq, chunk.header, chunk.signature, chunk.payload, via)

    def forked(self, node: str, epoch: int, seq: int, last: int) -> MedlakeError:
        """Note a fork; the chain goes no further until the node is readmitted under another epoch."""
        self.spool.troubled(node, epoch, "E286")
        _log.error("edge_forked", code="E286", status=node, version=epoch, line=seq)
        return self._fork_error(node, epoch, seq, last)

    def _fork_error(self, node: str, epoch: int, seq: int, last: int) -> MedlakeError:
        stream = self.spool.stream(node, epoch)
        known = stream.last_seq if stream else 0
        return MedlakeError("E286", place=f"{node}/{epoch}", node=node, known=known, last=last, seq=seq)

    # ---- what a node is told when it calls

    def positions(self, caller: str, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each chain a caller tells of (``node, epoch, first, last, digest``): what is here, and what is wrong.

        ``first`` is the oldest chunk the caller still has, null if none.
        """
        found = []
        for one in told:
            node, epoch, first, last = str(one["node"]), int(one["epoch"]), one["first"], int(one["last"])
            if not self._is_centre and last and self.spool.stream(node, epoch) is None:
                self.spool.take_up(node, epoch, (last + 1 if first is None else int(first)) - 1)
            stream = self.spool.stream(node, epoch)
            have = stream.last_seq if stream else 0
            trouble: MedlakeError | None = None
            if stream and stream.trouble == "E286":  # until a person readmits the node
                trouble = self._fork_error(node, epoch, stream.last_seq + 1, last)
            else:
                trouble = self._wrong(caller, node, epoch, first, last, str(one["digest"]), have)
                if stream and stream.trouble and trouble is None:
                    self.spool.troubled(node, epoch, "")
            final = have if self._is_centre else (stream.final if stream else 0)
            found.append(
                {"node": node, "epoch": epoch, "have": have, "final": final or 0}
                | ({"trouble": problem_of(trouble)} if trouble else {})
            )
        return found

    def _wrong(
        self, caller: str, node: str, epoch: int, first: int | None, last: int, digest: str, have: int
    ) -> MedlakeError | None:
        """What a chain's ends tell. A relay may know less of a station's chain than we do: its disk may be new."""
        if last < have and caller == node:  # it was further once: an old image of its disk
            return self.forked(node, epoch, last + 1, last)
        if last == have and digest and self.spool.seen(node, epoch, have) not in (None, digest):
            return self.forked(node, epoch, have, last)
        if last > have and (first is None or first > have + 1):
            self.spool.troubled(node, epoch, "E287")
            until = (first or last + 1) - 1
            _log.error("edge_gap", code="E287", status=node, version=epoch, line=have + 1)
            return MedlakeError("E287", place=f"{node}/{epoch}", node=node, first=have + 1, last=until)
        return None


def problem_of(error: MedlakeError) -> dict[str, str]:
    """An error as JSON."""
    names = ("code", "place", "zh", "en", "remedy_zh", "remedy_en")
    return {name: getattr(error, name) for name in names}
