"""The operational database: ledger, runs, audit. SQLite under home; ``ops_database`` takes any
SQLAlchemy URL (PostgreSQL is meant, and not yet exercised by a test)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url

from lake.settings import settings

metadata = MetaData()

#: One delivery of a feed. ``state``: open -> committed | failed | undone.
batch = Table(
    "batch",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("feed", String(64), nullable=False),
    Column("data_date", Date, nullable=False),
    Column("state", String(16), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("committed_at", DateTime(timezone=True)),
    Column("contract_version", String(32), nullable=False),
    Column("pinned", Text, nullable=False),  # JSON {table: version before, or -1 when it did not exist}
    Column("reason", Text),
)

#: What became of each file's records, per table: received = loaded + duplicate + quarantined.
ledger_line = Table(
    "ledger_line",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("table_name", String(64), primary_key=True),
    Column("org_code", String(32), primary_key=True),
    Column("source_file", String(400), primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("loaded", BigInteger, nullable=False),
    Column("duplicate", BigInteger, nullable=False),
    Column("quarantined", BigInteger, nullable=False),
)

#: Every file that ever landed, by content.
landing_file = Table(
    "landing_file",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("path", String(400), primary_key=True),  # below the landing folder
    Column("sha256", String(64), nullable=False, index=True),
    Column("feed", String(64), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("origin", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
)

#: The version of each table that readers may see.
visible_version = Table(
    "visible_version",
    metadata,
    Column("table_name", String(200), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("batch_id", String(64)),
)

#: A day's run and the versions it reads.
run = Table(
    "run",
    metadata,
    Column("data_date", Date, primary_key=True),
    Column("run_id", String(64), nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("versions", Text, nullable=False),  # JSON {table: version}
)

#: Who read, exported, queried or decided what: a chain of SM3 hashes, appended only.
audit_entry = Table(
    "audit_entry",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", String(40), nullable=False),
    Column("entry", Text, nullable=False),  # canonical JSON
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)


@lru_cache(maxsize=4)
def _engine(url: str) -> Engine:
    parsed = make_url(url)
    options: dict[str, Any] = {"future": True}
    if parsed.get_backend_name() == "sqlite":
        settings().folder()
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        options["connect_args"] = {"timeout": 60}
    made = create_engine(url, **options)
    if parsed.get_backend_name() == "sqlite":

        @event.listens_for(made, "connect")
        def _pragmas(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions are ours: BEGIN IMMEDIATE below
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA busy_timeout=60000")

        @event.listens_for(made, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    metadata.create_all(made)
    return made


def engine() -> Engine:
    """The engine of the operational database, its tables made if need be."""
    return _engine(settings().ops_url)
