"""Identity: answers to requests, people's decisions on pairs, online changes, runs that wait for approval."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

metadata = sa.MetaData()

work_answer = sa.Table(
    "work_answer",
    metadata,
    sa.Column("request_key", sa.String(200), primary_key=True),
    sa.Column("seq", sa.Integer(), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False, index=True),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("to_state", sa.String(64), nullable=False),
    sa.Column("actor", sa.String(100), nullable=False),
    sa.Column("reason", sa.Text()),
    sa.Column("data", sa.Text(), nullable=False),
    sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
)

match_decision = sa.Table(
    "match_decision",
    metadata,
    sa.Column("decision_id", sa.String(200), primary_key=True),
    sa.Column("source_system_l", sa.String(32), nullable=False),
    sa.Column("org_code_l", sa.String(32), nullable=False),
    sa.Column("identifier_value_l", sa.String(64), nullable=False),
    sa.Column("source_system_r", sa.String(32), nullable=False),
    sa.Column("org_code_r", sa.String(32), nullable=False),
    sa.Column("identifier_value_r", sa.String(64), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("origin_key", sa.String(200), nullable=False),
    sa.Column("evidence_sha256", sa.String(64)),
    sa.Column("decided_by", sa.String(100), nullable=False),
    sa.Column("second_by", sa.String(100)),
    sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("withdrawn_by", sa.String(100)),
    sa.Column("withdrawn_at", sa.DateTime(timezone=True)),
)

registry_change = sa.Table(
    "registry_change",
    metadata,
    sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("change_id", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("empi_id", sa.String(32), nullable=False),
    sa.Column("other_empi_id", sa.String(32), nullable=False),
    sa.Column("undoes", sa.String(64)),
    sa.Column("before", sa.Text(), nullable=False),
    sa.Column("after", sa.Text(), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("actor", sa.String(100), nullable=False),
    sa.Column("second_actor", sa.String(100)),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("run_id", sa.String(64)),
)

link_approval = sa.Table(
    "link_approval",
    metadata,
    sa.Column("approval_id", sa.String(64), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("data_date", sa.Date(), nullable=False),
    sa.Column("diff_sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("summary", sa.Text(), nullable=False),
    sa.Column("diff_path", sa.String(400), nullable=False),
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("decided_by", sa.String(100)),
    sa.Column("decided_at", sa.DateTime(timezone=True)),
    sa.Column("reason", sa.Text()),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
