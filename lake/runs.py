"""A day's run: which version of each table linking, checking and building read. Opened once, then fixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import delete, insert, select, update

from lake import ledger, lineage, ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError

#: Silver tables that the run itself makes; they are its outputs, not its inputs.
_OUTPUTS = {
    "silver/person",
    "silver/person_identifier",
    "silver/person_event",
    "silver/person_redirect",
    "silver/match_candidate",
    "silver/unlinkable",
    "silver/link_run",
    "silver/archive_proposal",
}


@dataclass(frozen=True)
class Run:
    """``versions`` maps a table such as ``silver/patient`` to the version this run reads."""

    run_id: str
    data_date: date
    versions: dict[str, int] = field(default_factory=dict)


def _run(row: Any) -> Run:
    return Run(row.run_id, row.data_date, json.loads(row.versions))


def open_run(data_date: date) -> Run:
    """Pin every visible silver table for a date; the first step of the day's chain calls it.

    The run id follows from the date and the pinned versions of the feeds' tables, so opening it again without
    new data gives the same run, and later data opens another one.
    """
    inputs = {n: v for n, v in ledger.visible("silver/").items() if n not in _OUTPUTS}
    lineage.reads(inputs)
    digest = sm3_hex(json.dumps([str(data_date), inputs], sort_keys=True).encode())[:10]
    run_id = f"{data_date:%Y%m%d}-{digest}"
    with ops.engine().begin() as connection:
        found = connection.execute(select(ops.run).where(ops.run.c.data_date == data_date)).one_or_none()
        if found and found.run_id == run_id:
            return _run(found)
        connection.execute(delete(ops.run).where(ops.run.c.data_date == data_date))
        connection.execute(
            insert(ops.run).values(
                data_date=data_date, run_id=run_id, opened_at=datetime.now(UTC), versions=json.dumps(inputs)
            )
        )
    return Run(run_id, data_date, inputs)


def get_run(data_date: date) -> Run:
    """The run of a date.

    Raises:
        MedlakeError: E106, the date was not linked yet.
    """
    with ops.engine().begin() as connection:
        found = connection.execute(select(ops.run).where(ops.run.c.data_date == data_date)).one_or_none()
    if not found:
        raise MedlakeError("E106", data_date=data_date)
    run = _run(found)
    lineage.reads(run.versions)
    return run


def latest_run() -> Run | None:
    """The run of the newest date, if any."""
    with ops.engine().begin() as connection:
        found = connection.execute(
            select(ops.run).order_by(ops.run.c.data_date.desc()).limit(1)
        ).one_or_none()
    return _run(found) if found else None


def previous_run(data_date: date) -> Run | None:
    """The newest run before a date, if any."""
    query = (
        select(ops.run).where(ops.run.c.data_date < data_date).order_by(ops.run.c.data_date.desc()).limit(1)
    )
    with ops.engine().begin() as connection:
        found = connection.execute(query).one_or_none()
    return _run(found) if found else None


def record_output(run: Run, versions: Mapping[str, int]) -> Run:
    """Add the versions of tables that a step of this run wrote; later steps read exactly those."""
    lineage.writes(versions)
    with ops.engine().begin() as connection:
        row = connection.execute(select(ops.run).where(ops.run.c.data_date == run.data_date)).one()
        merged = json.loads(row.versions) | dict(versions)
        connection.execute(
            update(ops.run).where(ops.run.c.data_date == run.data_date).values(versions=json.dumps(merged))
        )
        for name, at in versions.items():
            ledger.set_visible(connection, name, at, None)
    return Run(run.run_id, run.data_date, merged)
