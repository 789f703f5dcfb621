"""A cohort answered: attrition, the table under disclosure control, and no answer that differs by very few persons.

Differencing: two cohorts that differ by one to nine persons tell of those persons by subtraction. Before a cohort is
answered it is held against the questions answered earlier over the same published run, by whomever; where one has one
to nine persons that the other has not, nothing is shown (E643). A refusal says that the sets are close, no number.
"""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from lake import audit
from lake.errors import MedlakeError
from products import disclosure, reading
from products.cohort import cohort as counted
from products.cohort_definition import Definition, load
from products.cohort_query import POPULATION_PRODUCT, Query, compile_definition, population_sql, steps
from products.cohorts import describe, saved

#: Earlier questions that a new one is held against: each costs its criteria once more.
_EARLIER = 10

_FROM = (
    "FROM served.gold.dim_person AS p LEFT JOIN served.gold.dim_org AS o ON p.managing_org_code = o.org_code"
)


def attrition(con: duckdb.DuckDBPyConnection, definition: Definition, day: date) -> list[tuple[str, int]]:
    """True counts after each criterion, in one pass. For this module and its tests: they never leave."""
    query = Query(day)
    people = population_sql(query, definition)
    parts = steps(query, definition)
    flags = ", ".join(f"{sql} AS s{n}" for n, (_, sql) in enumerate(parts))
    kept = ", ".join(
        f"count(*) FILTER ({' AND '.join(f's{m}' for m in range(n + 1))})" for n in range(len(parts))
    )
    row = con.execute(
        f"SELECT count(*), {kept} FROM (SELECT {flags} {_FROM} WHERE {people})", query.values
    ).fetchone()
    labels = [describe.population(definition), *[describe.criterion(part) for part, _ in parts]]
    return list(zip(labels, [int(n) for n in row or ()], strict=True))


def blunt(counts: list[int], last: int | str) -> list[int | str]:
    """Published attrition: no step shows that lies one to nine persons from one that shows. ``last``: as published."""
    shown: list[int | str] = [disclosure.WITHHELD] * len(counts)
    shown[-1] = last
    seen = counts[-1]
    for at in range(len(counts) - 2, -1, -1):
        if last == disclosure.WITHHELD or 0 < counts[at] - seen < disclosure.MIN_CELL:
            continue
        shown[at] = disclosure.protect_count(counts[at])
        seen = counts[at]
    return shown


def check_difference(
    con: duckdb.DuckDBPyConnection, definition: Definition, day: date, earlier: list[Definition]
) -> None:
    """Refuse a cohort that one answered earlier differs from by one to nine persons, in either direction.

    Raises:
        MedlakeError: E643.
    """
    if not earlier:
        return
    query = Query(day)

    def members(one: Definition) -> str:
        terms = [population_sql(query, one.model_copy(update={"group_by": []}))]
        return f"({' AND '.join([*terms, *[sql for _, sql in steps(query, one)]])})"

    sets = ", ".join(
        f"coalesce({members(one)}, false) AS m{n}" for n, one in enumerate([definition, *earlier])
    )
    sides = ", ".join(
        f"count(*) FILTER (m0 AND NOT m{n}), count(*) FILTER (m{n} AND NOT m0)"
        for n in range(1, len(earlier) + 1)
    )
    row = con.execute(f"SELECT {sides} FROM (SELECT {sets} {_FROM})", query.values).fetchone()
    if any(0 < int(n) < disclosure.MIN_CELL for n in row or ()):
        raise MedlakeError("E643", place=definition.cohort)


def run(
    definition: str | Path | Definition, data_date: date | None = None, *, actor: str, purpose: str
) -> dict[str, Any]:
    """Answer a cohort.

    Returns:
        what :func:`products.cohort` gives, and ``description, attrition`` (``step, persons`` as published),
        ``question`` (SM3 of who is asked for).

    Raises:
        MedlakeError: as :func:`products.cohort`; E643 too close to an earlier answer (audited).
    """
    started = time.monotonic()
    wanted = definition if isinstance(definition, Definition) else load(definition)
    if not purpose.strip():
        raise MedlakeError("E642", place=wanted.cohort)
    with reading.published() as con:
        _, asked, _ = compile_definition(wanted, date.min)
        day, run_id = reading.data_dates(con, asked.products, data_date)[POPULATION_PRODUCT]
        try:
            check_difference(con, wanted, day, saved.answered(run_id, saved.question(wanted), _EARLIER))
        except MedlakeError as error:
            audit.record("cohort", actor=actor, purpose=purpose, tables=sorted(asked.products), fields=[], rows=0,
                         result=error.code, cohort=wanted.cohort)  # fmt: skip
            raise
        counts = attrition(con, wanted, day)
    report = counted(wanted, data_date, actor=actor, purpose=purpose)
    shown = blunt([n for _, n in counts], report["persons"])
    saved.answer(wanted, run_id, str(report["persons"]), actor)
    lines = [{"step": label, "persons": n} for (label, _), n in zip(counts, shown, strict=True)]
    return report | {
        "description": describe.describe(wanted), "attrition": lines, "question": saved.question(wanted),
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip
