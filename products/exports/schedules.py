"""Exports that repeat each month without anybody at the screen: last month's rows into a drop folder."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from lake import access, audit, ops
from lake.errors import MedlakeError
from lake.log import logger
from lake.product_tables import export_schedule as table
from products.exports import jobs, store

_log = logger("products")


def add(
    template: str, caller: access.Caller, *, day_of_month: int, org: str | None = None, format: str = "xlsx"
) -> str:
    """Schedule an approved template that stays within the group; returns the schedule's id.

    Raises:
        MedlakeError: E637 the day; E636 it has a recipient outside (a password is typed by a person); as ``jobs.ask``.
    """
    if not 1 <= day_of_month <= 28:
        raise MedlakeError("E637", day=day_of_month)
    made, _ = store.template(template)
    if made.recipient:
        raise MedlakeError("E636", place=template)
    if format not in jobs.FORMATS:
        raise MedlakeError("E628", format=format)
    jobs.below(caller, org or caller.org_code)
    name = f"S{uuid.uuid4().hex[:12]}"
    row = {"schedule_id": name, "template": template, "actor": caller.user, "role": caller.role, "person_org": caller.org_code,
           "org_code": org or caller.org_code, "purpose": caller.purpose, "format": format, "day_of_month": day_of_month,
           "is_active": True, "last_month": None, "created_at": datetime.now(UTC)}  # fmt: skip
    with ops.engine().begin() as con:
        con.execute(insert(table).values(row))
        audit.record("export_schedule", actor=caller.user, purpose=caller.purpose, tables=[f"silver.{made.table}"],
                     fields=[], rows=0, result="ok", connection=con, template=template, schedule=name)  # fmt: skip
    return name


def stop(schedule_id: str, actor: str) -> None:
    """End one's own schedule.

    Raises:
        MedlakeError: E619, there is none.
    """
    with ops.engine().begin() as con:
        key = (table.c.schedule_id == schedule_id) & (table.c.actor == actor)
        if not con.execute(update(table).where(key).values(is_active=False)).rowcount:
            raise MedlakeError("E619", place=schedule_id, job=schedule_id)


def listed(actor: str) -> list[dict[str, Any]]:
    """One's own schedules that are active, the oldest first."""
    query = select(table).where(table.c.actor == actor, table.c.is_active).order_by(table.c.created_at)
    with ops.reader().connect() as con:
        return [dict(row._mapping) for row in con.execute(query)]


def run_due(data_date: date) -> list[dict[str, Any]]:
    """Deliver what is due on a day: the month before, each schedule once a month; a failed one is tried again.

    Files lie in ``home/exports/drop/<institution>/``. Returns ``schedule, template, file, rows_written`` or ``error``.
    """
    last = data_date.replace(day=1) - timedelta(days=1)
    month = f"{last:%Y-%m}"
    with ops.reader().connect() as con:
        due = con.execute(
            select(table).where(table.c.is_active, table.c.day_of_month <= data_date.day)
            .where((table.c.last_month.is_(None)) | (table.c.last_month < month))
        ).all()  # fmt: skip
    told: list[dict[str, Any]] = []
    for row in due:  # a handful of schedules, each a run of its own
        caller = access.Caller(row.actor, row.role, row.person_org, row.purpose)
        out = jobs.folder() / "drop" / row.org_code / f"{row.template}_{month}.{row.format}"
        try:
            made = jobs.run(row.template, caller, first=last.replace(day=1), last=last, org=row.org_code,
                            format=row.format, out=out)  # fmt: skip
        except MedlakeError as error:
            _log.warning("schedule_failed", code=error.code, template=row.template)
            told.append({"schedule": row.schedule_id, "template": row.template, "error": error.code})
            continue
        with ops.engine().begin() as con:
            con.execute(update(table).where(table.c.schedule_id == row.schedule_id).values(last_month=month))
        told.append({"schedule": row.schedule_id, "template": row.template, "file": made["file"],
                     "rows_written": made["rows_written"]})  # fmt: skip
    return told
