"""The operational database: ledger, runs, audit, requests for work. SQLite under home; ``ops_database`` takes the
SQLAlchemy URL of a PostgreSQL. The tables are made on first use; their history is in ``worklist/migrations``."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
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
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.engine import Connection, make_url

from lake import access_tables as access_tables  # puts its tables into metadata
from lake import product_tables as product_tables
from lake.ops_metadata import metadata
from lake.settings import settings

#: Seconds that a writer of SQLite waits for another one.
_PATIENCE = 60

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

#: What sources announced (a batch trailer, a manifest, an archive's answer) and what came of it, one row each.
announcement = Table(
    "announcement",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("source_file", String(400), nullable=False),
    Column("table_name", String(64), nullable=False),  # empty: of everything in the file
    Column("what", String(64), nullable=False),
    # -1: what cannot be held against a count (another sha256)
    Column("announced", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
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

#: What a room wants done by a person. ``worklist`` turns each row into an item, once; ``request_key`` says which
#: requests are the same one (fast lane and batch ask for the same critical value).
work_request = Table(
    "work_request",
    metadata,
    Column("request_key", String(200), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("payload", Text, nullable=False),  # JSON
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("origin", String(64), nullable=False),
    Column("taken_at", DateTime(timezone=True), index=True),
)

#: What people answered to a request: one row each time its item moved by a person's command. ``worklist`` writes it in
#: the item's own transaction, and the room that asked reads it.
work_answer = Table(
    "work_answer",
    metadata,
    Column("request_key", String(200), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", String(64), nullable=False, index=True),
    Column("action", String(64), nullable=False),
    Column("to_state", String(64), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("reason", Text),
    Column("data", Text, nullable=False),  # JSON: the fields given with the command
    Column("answered_at", DateTime(timezone=True), nullable=False),
)

#: People's decisions on two registrations, for ever: a later one on the same two withdraws the earlier.
match_decision = Table(
    "match_decision",
    metadata,
    Column("decision_id", String(200), primary_key=True),
    Column("source_system_l", String(32), nullable=False),
    Column("org_code_l", String(32), nullable=False),
    Column("identifier_value_l", String(64), nullable=False),
    Column("source_system_r", String(32), nullable=False),
    Column("org_code_r", String(32), nullable=False),
    Column("identifier_value_r", String(64), nullable=False),
    Column("decision", String(16), nullable=False),  # must_link | cannot_link | unsure
    Column("reason", Text, nullable=False),
    Column("origin", String(16), nullable=False),  # review | merge | unmerge | steward
    Column("origin_key", String(200), nullable=False),  # the review's request_key, or the change_id
    Column("evidence_sha256", String(64)),
    Column("decided_by", String(100), nullable=False),
    Column("second_by", String(100)),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("withdrawn_by", String(100)),
    Column("withdrawn_at", DateTime(timezone=True)),
)

#: Changes of the registry that people made online, applied at once there; the next run takes them into the lake.
registry_change = Table(
    "registry_change",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("change_id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # merge | unmerge
    Column("empi_id", String(32), nullable=False),  # who stays, or is given back its records
    Column("other_empi_id", String(32), nullable=False),  # who is retired, or comes back
    Column("undoes", String(64)),  # change_id or event_id of the merge that an unmerge undoes
    Column(
        "before", Text, nullable=False
    ),  # JSON {empi_id: [[source_system, org_code, identifier_value], ...]}
    Column("after", Text, nullable=False),  # the same shape
    Column("reason", Text, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("second_actor", String(100)),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("run_id", String(64)),  # the run that took it into the lake
)

#: A run whose merges or splits exceed the limit waits here for a person.
link_approval = Table(
    "link_approval",
    metadata,
    Column("approval_id", String(64), primary_key=True),
    Column("run_id", String(64), nullable=False),
    Column("data_date", Date, nullable=False),
    Column("diff_sha256", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # asked | approved | refused
    Column("summary", Text, nullable=False),  # JSON: counts and limits
    Column("diff_path", String(400), nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", String(100)),
    Column("decided_at", DateTime(timezone=True)),
    Column("reason", Text),
)

#: What a backfill request wants, one line a feed and date: planned -> running -> done | failed | missing.
backfill_partition = Table(
    "backfill_partition",
    metadata,
    Column("request_id", String(200), primary_key=True),
    Column("feed", String(64), primary_key=True),
    Column("data_date", Date, primary_key=True),
    Column("org_codes", Text, nullable=False),  # JSON list; empty: all
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("result", Text),  # JSON: the four counts, or the error's number
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

#: Client systems that may upload over HTTP: a keyed digest of the token, never the token itself.
client_token = Table(
    "client_token",
    metadata,
    Column("token_id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),  # HMAC-SM3
    Column("org_code", String(32), nullable=False),
    Column("feeds", Text, nullable=False),  # separated by blanks
    Column("note", String(200), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
)

#: What was accepted over HTTP, one row a request; the idempotency key is the institution's own.
ingest_receipt = Table(
    "ingest_receipt",
    metadata,
    Column("receipt_id", String(32), primary_key=True),
    Column("feed", String(64), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("table_name", String(64), nullable=False),
    Column("idempotency_key", String(128)),
    Column("body_hash", String(64), nullable=False),  # SM3 of what was sent
    Column("records", Integer, nullable=False),
    Column("attachments", Integer, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("org_code", "feed", "idempotency_key"),
)

#: How far each table of a source database was read; ``position`` is JSON: the watermark and the key beside it.
extract_state = Table(
    "extract_state",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("table_name", String(64), primary_key=True),
    Column("position", Text, nullable=False),
    Column("columns", Text, nullable=False),  # JSON {column: type} as last read
    Column("runs", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
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


def _to_wal(connection: Any) -> None:
    """Set write-ahead mode. Of processes that open a new database at once all but one are refused for a moment, and
    SQLite does not wait for that lock by itself."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def connect(url: str, *, reading: bool = False) -> Engine:
    """An engine with our transactions, and nothing made in its database yet.

    ``reading``: each statement by itself; on SQLite no lock is taken, so that a reader never waits for a writer.
    """
    parsed = make_url(url)
    options: dict[str, Any] = {"future": True}
    if parsed.get_backend_name() == "sqlite":
        settings().folder()
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        options["connect_args"] = {"timeout": _PATIENCE}
    else:
        options["pool_pre_ping"] = True
    made = create_engine(url, **options)
    if parsed.get_backend_name() == "sqlite":

        @event.listens_for(made, "connect")
        def _pragmas(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions are ours: BEGIN IMMEDIATE below
            _to_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA busy_timeout={_PATIENCE * 1000}")

        if not reading:

            @event.listens_for(made, "begin")
            def _begin(connection: Any) -> None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


@lru_cache(maxsize=4)
def _engine(url: str) -> Engine:
    made = connect(url)
    with made.begin() as connection:
        exclusive(connection, "create_all")  # two processes that start at once must not both make a table
        metadata.create_all(connection)
    return made


@lru_cache(maxsize=4)
def _reader(url: str) -> Engine:
    _engine(url)  # makes the tables
    return connect(url, reading=True)


def exclusive(connection: Connection, name: str) -> None:
    """Let one transaction at a time pass, to its end. SQLite's transactions exclude each other anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"medlake.{name}"))))


_making = threading.RLock()


def _after_fork() -> None:
    """A forked process (Airflow's workers) must not share its parent's connections, nor a lock held at that moment."""
    global _making
    _making = threading.RLock()
    _engine.cache_clear()
    _reader.cache_clear()


os.register_at_fork(after_in_child=_after_fork)


def engine() -> Engine:
    """The engine of the operational database, its tables made if need be."""
    with _making:  # threads that come at once must not make several
        return _engine(settings().ops_url)


def reader() -> Engine:
    """An engine for looking something up, where waiting for a writer would hold a request up."""
    with _making:
        return _reader(settings().ops_url)
