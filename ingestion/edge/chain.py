"""A node's own chain: it numbers, chains and signs what the node took, in one transaction with the taking."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from sqlite3 import Connection

from ingestion.edge import chunk as chunks
from ingestion.edge import clock
from ingestion.edge.chunk import GENESIS, Chunk, Draft
from ingestion.edge.config import Home
from ingestion.edge.identity import sign
from ingestion.edge.spool import Spool
from lake import kill
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")
_MB = 1 << 20


class Chain:
    """Writes the node's own chunks. ``epoch`` is kept in the spool once the centre moved it on."""

    def __init__(self, spool: Spool, home: Home) -> None:
        self.spool, self._home = spool, home
        self.node = home.config.node
        self.epoch = max(int(spool.fact("epoch", "1")), home.config.epoch)

    def room(self, more_bytes: int = 0) -> None:
        """Raises MedlakeError E282 when the quota or the disk's reserve would not hold this; nothing is deleted for it."""
        config = self._home.config
        free = shutil.disk_usage(self.spool.path.parent).free
        used = self.spool.used_bytes()
        if used + more_bytes <= config.quota_mb * _MB and free - more_bytes >= config.reserve_mb * _MB:
            return
        if self.spool.prune(pressed=True):
            return self.room(more_bytes)
        raise MedlakeError(
            "E282", place=self.node, used_mb=used // _MB, quota_mb=config.quota_mb, free_mb=free // _MB
        )

    def write(self, drafts: Iterable[Draft], beside: Callable[[Connection], None] | None = None) -> None:
        """Make drafts durable as the chain's next chunks, all of them or none.

        Args:
            beside: further writes of the same transaction.

        Raises:
            MedlakeError: E283, the disk does not take them.
        """
        with self.spool.writing() as db:
            seq, previous = self.spool.end_of(db, self.node, self.epoch) or (0, GENESIS)
            for draft in drafts:
                seq += 1
                header = chunks.number(draft, self.node, self.epoch, seq, previous)
                made = Chunk(self.node, self.epoch, seq, header, sign(self._home.key, header), draft.payload)
                self.spool.put(db, made, draft.at)
                previous = made.digest
                kill.point("edge.spooling")
            if beside is not None:
                beside(db)
        kill.point("edge.spooled")

    def begin_again(self, epoch: int) -> int:
        """Number what is here anew, as another epoch that the centre granted: nothing of it is lost, and what the
        centre has already it knows by its delivery. Returns the chunks of the new chain."""
        if epoch <= self.epoch:
            return 0
        with self.spool.writing() as db:
            rows = db.execute(
                "SELECT epoch, seq, header, payload, received_at FROM chunk WHERE node = ? AND epoch < ? ORDER BY epoch, seq",
                (self.node, epoch),
            ).fetchall()
            db.execute("DELETE FROM chunk WHERE node = ? AND epoch < ?", (self.node, epoch))
            previous = GENESIS
            for seq, (_, _, header, payload, at) in enumerate(rows, 1):
                told = chunks.renumber(header, epoch, seq, previous)
                made = Chunk(self.node, epoch, seq, told, sign(self._home.key, told), payload)
                self.spool.put(db, made, at)
                previous = made.digest
            if not rows:
                db.execute(
                    "INSERT INTO stream (node, epoch, last_seq, last_digest) VALUES (?, ?, 0, ?)",
                    (self.node, epoch, GENESIS),
                )
            db.execute("INSERT OR REPLACE INTO fact VALUES ('epoch', ?)", (str(epoch),))
        self.epoch = epoch
        _log.warning("edge_began_again", org_code=self._home.config.org_code, version=epoch, count=len(rows))
        return len(rows)


def received_now() -> str:
    return clock.now().isoformat(timespec="milliseconds")
