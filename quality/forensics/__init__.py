"""Quarterly statistical screening of follow-ups: leads for people to look at, never a penalty.

The public face: ``build(quarter)`` writes ``quality/forensic_lead``, ``leads(quarter)`` reads it. Nothing else in the
platform reads that table: no score, gate, ticket or indicator depends on it.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

from lake import duck, runs, tables
from lake.errors import MedlakeError

TABLE = "quality/forensic_lead"
_SOURCES = ("htn_visit", "dm_visit")


def days_of(quarter: str) -> tuple[date, date]:
    """First and last day of ``2026Q4``.

    Raises:
        MedlakeError: E454, not a quarter.
    """
    found = re.fullmatch(r"([12]\d{3})Q([1-4])", quarter)
    if found is None:
        raise MedlakeError("E454", quarter=quarter[:20])
    year, nth = int(found[1]), int(found[2])
    after = date(year + nth // 4, nth * 3 % 12 + 1, 1)
    return date(year, nth * 3 - 2, 1), after - timedelta(days=1)


def quarter_before(day: date) -> str:
    """The newest quarter that is over on a day, such as ``2026Q3``."""
    nth = (day.month - 1) // 3
    return f"{day.year}Q{nth}" if nth else f"{day.year - 1}Q4"


def build(quarter: str) -> dict[str, Any]:
    """Screen a quarter with the newest run's data and replace that quarter's leads; again gives the same rows.

    Returns:
        ``quarter``, ``data_date``, ``is_complete`` (the quarter is over), ``visits``, ``doctors``, ``leads`` and
        ``by_test``.

    Raises:
        MedlakeError: E454 not a quarter; E455 no data reaches into it.
    """
    from quality.forensics.screen import TESTS, screen, visits_sql

    first, last = days_of(quarter)
    run = runs.latest_run()
    if run is None or run.data_date < first:
        raise MedlakeError("E455", quarter=quarter)
    with duck.connect() as connection:
        shaped = [
            visits_sql(
                name, tables.scan_sql(full, run.versions[full]), set(tables.columns(full, run.versions[full])), first, last
            )
            for name in _SOURCES
            if (full := f"silver/{name}") in run.versions
        ]  # fmt: skip
        if not shaped:
            raise MedlakeError("E455", quarter=quarter)
        connection.execute("CREATE TEMP TABLE visit AS " + " UNION ALL ".join(shaped))
        counted = connection.execute(
            "SELECT count(*), count(DISTINCT org_code || '|' || doctor_id) FROM visit"
        ).fetchone()
        assert counted is not None
        found = screen(connection, quarter, run.data_date, last)
        connection.register("found", found)
        sql = "SELECT * FROM found"
        if tables.exists(TABLE):
            sql = (
                f"SELECT * FROM {tables.scan_sql(TABLE)} WHERE quarter <> '{quarter}' UNION ALL BY NAME {sql}"
            )
        version = tables.overwrite(TABLE, connection.sql(sql).to_arrow_table())  # leads are few
    runs.record_output(run, {TABLE: version})
    by_test = dict.fromkeys(TESTS, 0)
    for test in found["test"].to_pylist():
        by_test[test] += 1
    return {
        "quarter": quarter,
        "data_date": run.data_date.isoformat(),
        "is_complete": run.data_date >= last,
        "visits": counted[0],
        "doctors": counted[1],
        "leads": found.num_rows,
        "by_test": by_test,
    }


def leads(quarter: str) -> list[dict[str, Any]]:
    """The leads kept for a quarter, surest first, with ``test_zh``; empty where it was not screened.

    Raises:
        MedlakeError: E454, not a quarter.
    """
    from quality.forensics.screen import TESTS

    days_of(quarter)
    if not tables.exists(TABLE):
        return []
    with duck.connect() as connection:
        rows = (
            connection.execute(
                f"SELECT * FROM {tables.scan_sql(TABLE)} WHERE quarter = ? ORDER BY q_value, test, org_code, doctor_id",
                [quarter],
            )
            .to_arrow_table()
            .to_pylist()
        )
    return [r | {"test_zh": TESTS[r["test"]]} for r in rows]
