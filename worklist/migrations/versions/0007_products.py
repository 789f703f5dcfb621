"""Products: export templates, jobs and schedules; report layouts and months; saved cohorts and what was answered."""

import sqlalchemy as sa

from worklist.migrations.support import create

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

metadata = sa.MetaData()


export_template = sa.Table(
    "export_template",
    metadata,
    sa.Column("template", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer(), primary_key=True),
    sa.Column("title_zh", sa.String(60), nullable=False),
    sa.Column("body", sa.Text(), nullable=False),
    sa.Column("sm3", sa.String(64), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("proposed_by", sa.String(64), nullable=False),
    sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("decided_by", sa.String(64)),
    sa.Column("decided_at", sa.DateTime(timezone=True)),
    sa.Column("reason", sa.Text()),
)

export_job = sa.Table(
    "export_job",
    metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("template", sa.String(64), nullable=False),
    sa.Column("title_zh", sa.String(60), nullable=False),
    sa.Column("template_sm3", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(64), nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("recipient", sa.String(100), nullable=False),
    sa.Column("first_day", sa.Date()),
    sa.Column("last_day", sa.Date()),
    sa.Column("format", sa.String(8), nullable=False),
    sa.Column("rows_planned", sa.BigInteger()),
    sa.Column("rows_written", sa.BigInteger()),
    sa.Column("file", sa.String(400)),
    sa.Column("bytes", sa.BigInteger()),
    sa.Column("sm3", sa.String(64)),
    sa.Column("error", sa.String(16)),
    sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
)

export_schedule = sa.Table(
    "export_schedule",
    metadata,
    sa.Column("schedule_id", sa.String(32), primary_key=True),
    sa.Column("template", sa.String(64), nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("person_org", sa.String(32), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("format", sa.String(8), nullable=False),
    sa.Column("day_of_month", sa.Integer(), nullable=False),
    sa.Column("is_active", sa.Boolean(), nullable=False),
    sa.Column("last_month", sa.String(7)),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

report_layout = sa.Table(
    "report_layout",
    metadata,
    sa.Column("layout", sa.String(32), primary_key=True),
    sa.Column("version", sa.Integer(), primary_key=True),
    sa.Column("title_zh", sa.String(100), nullable=False),
    sa.Column("org_code", sa.String(32), nullable=False),
    sa.Column("workbook_sm3", sa.String(64), nullable=False),
    sa.Column("file", sa.String(400), nullable=False),
    sa.Column("bindings", sa.Text(), nullable=False),
    sa.Column("created_by", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

report_month = sa.Table(
    "report_month",
    metadata,
    sa.Column("layout", sa.String(32), primary_key=True),
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("org_code", sa.String(32), primary_key=True),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("figures", sa.Text(), nullable=False),
    sa.Column("checks", sa.Text(), nullable=False),
    sa.Column("file", sa.String(400), nullable=False),
    sa.Column("sm3", sa.String(64), nullable=False),
    sa.Column("filled_by", sa.String(64), nullable=False),
    sa.Column("filled_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("submitted_by", sa.String(64)),
    sa.Column("submitted_at", sa.DateTime(timezone=True)),
)

saved_cohort = sa.Table(
    "saved_cohort",
    metadata,
    sa.Column("cohort", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer(), primary_key=True),
    sa.Column("title_zh", sa.String(80), nullable=False),
    sa.Column("body", sa.Text(), nullable=False),
    sa.Column("sm3", sa.String(64), nullable=False, index=True),
    sa.Column("saved_by", sa.String(64), nullable=False),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
)

cohort_answer = sa.Table(
    "cohort_answer",
    metadata,
    sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("sm3", sa.String(64), nullable=False),
    sa.Column("body", sa.Text(), nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False, index=True),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("shown", sa.String(32), nullable=False),
    sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
)


def upgrade() -> None:
    for table in metadata.sorted_tables:
        create(table)
