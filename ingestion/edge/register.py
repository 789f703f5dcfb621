"""The authority's register: which nodes there are, which certificates they got, what was revoked. SQLite, mode 0600."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lake.errors import MedlakeError

_TABLES = """
CREATE TABLE IF NOT EXISTS node (
    node TEXT PRIMARY KEY, org_code TEXT NOT NULL, parent TEXT NOT NULL, issued_at TEXT NOT NULL, revoked_at TEXT,
    epoch INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT PRIMARY KEY, node TEXT NOT NULL, key TEXT NOT NULL, pem BLOB NOT NULL, not_after TEXT NOT NULL,
    revoked_at TEXT);
CREATE INDEX IF NOT EXISTS certificate_of ON certificate (node);
"""


@dataclass(frozen=True)
class Member:
    """One node of the register; instants UTC. ``epoch``: the newest chain of numbers that it may use."""

    node: str
    org_code: str
    parent: str
    issued_at: datetime
    revoked_at: datetime | None
    epoch: int = 1


class Register:
    """Opened per use: the authority is rarely asked, and several processes (centre, command line) ask it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.touch(mode=0o600)
        with self._open() as db:
            db.executescript(_TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=30)
        try:
            with db:
                yield db
        finally:
            db.close()

    def add(self, member: Member, serial: int, key: str, pem: bytes, not_after: datetime) -> int:
        """Returns the epoch of this identity: an earlier one of the same name had another."""
        with self._open() as db:
            (epoch,) = db.execute(
                "INSERT INTO node VALUES (?, ?, ?, ?, NULL, 1) ON CONFLICT (node) DO UPDATE SET org_code = excluded.org_code,"
                " parent = excluded.parent, issued_at = excluded.issued_at, revoked_at = NULL, epoch = epoch + 1"
                " RETURNING epoch",
                (member.node, member.org_code, member.parent, member.issued_at.isoformat()),
            ).fetchone()
            row = (str(serial), member.node, key, pem, not_after.isoformat())
            db.execute("INSERT INTO certificate VALUES (?, ?, ?, ?, ?, NULL)", row)
        return int(epoch)

    def readmit(self, node: str) -> int:
        """Let a node begin another chain of numbers; returns its epoch."""
        self.member(node)
        with self._open() as db:
            db.execute("UPDATE node SET epoch = epoch + 1 WHERE node = ?", (node,))
        return self.member(node).epoch

    def renewed(self, node: str, serial: int, key: str, pem: bytes, not_after: datetime) -> None:
        with self._open() as db:
            row = (str(serial), node, key, pem, not_after.isoformat())
            db.execute("INSERT INTO certificate VALUES (?, ?, ?, ?, ?, NULL)", row)

    def revoke(self, node: str, at: datetime) -> int:
        """Returns how many certificates are newly revoked."""
        with self._open() as db:
            db.execute("UPDATE node SET revoked_at = ? WHERE node = ?", (at.isoformat(), node))
            done = db.execute(
                "UPDATE certificate SET revoked_at = ? WHERE node = ? AND revoked_at IS NULL",
                (at.isoformat(), node),
            )
            return done.rowcount

    def revoked(self) -> list[tuple[int, datetime]]:
        """Serial numbers of all revoked certificates, and when."""
        with self._open() as db:
            rows = db.execute(
                "SELECT serial, revoked_at FROM certificate WHERE revoked_at IS NOT NULL"
            ).fetchall()
        return [(int(s), datetime.fromisoformat(at)) for s, at in rows]

    def members(self) -> dict[str, Member]:
        with self._open() as db:
            rows = db.execute(
                "SELECT node, org_code, parent, issued_at, revoked_at, epoch FROM node ORDER BY node"
            ).fetchall()
        return {
            r[0]: Member(r[0], r[1], r[2], datetime.fromisoformat(r[3]), _instant(r[4]), r[5]) for r in rows
        }

    def member(self, node: str) -> Member:
        """Raises MedlakeError E292, it was never issued."""
        found = self.members().get(node)
        if found is None:
            raise MedlakeError("E292", node=node)
        return found

    def keys(self, node: str) -> list[tuple[str, bytes, datetime | None]]:
        """A node's keys, newest certificate first: fingerprint, certificate, when it was revoked."""
        with self._open() as db:
            rows = db.execute(
                "SELECT key, pem, revoked_at FROM certificate WHERE node = ? ORDER BY rowid DESC", (node,)
            ).fetchall()
        return [(k, pem, _instant(at)) for k, pem, at in rows]


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
