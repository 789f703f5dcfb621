"""A run that would merge or split more persons than is normal stops before it writes anything, and shows what it would do.

A source that was re-keyed, a wrong placeholder, a changed model: what they have in common is that thousands of persons
move at once. A person looks at the diff and lets exactly it through, or not.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import insert, select, update

from empi.decisions import told
from lake import ops
from lake.errors import MedlakeError
from lake.runs import Run
from lake.settings import settings

_t = ops.link_approval
_DIFF = """
SELECT event_type, empi_id, other_empi_id, before, after FROM person_change
WHERE event_type IN ('merge', 'split') AND change_id IS NULL ORDER BY ALL
"""


def check(connection: duckdb.DuckDBPyConnection, run: Run, persons: int) -> None:
    """Let a run pass whose merges and splits are within the limits, or whose very diff somebody has approved.

    Reads ``person_change``; what people changed online does not count. ``persons``: before the run.

    Raises:
        MedlakeError: E324, a limit is exceeded and nobody has approved this diff; E325, somebody has refused it.
    """
    counts = dict(
        connection.execute(
            "SELECT event_type, count(*) FROM person_change WHERE event_type IN ('merge', 'split') AND change_id IS NULL GROUP BY 1"
        ).fetchall()
    )
    s = settings()
    limits = {
        "merge": max(s.empi_free_changes, round(s.empi_max_merge_share * persons)),
        "split": max(s.empi_free_changes, round(s.empi_max_split_share * persons)),
    }
    if all(counts.get(kind, 0) <= limit for kind, limit in limits.items()):
        return
    folder = settings().folder("empi", "diffs")
    folder.chmod(0o700)
    draft = folder / f"{run.run_id}.draft"
    connection.execute(f"COPY ({_DIFF}) TO '{draft}' (FORMAT parquet)")
    digest = _digest(connection)
    approval_id = f"{run.run_id}-{digest[:12]}"
    path = folder / f"{approval_id}.parquet"
    draft.chmod(0o600)
    draft.replace(path)
    summary = {
        "persons": persons,
        **{f"{kind}s": int(counts.get(kind, 0)) for kind in limits},
        **{f"{kind}_limit": limit for kind, limit in limits.items()},
    }
    state = _asked(run, approval_id, digest, summary, path)
    if state == "approved":
        return
    told = {k: v for k, v in summary.items() if k != "persons"}
    raise MedlakeError("E325" if state == "refused" else "E324", place=approval_id, **told)


def _digest(connection: duckdb.DuckDBPyConnection) -> str:
    """SHA-256 of the diff, row by row in order: a re-keyed source moves millions, which stay in the engine."""
    row = "sha256(concat_ws('|', event_type, empi_id, other_empi_id, before, after))"
    order = "event_type, empi_id, other_empi_id, before, after"
    found = connection.execute(
        f"SELECT sha256(string_agg({row}, '' ORDER BY {order})) FROM ({_DIFF})"
    ).fetchall()
    return str(found[0][0])


def _asked(run: Run, approval_id: str, digest: str, summary: dict[str, Any], path: Path) -> str:
    with ops.engine().begin() as connection:
        found = connection.execute(
            select(_t.c.state, _t.c.diff_sha256).where(_t.c.approval_id == approval_id)
        ).one_or_none()
        if found is not None:
            return str(found.state) if found.diff_sha256 == digest else "asked"
        connection.execute(
            insert(_t).values(
                approval_id=approval_id,
                run_id=run.run_id,
                data_date=run.data_date,
                diff_sha256=digest,
                state="asked",
                summary=json.dumps(summary),
                diff_path=os.path.relpath(path, settings().home),
                asked_at=datetime.now(UTC),
            )
        )
    return "asked"


def answer(approval_id: str, state: str, *, actor: str, reason: str) -> dict[str, Any]:
    """Approve or refuse a diff; the next run of the same date then passes, or fails at once.

    Raises:
        MedlakeError: E326, no such diff waits; E320, no such answer.
    """
    if state not in ("approved", "refused"):
        raise MedlakeError("E320", detail=state)
    with ops.engine().begin() as connection:
        row = connection.execute(select(_t).where(_t.c.approval_id == approval_id)).one_or_none()
        if row is None:
            raise MedlakeError("E326", place=approval_id)
        connection.execute(
            update(_t)
            .where(_t.c.approval_id == approval_id)
            .values(state=state, decided_by=actor, decided_at=datetime.now(UTC), reason=reason)
        )
        told(connection, f"empi_run_{state}", actor, approval_id=approval_id)
    return {"approval_id": approval_id, "state": state, **json.loads(row.summary)}


def listed() -> list[dict[str, Any]]:
    """All runs that ever waited, the newest first."""
    shown = (_t.c.approval_id, _t.c.data_date, _t.c.state, _t.c.summary, _t.c.asked_at, _t.c.decided_by)
    with ops.engine().begin() as connection:
        rows = connection.execute(select(*shown).order_by(_t.c.asked_at.desc())).all()
    return [
        {k: v for k, v in row._mapping.items() if k != "summary"} | json.loads(row.summary) for row in rows
    ]


def diff(approval_id: str, limit: int = 200) -> list[dict[str, Any]]:
    """What a run would merge and split: ids and numbers of records, no names.

    Raises:
        MedlakeError: E326, no such diff.
    """
    with ops.engine().begin() as connection:
        path = connection.execute(select(_t.c.diff_path).where(_t.c.approval_id == approval_id)).scalar()
    if path is None or not (settings().home / path).exists():
        raise MedlakeError("E326", place=approval_id)
    con = duckdb.connect()
    try:
        rows: list[dict[str, Any]] = (
            con.execute(f"SELECT * FROM read_parquet('{settings().home / path}') LIMIT {int(limit)}")
            .to_arrow_table()
            .to_pylist()
        )
    finally:
        con.close()
    for row in rows:
        for side in ("before", "after"):
            row[side] = ", ".join(f"{e}:{len(r)}" for e, r in json.loads(row[side] or "{}").items())
    return rows
