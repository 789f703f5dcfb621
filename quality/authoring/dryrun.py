"""A rule as it would be, run beside the rule as it is over the newest checked run. Nothing is written to the lake."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from typing import Any

import duckdb

from lake import duck, runs
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from quality import given
from quality.authoring.changes import Draft
from quality.compile import name, text
from quality.engine import evaluate
from quality.rule import RuleBook

_log = logger("quality")

#: Sample records of each kind (newly failing, no longer failing).
SAMPLES = 10
_MEMORY = "1200MB"


def newest_checked() -> runs.Run:
    """The newest run that was checked.

    Raises:
        MedlakeError: E423, none was.
    """
    run = runs.latest_run()
    while run is not None and "quality/finding" not in run.versions:
        run = runs.previous_run(run.data_date)
    if run is None:
        raise MedlakeError("E423", data_date="—")
    return run


def _alone(book: RuleBook, rule_id: str) -> RuleBook | None:
    """The rule with what it needs, on its own tables; None if the book does not have it."""
    if rule_id not in {r.id for r in book.rules}:
        return None
    small = book.only(rule_id)
    tables = {t.table for t in small.rule(rule_id).targets}
    kept = (replace(r, targets=tuple(t for t in r.targets if t.table in tables)) for r in small.rules)
    return RuleBook(tuple(kept), small.queries)


def _judge(
    connection: duckdb.DuckDBPyConnection, book: RuleBook | None, rule_id: str, as_of: date, kept: str
) -> None:
    """Keep the rule's violations (table, institution, record) and counts of one book as ``<kept>``."""
    connection.execute(
        f"CREATE TEMP TABLE {kept} (table_name VARCHAR, org_code VARCHAR, record_key VARCHAR, flag TINYINT)"
    )
    if book is None:
        return
    given.create_views(connection, book, as_of)
    connection.execute("DROP SCHEMA IF EXISTS flags CASCADE")
    connection.execute("CREATE SCHEMA flags")
    evaluated = evaluate(connection, book, as_of, flags="flags")
    for target in book.rule(rule_id).targets:
        if target.table in evaluated.rows:
            connection.execute(
                f"INSERT INTO {kept} SELECT {text(target.table)}, org_code, record_key, {name(rule_id)} "
                f"FROM flags.{name(target.table)} WHERE {name(rule_id)} IS NOT NULL"
            )


_COMPARED = """
    CREATE TEMP TABLE compared AS
    SELECT coalesce(a.table_name, b.table_name) AS table_name, coalesce(a.org_code, b.org_code) AS org_code,
        coalesce(a.record_key, b.record_key) AS record_key,
        coalesce(b.flag, 0) = 1 AS failed, coalesce(a.flag, 0) = 1 AS fails,
        b.flag IS NOT NULL AS was_evaluated, a.flag IS NOT NULL AS is_evaluated
    FROM after_change AS a
    FULL JOIN before_change AS b
        ON b.table_name = a.table_name AND b.record_key = a.record_key AND b.org_code IS NOT DISTINCT FROM a.org_code
"""


def _samples(connection: duckdb.DuckDBPyConnection, where: str, samples: int) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT table_name, org_code, record_key FROM compared WHERE {where} ORDER BY ALL LIMIT {int(samples)}"
    ).fetchall()
    return [{"table": t, "org_code": o, "record_key": k} for t, o, k in rows]


def dry_run(draft: Draft, *, samples: int = SAMPLES) -> dict[str, Any]:
    """What would change if the draft held.

    Returns:
        rule_id, action, data_date, evaluated, failing (as it would be), before, newly_failing, no_longer_failing, by_org
        (those with a change), samples of record keys (no other value), seconds.

    Raises:
        MedlakeError: E423 nothing was checked yet; E403 the rule does not run.
    """
    began = time.monotonic()
    run = newest_checked()
    folder = settings().folder("tmp", "quality")
    with duck.connect(memory=_MEMORY) as connection:
        connection.execute(f"SET temp_directory = {text(str(folder))}")
        duck.create_views(connection, {n: v for n, v in run.versions.items() if n.startswith("silver/")})
        for kept, book in (("before_change", draft.before), ("after_change", draft.book)):
            _judge(connection, _alone(book, draft.rule_id), draft.rule_id, run.data_date, kept)
        connection.execute(_COMPARED)
        totals = connection.execute(
            "SELECT count(*) FILTER (is_evaluated), count(*) FILTER (fails), count(*) FILTER (failed), "
            "count(*) FILTER (fails AND NOT failed), count(*) FILTER (failed AND NOT fails) FROM compared"
        ).fetchone()
        assert totals is not None
        by_org = connection.execute(
            "SELECT org_code, count(*) FILTER (fails AND NOT failed) AS n, count(*) FILTER (failed AND NOT fails) AS g, "
            "count(*) FILTER (fails) FROM compared GROUP BY 1 HAVING n + g > 0 ORDER BY 2 DESC, 3 DESC, 1"
        ).fetchall()
        newly = _samples(connection, "fails AND NOT failed", samples)
        gone = _samples(connection, "failed AND NOT fails", samples)
    evaluated, failing, before, new, no_longer = (int(n) for n in totals)
    _log.info("rule_dry_run", rule_id=draft.rule_id, data_date=run.data_date, rows=evaluated)
    return {
        "rule_id": draft.rule_id,
        "action": draft.action,
        "data_date": run.data_date.isoformat(),
        "evaluated": evaluated,
        "before": before,
        "failing": failing,
        "newly_failing": new,
        "no_longer_failing": no_longer,
        "by_org": [
            {"org_code": o, "newly_failing": n, "no_longer_failing": g, "failing": f} for o, n, g, f in by_org
        ],
        "samples": {"newly_failing": newly, "no_longer_failing": gone},
        "seconds": round(time.monotonic() - began, 2),
    }
