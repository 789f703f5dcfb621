"""Saved cohorts: each change is a new version, an old version never changes; and what was answered before."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select

from lake import audit, ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.product_tables import cohort_answer, saved_cohort
from products.cohort_definition import Definition, parse


def body_of(definition: Definition) -> str:
    """The canonical text of a definition; title and name are no part of what is asked."""
    return json.dumps(
        definition.model_dump(mode="json", exclude_defaults=True, by_alias=True),
        ensure_ascii=False,
        sort_keys=True,
    )


def question(definition: Definition) -> str:
    """SM3 of who is asked for: population and criteria alone."""
    node = definition.model_dump(mode="json", include={"population", "where"}, by_alias=True)
    return sm3_hex(json.dumps(node, sort_keys=True).encode())


def save(definition: Definition, *, actor: str) -> dict[str, Any]:
    """Save a definition; the same text again is the same version. Returns ``cohort, version, sm3, is_new``."""
    body = body_of(definition)
    digest, table = sm3_hex(body.encode()), saved_cohort
    with ops.engine().begin() as con:
        last = con.execute(
            select(table).where(table.c.cohort == definition.cohort).order_by(table.c.version.desc()).limit(1)
        ).one_or_none()
        if last is not None and last.sm3 == digest:
            return {"cohort": definition.cohort, "version": last.version, "sm3": digest, "is_new": False}
        version = last.version + 1 if last is not None else 1
        row = {"cohort": definition.cohort, "version": version, "title_zh": definition.title_zh, "body": body, "sm3": digest,
               "saved_by": actor, "saved_at": datetime.now(UTC)}  # fmt: skip
        con.execute(insert(table).values(row))
        audit.record("cohort_save", actor=actor, purpose="research", tables=[], fields=list(definition.group_by), rows=0,
                     result="ok", connection=con, cohort=definition.cohort, version=version, sm3=digest)  # fmt: skip
    return {"cohort": definition.cohort, "version": version, "sm3": digest, "is_new": True}


def get(cohort: str, version: int | None = None) -> Definition:
    """A saved definition, the newest version by default.

    Raises:
        MedlakeError: E644, there is none, or its text is not what was saved.
    """
    table = saved_cohort
    query = select(table).where(table.c.cohort == cohort).order_by(table.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(table.c.version == version)
    with ops.reader().connect() as con:
        row = con.execute(query).one_or_none()
    if row is None or sm3_hex(row.body.encode()) != row.sm3:
        raise MedlakeError("E644", place=cohort, cohort=cohort)
    return parse(json.loads(row.body), cohort)


def listed() -> list[dict[str, Any]]:
    """Saved cohorts, the newest version each: ``cohort, version, title_zh, saved_by, saved_at``."""
    table = saved_cohort
    newest = select(table.c.cohort, func.max(table.c.version).label("v")).group_by(table.c.cohort).subquery()
    with ops.reader().connect() as con:
        rows = con.execute(
            select(table).join(newest, (table.c.cohort == newest.c.cohort) & (table.c.version == newest.c.v))
            .order_by(table.c.saved_at.desc())
        ).all()  # fmt: skip
    return [
        {k: r._mapping[k] for k in ("cohort", "version", "title_zh", "saved_by", "saved_at")} for r in rows
    ]


def answered(run_id: str, but: str, limit: int) -> list[Definition]:
    """Questions that were answered over a published run, newest first, each once, without the one ``but`` (its SM3)."""
    table = cohort_answer
    newest = (
        select(func.max(table.c.seq).label("seq"))
        .where(table.c.run_id == run_id, table.c.sm3 != but)
        .group_by(table.c.sm3)
    )
    with ops.reader().connect() as con:
        rows = con.execute(
            select(table).where(table.c.seq.in_(newest)).order_by(table.c.seq.desc()).limit(limit)
        ).all()
    return [parse(json.loads(row.body), "answered") for row in rows]


def answer(definition: Definition, run_id: str, shown: str, actor: str) -> None:
    """Write down what was answered: the published number, never the true one."""
    with ops.engine().begin() as con:
        con.execute(
            insert(cohort_answer).values(
                sm3=question(definition), body=body_of(definition), run_id=run_id, actor=actor, shown=shown,
                answered_at=datetime.now(UTC),
            )
        )  # fmt: skip
