"""What the lane must remember over a restart: a small SQLite under ``<home>/fastlane``, for the service account alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from lake.settings import settings

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sensor (
    org_code TEXT, sensor_id TEXT, folded_to REAL NOT NULL, since REAL, since_seq INTEGER, since_device_at TEXT,
    told_since REAL, PRIMARY KEY (org_code, sensor_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reading (
    org_code TEXT, sensor_id TEXT, at REAL, seq INTEGER, device_at TEXT, temp_c REAL NOT NULL,
    location_kind TEXT NOT NULL,
    PRIMARY KEY (org_code, sensor_id, at, seq, device_at)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offered (
    table_name TEXT, org_code TEXT, on_day TEXT, PRIMARY KEY (table_name, org_code, on_day)) WITHOUT ROWID;
"""

_seen: set[tuple[Path, str, str, date]] = set()


def _path() -> Path:
    folder = settings().folder("fastlane")
    folder.chmod(0o700)
    return folder / "state.db"


@contextmanager
def begin() -> Iterator[sqlite3.Connection]:
    """One transaction; other processes wait. A crash of the machine may lose the last moments (the batch has them)."""
    path = _path()
    if not path.exists():
        path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.close()


def mark_offered(table: str, org_code: str, on: date) -> None:
    """Remember that an institution's rows of a table come through the lane on a day (once a process and day)."""
    key = (settings().home, table, org_code, on)
    if key in _seen:
        return
    with begin() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO offered VALUES (?, ?, ?)", (table, org_code, on.isoformat())
        )
    _seen.add(key)


def offering(table: str) -> set[str]:
    """Institutions that ever delivered a table through the lane."""
    with begin() as connection:
        found = connection.execute("SELECT DISTINCT org_code FROM offered WHERE table_name = ?", (table,))
        return {row[0] for row in found}
