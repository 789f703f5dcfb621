"""What sources announced, beside what came of it."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

announcement = sa.Table(
    "announcement",
    sa.MetaData(),
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("source_file", sa.String(400), nullable=False),
    sa.Column("table_name", sa.String(64), nullable=False),
    sa.Column("what", sa.String(64), nullable=False),
    sa.Column("announced", sa.BigInteger(), nullable=False),
    sa.Column("received", sa.BigInteger(), nullable=False),
)


def upgrade() -> None:
    create(announcement)
