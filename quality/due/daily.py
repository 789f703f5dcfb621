"""The due list of each checked date, kept in ``quality/due``; and what an institution or a doctor has to do."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from lake import duck, runs, tables
from lake.errors import MedlakeError
from lake.log import logger
from quality import given
from quality.compile import day, text
from quality.due.listing import due, rules_with_due
from quality.rule import RuleBook, rulebook
from quality.tickets import counting

TABLE = "quality/due"
_log = logger("quality")


def build(data_date: date, book: RuleBook | None = None) -> dict[str, Any]:
    """Make the due list of a checked date; its run pins the version, as with findings. Again gives the same rows.

    Returns:
        ``rules`` with due entries, ``due`` rows, ``overdue`` of them (past due, still in grace), and by rule.

    Raises:
        MedlakeError: E106, E423 the date was not checked; E427 a due entry does not run.
    """
    book = book or rulebook()
    counting.checked(data_date)
    run = runs.get_run(data_date)
    with duck.connect() as connection:
        silver = {n: v for n, v in run.versions.items() if n.startswith("silver/")}
        duck.create_views(connection, silver)
        given.create_views(connection, book, data_date)
        count = due(connection, book, data_date)
        listed = connection.sql(
            f"SELECT {day(data_date)} AS data_date, * FROM due_now ORDER BY fails_on, rule_id"
        )
        version = tables.overwrite(TABLE, listed.to_arrow_table())
        by_rule = dict(
            connection.execute("SELECT rule_id, count(*) FROM due_now GROUP BY 1 ORDER BY 1").fetchall()
        )
        late = connection.execute(f"SELECT count(*) FROM due_now WHERE due_on < {day(data_date)}").fetchone()
    runs.record_output(run, {TABLE: version})
    assert late is not None
    _log.info("due_listed", data_date=data_date, rows=count, rules=len(by_rule))
    return {
        "data_date": data_date.isoformat(),
        "rules": len(rules_with_due(book)),
        "due": count,
        "overdue": int(late[0]),
        "by_rule": by_rule,
    }


def build_after_check(data_date: date) -> dict[str, Any]:
    """:func:`build` as the end of the check's step: what goes wrong is told and stops nothing."""
    try:
        return build(data_date)
    except Exception as error:  # the day's chain does not need the list; the next run makes it
        code = error.code if isinstance(error, MedlakeError) else type(error).__name__
        _log.error("due_not_listed", data_date=data_date, code=code)
        return {"data_date": data_date.isoformat(), "error": code}


def rows(
    data_date: date,
    *,
    org_code: str | None = None,
    doctor_id: str | None = None,
    rule_id: str | None = None,
    within: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """What is due and not yet failed as of a date, soonest first; no value of a record but its key and its person's id.

    Args:
        within: only what is due within so many days (what is past due always).

    Raises:
        MedlakeError: E106, E423: the date has no due list.
    """
    run = runs.get_run(data_date)
    if TABLE not in run.versions:
        raise MedlakeError("E423", data_date=data_date)
    where = [f"data_date = {day(data_date)}"]
    given_by = {"org_code": org_code, "doctor_id": doctor_id, "rule_id": rule_id}
    where += [f"{c} = {text(v)}" for c, v in given_by.items() if v is not None]
    if within is not None:
        where.append(f"due_on <= {day(data_date + timedelta(days=within))}")
    most = "" if limit is None else f" LIMIT {int(limit)}"
    order = "fails_on, due_on, rule_id, org_code, record_key"
    with duck.connect() as connection:
        found = connection.execute(
            f"SELECT * FROM {tables.scan_sql(TABLE, run.versions[TABLE])} WHERE {' AND '.join(where)} ORDER BY {order}{most}"
        )
        return list(found.to_arrow_table().to_pylist())
