"""Online changes taken into a run: first what people did since the last one, then what the linking finds.

With the replayed owners in the place of the last crosswalk's, ids and persons come out as they were shown online.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import update

from empi import members
from empi.decisions import RecordKey
from empi.sources import as_date
from lake import ops

KEY = ", ".join(RecordKey._fields)
_SCHEMA = pa.schema([pa.field(c, pa.string()) for c in ("empi_id", *KEY.split(", "))])
_EVENT = pa.schema(
    [
        pa.field(c, pa.string())
        for c in (
            "event_id",
            "event_type",
            "empi_id",
            "other_empi_id",
            "before",
            "after",
            "actor",
            "change_id",
            "undoes",
        )
    ]
    + [pa.field("seq", pa.int64())]
)


def collect(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    """Make ``replayed(empi_id, source_system, org_code, identifier_value)`` and ``changed``, the changes as events.

    ``replayed`` has a row for each record of a person that a pending change touched, under the person it now belongs
    to. Returns the changes, for :func:`taken`.
    """
    with ops.engine().begin() as ours:
        changes = members.pending(ours)
    owner = members.replay(changes)
    rows = [{"empi_id": e, **k._asdict()} for k, e in sorted(owner.items())]
    connection.register("replayed_arrow", pa.Table.from_pylist(rows, schema=_SCHEMA))
    connection.execute("CREATE OR REPLACE TABLE replayed AS SELECT * FROM replayed_arrow")
    events = [
        {
            "event_id": f"V{row.change_id}",
            "event_type": "merge" if row.kind == "merge" else "split",
            # a split's new (here: returned) id took the records of the other one
            "empi_id": row.empi_id if row.kind == "merge" else row.other_empi_id,
            "other_empi_id": row.other_empi_id if row.kind == "merge" else row.empi_id,
            **{c: getattr(row, c) for c in ("before", "after", "actor", "change_id", "undoes", "seq")},
        }
        for row in changes
    ]
    connection.register("changed_arrow", pa.Table.from_pylist(events, schema=_EVENT))
    connection.execute("CREATE OR REPLACE TABLE changed AS SELECT * FROM changed_arrow")
    for view in ("replayed_arrow", "changed_arrow"):
        connection.unregister(view)
    return changes


def selected(changes: list[Any]) -> str | None:
    """SELECT text of the replayed records for an incremental run; None if there are none."""
    return f"SELECT empi_id, {KEY} FROM replayed" if changes else None


def into_was(connection: duckdb.DuckDBPyConnection) -> None:
    """Let ``was(rec_no, empi_id)`` say what people changed."""
    connection.execute(
        f"""CREATE OR REPLACE TABLE was AS
        SELECT s.rec_no, coalesce(r.empi_id, w.empi_id) AS empi_id
        FROM source_record s LEFT JOIN was w USING (rec_no) LEFT JOIN replayed r USING ({KEY})
        WHERE coalesce(r.empi_id, w.empi_id) IS NOT NULL"""
    )


def into_wanted(connection: duckdb.DuckDBPyConnection) -> None:
    """Give rows of ``wanted`` that an undo brings back the ``link_cause`` they had: it restores the crosswalk exactly."""
    row = "empi_id, identifier_type, source_system, org_code, identifier_value"
    connection.execute(
        f"""UPDATE wanted SET link_cause = h.link_cause
        FROM (SELECT {row}, arg_max(link_cause, valid_to) AS link_cause FROM previous
              WHERE empi_id IN (SELECT unnest([empi_id, other_empi_id]) FROM changed WHERE undoes IS NOT NULL)
              GROUP BY {row} HAVING count(*) = count(valid_to)) h
        WHERE {" AND ".join(f"wanted.{c} = h.{c}" for c in row.split(", "))}"""
    )


def into_events(
    connection: duckdb.DuckDBPyConnection, run_id: str, data_date: date, shown: str | None
) -> None:
    """Add the changes to ``person_change``.

    ``shown``: FROM text of the visible events, None without. A run that was killed after its tables became visible, and
    before :func:`taken`, has told them already.
    """
    told = (
        f"ANTI JOIN (SELECT event_id FROM {shown} SEMI JOIN changed USING (event_id)) USING (event_id)"
        if shown
        else ""
    )
    connection.execute(
        f"""INSERT INTO person_change BY NAME
        SELECT event_id, event_type, empi_id, other_empi_id, '{run_id}' AS run_id, {as_date(data_date)} AS occurred_on,
               before, after, actor, change_id, undoes FROM changed {told}"""
    )


def taken(changes: list[Any], run_id: str) -> None:
    """Mark the changes as taken into the lake by a run. Until this is done the next run replays them again, to the same end."""
    t = ops.registry_change
    if changes:
        with ops.engine().begin() as connection:
            connection.execute(
                update(t).where(t.c.seq.in_([row.seq for row in changes])).values(run_id=run_id)
            )
