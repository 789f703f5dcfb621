"""Tables of what leaves the platform: export templates, jobs, schedules; report layouts, months; saved cohorts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, String, Table, Text

from lake.ops_metadata import metadata

#: One version of a template that people made by ticking boxes. ``state``: proposed | approved | refused | retired.
export_template = Table(
    "export_template",
    metadata,
    Column("template", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("title_zh", String(60), nullable=False),
    Column("body", Text, nullable=False),  # JSON of the template
    Column("sm3", String(64), nullable=False),  # of the body: what was approved is what runs
    Column("org_code", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("proposed_by", String(64), nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", String(64)),
    Column("decided_at", DateTime(timezone=True)),
    Column("reason", Text),
)

#: One press of the button. ``state``: queued | running | done | failed.
export_job = Table(
    "export_job",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("template", String(64), nullable=False),
    Column("title_zh", String(60), nullable=False),
    Column("template_sm3", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("actor", String(64), nullable=False, index=True),
    Column("role", String(32), nullable=False),
    Column("org_code", String(32), nullable=False),  # whose rows
    Column("purpose", String(32), nullable=False),
    Column("recipient", String(100), nullable=False),
    Column("first_day", Date),
    Column("last_day", Date),
    Column("format", String(8), nullable=False),
    Column("rows_planned", BigInteger),
    Column("rows_written", BigInteger),
    Column("file", String(400)),  # below home/exports
    Column("bytes", BigInteger),
    Column("sm3", String(64)),
    Column("error", String(16)),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
)

#: A run that repeats each month without anybody at the screen; its file lies in a drop folder.
export_schedule = Table(
    "export_schedule",
    metadata,
    Column("schedule_id", String(32), primary_key=True),
    Column("template", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("person_org", String(32), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("format", String(8), nullable=False),
    Column("day_of_month", Integer, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("last_month", String(7)),  # YYYY-MM that was delivered last
    Column("created_at", DateTime(timezone=True), nullable=False),
)

#: A county's blank workbook with its cells bound to indicators, one version a row.
report_layout = Table(
    "report_layout",
    metadata,
    Column("layout", String(32), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("title_zh", String(100), nullable=False),
    Column("org_code", String(32), nullable=False),
    Column("workbook_sm3", String(64), nullable=False),
    Column("file", String(400), nullable=False),  # below home/reports
    Column("bindings", Text, nullable=False),  # JSON
    Column("created_by", String(64), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

#: A month of a layout. ``state``: filled | submitted; a submitted month's figures stay as they are.
report_month = Table(
    "report_month",
    metadata,
    Column("layout", String(32), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("org_code", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("figures", Text, nullable=False),  # JSON {cell: number}
    Column("checks", Text, nullable=False),  # JSON
    Column("file", String(400), nullable=False),
    Column("sm3", String(64), nullable=False),
    Column("filled_by", String(64), nullable=False),
    Column("filled_at", DateTime(timezone=True), nullable=False),
    Column("submitted_by", String(64)),
    Column("submitted_at", DateTime(timezone=True)),
)

#: A researcher's definition, saved; an answered version never changes.
saved_cohort = Table(
    "saved_cohort",
    metadata,
    Column("cohort", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("title_zh", String(80), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("sm3", String(64), nullable=False, index=True),
    Column("saved_by", String(64), nullable=False),
    Column("saved_at", DateTime(timezone=True), nullable=False),
)

#: What was answered to whom over which published run: later questions are held against it.
cohort_answer = Table(
    "cohort_answer",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("sm3", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("run_id", String(64), nullable=False, index=True),
    Column("actor", String(64), nullable=False),
    Column("shown", String(32), nullable=False),  # the published number, never the true one
    Column("answered_at", DateTime(timezone=True), nullable=False),
)
