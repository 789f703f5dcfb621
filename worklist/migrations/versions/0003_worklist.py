"""The worklist: items, their log, clocks, decisions given to the lake, the lease."""

import sqlalchemy as sa
from alembic import op

from worklist.migrations.support import create

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

metadata = sa.MetaData()

worklist_decision_file = sa.Table(
    "worklist_decision_file",
    metadata,
    sa.Column("item_id", sa.String(40), primary_key=True),
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("data_date", sa.Date(), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("file_name", sa.String(200), nullable=False),
    sa.Column("written_at", sa.DateTime(timezone=True)),
    sa.Index("ix_worklist_decision_file_written", "written_at"),
)

worklist_item = sa.Table(
    "worklist_item",
    metadata,
    sa.Column("item_id", sa.String(40), primary_key=True),
    sa.Column("request_key", sa.String(200), nullable=False, unique=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("state", sa.String(64), nullable=False),
    sa.Column("is_open", sa.Boolean(), nullable=False),
    sa.Column("priority", sa.Integer(), nullable=False),
    sa.Column("owner_role", sa.String(64), nullable=False),
    sa.Column("owner_id", sa.String(100)),
    sa.Column("assignee", sa.String(100)),
    sa.Column("is_anonymous", sa.Boolean(), nullable=False),
    sa.Column("origin", sa.String(64), nullable=False),
    sa.Column("payload", sa.Text(), nullable=False),
    sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("due_at", sa.DateTime(timezone=True)),
    sa.Column("next_timer_at", sa.DateTime(timezone=True)),
    sa.Column("closed_at", sa.DateTime(timezone=True)),
    sa.Column("reopened", sa.Integer(), nullable=False),
    sa.Column("seconds_to_item", sa.Float(), nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Index("ix_worklist_item_kind", "kind", "state"),
    sa.Index("ix_worklist_item_open", "is_open", "org_code", "owner_role", "due_at"),
    sa.Index("ix_worklist_item_timer", "next_timer_at"),
)

worklist_lease = sa.Table(
    "worklist_lease",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("holder", sa.String(100), nullable=False),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    sa.Column("term", sa.Integer(), nullable=False),
)

worklist_item_clock = sa.Table(
    "worklist_item_clock",
    metadata,
    sa.Column("item_id", sa.String(40), sa.ForeignKey("worklist_item.item_id"), primary_key=True),
    sa.Column("step", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer(), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("due_at", sa.DateTime(timezone=True)),
    sa.Column("stopped_at", sa.DateTime(timezone=True)),
    sa.Column("seconds", sa.Float()),
    sa.Column("is_on_time", sa.Boolean()),
    sa.Column("levels_fired", sa.Integer(), nullable=False),
    sa.Column("is_then_done", sa.Boolean(), nullable=False),
    sa.Index("ix_worklist_item_clock_kind", "kind", "step"),
)

worklist_item_event = sa.Table(
    "worklist_item_event",
    metadata,
    sa.Column("item_id", sa.String(40), sa.ForeignKey("worklist_item.item_id"), primary_key=True),
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("from_state", sa.String(64)),
    sa.Column("to_state", sa.String(64), nullable=False),
    sa.Column("actor", sa.String(100), nullable=False),
    sa.Column("role", sa.String(64), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("reason", sa.Text()),
    sa.Column("channel", sa.String(32)),
    sa.Column("evidence", sa.Text(), nullable=False),
    sa.Column("data", sa.Text(), nullable=False),
    sa.Column("command_key", sa.String(200), unique=True),
    sa.Column("is_decision", sa.Boolean(), nullable=False),
    sa.Index("ix_worklist_item_event_at", "at"),
    sa.Index("ix_worklist_item_event_decision", "is_decision", "at"),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
    refuse_changes()


def refuse_changes() -> None:
    """The log is appended only: the database itself refuses an update or a removal."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER worklist_item_event_no_{verb.lower()} BEFORE {verb} ON worklist_item_event "
                "BEGIN SELECT RAISE(ABORT, 'worklist_item_event is appended only'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION worklist_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'worklist_item_event is appended only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER worklist_item_event_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON worklist_item_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION worklist_append_only()"
    )
