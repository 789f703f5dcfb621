"""The day's check: evaluate (all, or what the day changed), merge, score, gate, judge, write; then the page.

Re-runnable at any point."""

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
from quality import findings, given, incremental, outputs, page
from quality.compile import day
from quality.gate import gates
from quality.incremental import store
from quality.integrity import integrity
from quality.judge import Verdict, judge, load_great_expectations, verdicts_of
from quality.rule import RuleBook, rulebook
from quality.scorecards import scorecards

_log = logger("quality")

#: Tables whose rows belong to one date each; a run replaces its own date and keeps the others.
_DATED = ("quality/scorecard", "quality/gate", "quality/validation")

#: Rows of a result that are in memory as Arrow at once while it is written.
_BATCH = 100_000


def _counts(
    connection: duckdb.DuckDBPyConnection, table: str = "rule_count"
) -> dict[tuple[str, str], tuple[int, int]]:
    rows = connection.execute(
        f"SELECT table_name, rule_id, sum(evaluated)::BIGINT, sum(failed)::BIGINT FROM {table} GROUP BY ALL"
    ).fetchall()
    return {(t, r): (evaluated, failed) for t, r, evaluated, failed in rows}


def _verdicts(connection: duckdb.DuckDBPyConnection, book: RuleBook, day_: incremental.Day) -> list[Verdict]:
    """Great Expectations judges what was judged: all records, or those judged again; verdicts are over all."""
    outcome, counts = day_.outcome, _counts(connection)
    if outcome is None:
        return judge(book, connection, "flags", counts, day_.rows)
    if outcome.whole is not None:
        judge(outcome.whole.book, connection, "flags", _counts(connection, "whole_count"), outcome.whole.rows)
    if outcome.near is not None and outcome.worlds is not None:
        small = outcome.worlds.now.connection
        judge(outcome.near.book, connection, outcome.worlds.now.flags, _counts(small), outcome.near.rows)
    return verdicts_of(book, counts, day_.rows)


def _write(connection: duckdb.DuckDBPyConnection, data_date: date, day_: incremental.Day) -> dict[str, int]:
    """Write the temporary result tables to Delta. Returns the versions."""
    versions = {store.FINDING: day_.write_findings(connection)}
    point("quality.write.finding")
    for table in ("exclusion", "rule", "scorecard", "scorecard_part", "gate", "validation", "rule_count"):
        full = f"quality/{table}"
        sql = f"SELECT * FROM {table}"
        if full in _DATED and tables.exists(full):
            kept = f"SELECT * FROM {tables.scan_sql(full)} WHERE data_date <> {day(data_date)}"
            sql = f"{kept} UNION ALL BY NAME {sql}"  # small: scores and verdicts, never records
            versions[full] = tables.overwrite(full, connection.sql(sql).to_arrow_table())
        else:
            versions[full] = tables.overwrite(full, connection.execute(sql).to_arrow_reader(_BATCH))
        point(f"quality.write.{table}")
    versions[store.STATE] = store.write_state(connection, day_.signatures, day_.engine, day_.full_on)
    return versions


@lineage.stepped("quality.check")
def check(
    data_date: date,
    book: RuleBook | None = None,
    *,
    is_judged: bool = True,
    mode: incremental.Mode = "auto",
) -> dict[str, Any]:
    """Check a date's pinned tables with every rule and settle the gates.

    Args:
        book: rules to use instead of the installation's (a dry run, tests).
        is_judged: Great Expectations judges; without it (a measurement of the engine alone) there are no verdicts.
        mode: ``full`` judges every record again; ``incremental`` only what the day can have changed, with the same
            result; ``auto`` the latter where it can, the month is not new and it is worth it.

    Returns:
        Counts: rows, evaluated, findings by state, excluded, gates by product, mode and why, seconds.

    Raises:
        MedlakeError: E106 the date has no run; E403 a rule does not run; E404 or E405 the judge objects; E456 there is
            nothing that a check by changes could start from. Then nothing was written and the last check stands.
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
        with incremental.evaluate_day(connection, book, run, mode) as day_:
            clock.lap("evaluate")
            day_.merge(connection)
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
                verdicts = _verdicts(connection, book, day_)
                clock.lap("judge")
            connection.execute("CREATE OR REPLACE TEMP TABLE rule AS SELECT * FROM rule_register")
            validation = outputs.validation_sql(verdicts, checks, data_date)
            for table, sql in (("gate", outputs.gate_sql(made)), ("validation", validation)):
                connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {sql}")
            versions = _write(connection, data_date, day_)
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
        "mode": day_.mode,
        "because": day_.because,
        "judged_again": day_.judged_again,
        "rows": sum(day_.rows.values()),
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
