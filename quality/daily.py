"""The day's check: evaluate, judge, merge, score, gate, write; then the page. Re-runnable at any point."""

from __future__ import annotations

import threading
import time
from datetime import date
from typing import Any

import duckdb

from lake import duck, lineage, registry, runs, tables
from lake.kill import point
from lake.log import logger
from lake.stages import Stages
from quality import corrections, findings, given, outputs, page
from quality.compile import day
from quality.engine import evaluate
from quality.gate import gates
from quality.integrity import integrity
from quality.judge import judge, load_great_expectations
from quality.rule import RuleBook, rulebook
from quality.scorecards import scorecards
from quality.tickets import waiver_sql

_log = logger("quality")

#: Tables whose rows belong to one date each; a run replaces its own date and keeps the others.
_DATED = ("quality/scorecard", "quality/gate", "quality/validation")

#: Rows of a result that are in memory as Arrow at once while it is written.
_BATCH = 100_000


def _previous(data_date: date) -> str | None:
    """The findings as of the last checked run before a date, as SQL for a FROM clause."""
    run = runs.previous_run(data_date)
    while run is not None:
        if (at := run.versions.get("quality/finding")) is not None:
            return tables.scan_sql("quality/finding", at)
        run = runs.previous_run(run.data_date)
    return None


def _counts(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], tuple[int, int]]:
    rows = connection.execute(
        "SELECT table_name, rule_id, sum(evaluated)::BIGINT, sum(failed)::BIGINT FROM rule_count GROUP BY ALL"
    ).fetchall()
    return {(t, r): (evaluated, failed) for t, r, evaluated, failed in rows}


def _write(connection: duckdb.DuckDBPyConnection, data_date: date) -> dict[str, int]:
    """Write the temporary result tables to Delta. Returns the versions."""
    versions = {}
    for table in ("finding", "exclusion", "rule", "scorecard", "scorecard_part", "gate", "validation"):
        full = f"quality/{table}"
        sql = f"SELECT * FROM {table}"
        if full in _DATED and tables.exists(full):
            kept = f"SELECT * FROM {tables.scan_sql(full)} WHERE data_date <> {day(data_date)}"
            sql = f"{kept} UNION ALL BY NAME {sql}"  # small: scores and verdicts, never records
            versions[full] = tables.overwrite(full, connection.sql(sql).to_arrow_table())
        else:
            versions[full] = tables.overwrite(full, connection.execute(sql).to_arrow_reader(_BATCH))
        point(f"quality.write.{table}")
    return versions


@lineage.stepped("quality.check")
def check(data_date: date, book: RuleBook | None = None, *, is_judged: bool = True) -> dict[str, Any]:
    """Check a date's pinned tables with every rule and settle the gates.

    Args:
        book: rules to use instead of the installation's (a dry run, tests).
        is_judged: Great Expectations judges; without it (a measurement of the engine alone) there are no verdicts.

    Returns:
        Counts: rows, evaluated, findings by state, excluded, gates by product, seconds.

    Raises:
        MedlakeError: E106 the date has no run; E403 a rule does not run; E404 or E405 the judge objects. Then
            nothing was written and the last check stands.
    """
    began, clock = time.monotonic(), Stages("check", _log)
    warm = threading.Thread(target=load_great_expectations, daemon=True)  # seconds of import beside our scans
    if is_judged:
        warm.start()
    run = runs.get_run(data_date)
    book = book or rulebook()
    with duck.connect() as connection:
        silver = {n: v for n, v in run.versions.items() if n.startswith("silver/")}
        duck.create_views(connection, silver)
        given.create_views(connection, book, data_date)
        connection.execute("CREATE SCHEMA flags")
        evaluated = evaluate(connection, book, data_date)
        clock.lap("evaluate")
        waiting = corrections.waiting_sql(data_date)
        findings.merge(connection, book, data_date, _previous(data_date), waiver_sql(data_date), waiting)
        connection.execute("DROP TABLE finding_now")  # as large as the findings themselves, which stand now
        clock.lap("merge")
        findings.exclusions(connection, book)
        scorecards(connection, data_date)
        checks = integrity(connection, run.versions, data_date)
        made = gates(connection, book, registry.products(), checks, data_date)
        engine_seconds = time.monotonic() - began
        clock.lap("gates")
        counts = _counts(connection)
        verdicts = []
        if is_judged:
            warm.join()
            verdicts = judge(book, connection, "flags", counts, evaluated.rows)
            clock.lap("judge")
        connection.execute("CREATE OR REPLACE TEMP TABLE rule AS SELECT * FROM rule_register")
        connection.register("gate", outputs.gate_table(made))
        connection.register("validation", outputs.validation_table(verdicts, checks, data_date))
        versions = _write(connection, data_date)
        clock.lap("write")
        changed = findings.changes(connection, data_date)
        excluded = connection.execute("SELECT count(*) FROM exclusion").fetchone()
    runs.record_output(run, versions)
    point("quality.recorded")
    page.render()
    clock.lap("page")
    result = {
        "data_date": str(data_date),
        "run_id": run.run_id,
        "rules": len(book.rules),
        "rows": sum(evaluated.rows.values()),
        "evaluated": sum(e for e, _ in counts.values()),
        "failed": sum(f for _, f in counts.values()),
        "findings": changed["open"],
        "new": changed["new"],
        "closed": changed["closed_today"],
        "excluded": int(excluded[0]) if excluded else 0,
        "gates": {g.product: g.gate for g in made},
        "gate": "closed" if any(g.gate == "closed" for g in made) else "open",
        "stages": clock.seconds,
        "seconds_engine": round(engine_seconds, 3),
        "seconds": round(time.monotonic() - began, 3),
    }
    _log.info("checked", data_date=data_date, run_id=run.run_id, rules=result["rules"], rows=result["rows"],
              findings=result["findings"], excluded=result["excluded"], gate=result["gate"],
              seconds=result["seconds"])  # fmt: skip
    return result
