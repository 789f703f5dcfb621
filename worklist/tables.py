"""The tables of the worklist in the operational database. Their shape in a database is the migrations' work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: written as UTC, read as UTC, in SQLite (which knows no zones) and PostgreSQL alike."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs its zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: One thing that waits for a person. ``payload`` is JSON, restricted by the kind's level.
item = Table(
    "worklist_item",
    metadata,
    Column("item_id", String(40), primary_key=True),
    Column("request_key", String(200), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(64), nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("owner_role", String(64), nullable=False),
    Column("owner_id", String(100)),
    Column("assignee", String(100)),
    Column("is_anonymous", Boolean, nullable=False),
    Column("origin", String(64), nullable=False),
    Column("payload", Text, nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("entered_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("next_timer_at", UtcDateTime),
    Column("closed_at", UtcDateTime),
    Column("reopened", Integer, nullable=False),
    Column("seconds_to_item", Float, nullable=False),  # from receipt by the platform to the item
    Column("version", Integer, nullable=False),
    Index("ix_worklist_item_timer", "next_timer_at"),
    Index("ix_worklist_item_open", "is_open", "org_code", "owner_role", "due_at"),
    Index("ix_worklist_item_kind", "kind", "state"),
)

#: What happened to an item: appended only (triggers refuse change and removal).
item_event = Table(
    "worklist_item_event",
    metadata,
    Column("item_id", String(40), ForeignKey("worklist_item.item_id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("action", String(64), nullable=False),
    Column("from_state", String(64)),
    Column("to_state", String(64), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("role", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("reason", Text),
    Column("channel", String(32)),
    Column("evidence", Text, nullable=False),  # JSON list of numbers of documents, attachments, records
    Column("data", Text, nullable=False),  # JSON: the fields given with the command
    Column("command_key", String(200), unique=True),
    Column("is_decision", Boolean, nullable=False),
    Index("ix_worklist_item_event_at", "at"),
    Index("ix_worklist_item_event_decision", "is_decision", "at"),
)

#: A running or stopped clock: one row a step and round (a reopened item starts another round).
item_clock = Table(
    "worklist_item_clock",
    metadata,
    Column("item_id", String(40), ForeignKey("worklist_item.item_id"), primary_key=True),
    Column("step", String(64), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("stopped_at", UtcDateTime),
    Column("seconds", Float),
    Column("is_on_time", Boolean),
    Column("levels_fired", Integer, nullable=False),
    Column("is_then_done", Boolean, nullable=False),
    Index("ix_worklist_item_clock_kind", "kind", "step"),
)

#: Decisions that were given to a file of the feed ``decision``; the claim comes before the file.
decision_file = Table(
    "worklist_decision_file",
    metadata,
    Column("item_id", String(40), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("data_date", Date, nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("file_name", String(200), nullable=False),
    Column("written_at", UtcDateTime),
    Index("ix_worklist_decision_file_written", "written_at"),
)

#: Who leads among several processes of ``medlake worklist run``.
lease = Table(
    "worklist_lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(100), nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("term", Integer, nullable=False),
)
