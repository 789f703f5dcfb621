"""Access: accounts, sessions, break-glass, the residents of audit entries, the sealed end and archives of the chain."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

metadata = sa.MetaData()

portal_account = sa.Table(
    "portal_account",
    metadata,
    sa.Column("user", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("password", sa.Text(), nullable=False),
    sa.Column("must_change", sa.Boolean(), nullable=False),
    sa.Column("totp", sa.Text(), nullable=False),
    sa.Column("totp_step", sa.Integer(), nullable=False),
    sa.Column("recovery", sa.Text(), nullable=False),
    sa.Column("failed", sa.Integer(), nullable=False),
    sa.Column("locked_until", sa.DateTime(timezone=True)),
    sa.Column("oidc_subject", sa.String(200), unique=True),
    sa.Column("empi_id", sa.String(32)),
    sa.Column("created_by", sa.String(100), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
)

portal_session = sa.Table(
    "portal_session",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("session_id", sa.String(32), nullable=False, unique=True),
    sa.Column("user", sa.String(64), nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("source_ip", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ended_at", sa.DateTime(timezone=True)),
)

glass_grant = sa.Table(
    "glass_grant",
    metadata,
    sa.Column("grant_id", sa.String(32), primary_key=True),
    sa.Column("user", sa.String(64), nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("empi_id", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("reviewed_by", sa.String(64)),
    sa.Column("reviewed_at", sa.DateTime(timezone=True)),
)

audit_person = sa.Table(
    "audit_person",
    metadata,
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("empi_id", sa.String(32), primary_key=True, index=True),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("head_id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer(), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)

audit_archive = sa.Table(
    "audit_archive",
    metadata,
    sa.Column("first_seq", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("last_seq", sa.Integer(), nullable=False),
    sa.Column("first_at", sa.String(40), nullable=False),
    sa.Column("last_at", sa.String(40), nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("last_hash", sa.String(64), nullable=False),
    sa.Column("path", sa.String(400), nullable=False),
    sa.Column("sm3", sa.String(64), nullable=False),
    sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
