"""The operational database of the first release: ledger, runs, audit."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = sa.MetaData()

batch = sa.Table(
    "batch",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("feed", sa.String(64), nullable=False),
    sa.Column("data_date", sa.Date(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("committed_at", sa.DateTime(timezone=True)),
    sa.Column("contract_version", sa.String(32), nullable=False),
    sa.Column("pinned", sa.Text(), nullable=False),
    sa.Column("reason", sa.Text()),
)

ledger_line = sa.Table(
    "ledger_line",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("table_name", sa.String(64), primary_key=True),
    sa.Column("org_code", sa.String(32), primary_key=True),
    sa.Column("source_file", sa.String(400), primary_key=True),
    sa.Column("received", sa.BigInteger(), nullable=False),
    sa.Column("loaded", sa.BigInteger(), nullable=False),
    sa.Column("duplicate", sa.BigInteger(), nullable=False),
    sa.Column("quarantined", sa.BigInteger(), nullable=False),
)

landing_file = sa.Table(
    "landing_file",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("path", sa.String(400), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("feed", sa.String(64), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("origin", sa.Text(), nullable=False),
    sa.Column("bytes", sa.BigInteger(), nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
)

visible_version = sa.Table(
    "visible_version",
    metadata,
    sa.Column("table_name", sa.String(200), primary_key=True),
    sa.Column("version", sa.BigInteger(), nullable=False),
    sa.Column("batch_id", sa.String(64)),
)

run = sa.Table(
    "run",
    metadata,
    sa.Column("data_date", sa.Date(), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("versions", sa.Text(), nullable=False),
)

audit_entry = sa.Table(
    "audit_entry",
    metadata,
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("entry", sa.Text(), nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
