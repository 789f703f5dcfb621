"""What ingestion of every source added: requests for work, backfills, uploads over HTTP."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

metadata = sa.MetaData()

work_request = sa.Table(
    "work_request",
    metadata,
    sa.Column("request_key", sa.String(200), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("subject", sa.String(200), nullable=False),
    sa.Column("payload", sa.Text(), nullable=False),
    sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("origin", sa.String(64), nullable=False),
    sa.Column("taken_at", sa.DateTime(timezone=True), index=True),
)

backfill_partition = sa.Table(
    "backfill_partition",
    metadata,
    sa.Column("request_id", sa.String(200), primary_key=True),
    sa.Column("feed", sa.String(64), primary_key=True),
    sa.Column("data_date", sa.Date(), primary_key=True),
    sa.Column("org_codes", sa.Text(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("files", sa.BigInteger(), nullable=False),
    sa.Column("bytes", sa.BigInteger(), nullable=False),
    sa.Column("result", sa.Text()),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)

client_token = sa.Table(
    "client_token",
    metadata,
    sa.Column("token_id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("feeds", sa.Text(), nullable=False),
    sa.Column("note", sa.String(200), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
)

ingest_receipt = sa.Table(
    "ingest_receipt",
    metadata,
    sa.Column("receipt_id", sa.String(32), primary_key=True),
    sa.Column("feed", sa.String(64), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("table_name", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(128)),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("records", sa.Integer(), nullable=False),
    sa.Column("attachments", sa.Integer(), nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("org_code", "feed", "idempotency_key"),
)

extract_state = sa.Table(
    "extract_state",
    metadata,
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("table_name", sa.String(64), primary_key=True),
    sa.Column("position", sa.Text(), nullable=False),
    sa.Column("columns", sa.Text(), nullable=False),
    sa.Column("runs", sa.Integer(), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
