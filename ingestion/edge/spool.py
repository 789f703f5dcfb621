"""The durable heart of a node and of the centre: chunks of several nodes, in order, in one SQLite file.

WAL with ``synchronous=FULL``: a commit that returned is on disk. A chain is numbered without holes per (node, epoch);
an *epoch* is one such chain, and a new one begins only when the centre lets a node begin again.
Payloads are sealed already. One lock serialises writers of this process; readers have connections of their own.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingestion.edge.chunk import GENESIS, Chunk
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")

_TABLES = """
CREATE TABLE IF NOT EXISTS chunk (
    node TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, delivery TEXT NOT NULL, part INTEGER NOT NULL,
    last INTEGER NOT NULL, size INTEGER NOT NULL, records INTEGER NOT NULL, received_at TEXT NOT NULL,
    header BLOB NOT NULL, signature BLOB NOT NULL, via TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (node, epoch, seq));
CREATE INDEX IF NOT EXISTS chunk_of ON chunk (delivery, part);
CREATE TABLE IF NOT EXISTS stream (
    node TEXT NOT NULL, epoch INTEGER NOT NULL, last_seq INTEGER NOT NULL, last_digest TEXT NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0, final INTEGER NOT NULL DEFAULT 0, trouble TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (node, epoch));
CREATE TABLE IF NOT EXISTS seen (
    node TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (node, epoch, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


#: Digests of chunks that went on are remembered so far back: a repeated request is compared with what it was.
REMEMBERED = 10_000


@dataclass(frozen=True)
class Stream:
    """One chain. ``last_seq``: newest here; ``acked``: durable at the parent; ``final``: durable at the centre.

    ``trouble`` is an error's number (E286 forked, E287 gap) that keeps the chain from going on.
    """

    node: str
    epoch: int
    last_seq: int
    last_digest: str
    acked: int
    final: int
    trouble: str


@dataclass(frozen=True)
class Backlog:
    """What waits to be durable at the parent (``chunks``, ``records``, ``bytes``), and since when."""

    chunks: int
    records: int
    bytes: int
    oldest_at: str


class Spool:
    """One file. ``tables`` are further tables of whoever uses it, in the same transactions."""

    def __init__(self, path: Path, tables: str = "") -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
        self._lock = threading.RLock()
        self._writer = self._connect()
        self._local = threading.local()
        with self.writing() as db:
            for statement in (_TABLES + tables).split(";"):
                db.execute(statement)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA journal_size_limit=16777216")
        db.execute("PRAGMA cache_size=-4000")
        return db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk when the block ends without an exception.

        Raises:
            MedlakeError: E283, the disk does not take it; nothing of it is kept.
        """
        with self._lock:
            db = self._writer
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException as error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise MedlakeError("E283", place=self.path.name, detail=str(error)) from error
                raise

    def reading(self) -> sqlite3.Connection:
        """This thread's own connection for reading."""
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = self._local.db = self._connect()
        return found

    def close(self) -> None:
        with self._lock:
            self._writer.close()

    # ---- chains

    def streams(self, node: str | None = None) -> list[Stream]:
        """All chains, oldest epoch first."""
        sql = "SELECT node, epoch, last_seq, last_digest, acked, final, trouble FROM stream"
        rows = self.reading().execute(f"{sql} WHERE ? IS NULL OR node = ? ORDER BY node, epoch", (node, node))
        return [Stream(*r) for r in rows]

    def stream(self, node: str, epoch: int) -> Stream | None:
        return next((s for s in self.streams(node) if s.epoch == epoch), None)

    @staticmethod
    def put(db: sqlite3.Connection, chunk: Chunk, received_at: str) -> None:
        """Add a chunk at the end of its chain, inside a transaction."""
        head = chunk.fields
        row = (
            chunk.node, chunk.epoch, chunk.seq, head["delivery"], head["part"], head["last"], chunk.size,
            head["records"], received_at, chunk.header, chunk.signature, chunk.via, chunk.payload,
        )  # fmt: skip
        db.execute(f"INSERT INTO chunk VALUES ({', '.join('?' * 13)})", row)
        db.execute(
            "INSERT INTO stream (node, epoch, last_seq, last_digest) VALUES (?, ?, ?, ?) ON CONFLICT (node, epoch)"
            " DO UPDATE SET last_seq = excluded.last_seq, last_digest = excluded.last_digest",
            (chunk.node, chunk.epoch, chunk.seq, chunk.digest),
        )
        db.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", (chunk.node, chunk.epoch, chunk.seq, chunk.digest))

    def end_of(self, db: sqlite3.Connection, node: str, epoch: int) -> tuple[int, str] | None:
        """Newest number and digest of a chain, inside a transaction; None when there is no such chain."""
        found = db.execute(
            "SELECT last_seq, last_digest FROM stream WHERE node = ? AND epoch = ?", (node, epoch)
        )
        row = found.fetchone()
        return (row[0], row[1]) if row else None

    @staticmethod
    def trouble_of(db: sqlite3.Connection, node: str, epoch: int) -> str:
        """The error's number that keeps a chain from going on, inside a transaction; empty if none."""
        row = db.execute("SELECT trouble FROM stream WHERE node = ? AND epoch = ?", (node, epoch)).fetchone()
        return row[0] if row else ""

    def seen(self, node: str, epoch: int, seq: int) -> str | None:
        """Digest of a chunk that was here, though it may be gone."""
        found = self.reading().execute(
            "SELECT digest FROM seen WHERE node = ? AND epoch = ? AND seq = ?", (node, epoch, seq)
        )
        row = found.fetchone()
        return row[0] if row else None

    def first(self, node: str, epoch: int) -> int | None:
        """The oldest number of a chain that is still here."""
        found = self.reading().execute(
            "SELECT min(seq) FROM chunk WHERE node = ? AND epoch = ?", (node, epoch)
        )
        number: int | None = found.fetchone()[0]
        return number

    def take_up(self, node: str, epoch: int, last: int) -> None:
        """Begin a chain after a number whose chunk was never here; its digest is not known."""
        with self.writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO stream (node, epoch, last_seq, last_digest) VALUES (?, ?, ?, '')",
                (node, epoch, last),
            )

    def troubled(self, node: str, epoch: int, code: str) -> None:
        """Note what keeps a chain from going on; an empty code clears it."""
        with self.writing() as db:
            db.execute(
                "INSERT INTO stream (node, epoch, last_seq, last_digest, trouble) VALUES (?, ?, 0, ?, ?)"
                " ON CONFLICT (node, epoch) DO UPDATE SET trouble = excluded.trouble",
                (node, epoch, GENESIS, code),
            )

    def chunks(self, node: str, epoch: int, after: int, most_bytes: int) -> list[Chunk]:
        """Chunks of a chain above a number, in order, about so many bytes but at least one."""
        found: list[Chunk] = []
        size = 0
        rows = self.reading().execute(
            "SELECT seq, header, signature, payload, via FROM chunk WHERE node = ? AND epoch = ? AND seq > ? ORDER BY seq",
            (node, epoch, after),
        )
        for seq, header, signature, payload, via in rows:
            chunk = Chunk(node, epoch, seq, header, signature, payload, via)
            if found and size + chunk.size > most_bytes:
                break
            found.append(chunk)
            size += chunk.size
        rows.close()
        return found

    def acknowledged(self, node: str, epoch: int, acked: int, final: int) -> None:
        """The parent has everything up to ``acked`` on disk, the centre up to ``final``. Neither goes back."""
        with self.writing() as db:
            db.execute(
                "UPDATE stream SET acked = max(acked, ?), final = max(final, ?) WHERE node = ? AND epoch = ?",
                (acked, final, node, epoch),
            )

    def prune(self, *, pressed: bool) -> int:
        """Remove what the centre has; when space is short also what the parent has. Returns the chunks removed.

        A node keeps what its institution has until the centre has it, so that the loss of the institution's disk
        loses nothing. What nobody else has is never removed.
        """
        limit = "max(stream.acked, stream.final)" if pressed else "stream.final"
        with self.writing() as db:
            gone = db.execute(
                "DELETE FROM chunk WHERE EXISTS (SELECT 1 FROM stream WHERE stream.node = chunk.node"
                f" AND stream.epoch = chunk.epoch AND chunk.seq <= {limit})"
            ).rowcount
            db.execute(
                "DELETE FROM seen WHERE EXISTS (SELECT 1 FROM stream WHERE stream.node = seen.node"
                " AND stream.epoch = seen.epoch AND seen.seq < stream.final - ?)",
                (REMEMBERED,),
            )
        if gone:
            with self._lock:
                self._writer.execute("PRAGMA incremental_vacuum(4000)").fetchall()
        return gone

    # ---- how much

    def backlog(self, node: str | None = None) -> Backlog:
        """What the parent does not have yet, of one node or of all."""
        row = self.reading().execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(size), 0), coalesce(min(received_at), '')"
            " FROM chunk JOIN stream USING (node, epoch)"
            " WHERE seq > max(stream.acked, stream.final) AND (? IS NULL OR node = ?)",
            (node, node),
        )
        return Backlog(*row.fetchone())

    def used_bytes(self) -> int:
        """Bytes of the file that hold something, the log included."""
        db = self.reading()
        pages = (
            db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0]
        )
        wal = self.path.with_name(self.path.name + "-wal")
        return int(pages * db.execute("PRAGMA page_size").fetchone()[0]) + (
            wal.stat().st_size if wal.exists() else 0
        )

    # ---- small facts

    def fact(self, name: str, default: str = "") -> str:
        row = self.reading().execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row[0] if row else default

    def facts(self, prefix: str) -> dict[str, str]:
        """Facts by the rest of their name."""
        rows = self.reading().execute("SELECT name, value FROM fact WHERE name LIKE ? || '%'", (prefix,))
        return {n[len(prefix) :]: v for n, v in rows}

    def remember(self, **facts: str) -> None:
        self.remember_all(facts)

    def remember_all(self, facts: dict[str, str]) -> None:
        with self.writing() as db:
            db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", list(facts.items()))
