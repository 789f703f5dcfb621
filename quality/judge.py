"""Great Expectations judges: one suite per table over the engine's flags, and its counts must equal the engine's.

GX stops at 20 or 200 failing rows, so it judges and documents while the findings table knows each row. It leaves
NULLs out of its denominator, which is exactly "not evaluated is not passed". Importing it takes seconds: only
here, inside the task.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lake.errors import MedlakeError
from lake.log import logger
from quality.rule import RuleBook

if TYPE_CHECKING:
    import duckdb

_log = logger("quality")


@dataclass(frozen=True)
class Verdict:
    """One expectation's result. ``success``: at most ``threshold_pct`` of the evaluated records fail."""

    rule_id: str
    table_name: str
    expectation: str
    success: bool
    rows: int
    evaluated: int
    failed: int
    threshold_pct: float


def load_great_expectations() -> Any:
    """Import GX with its telemetry off and the DuckDB hook in place. Safe to call from a thread, again and again."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
    _buffer_duckdb_results()
    return gx


_hooked = False


def _buffer_duckdb_results() -> None:
    """GX reads a result after closing its connection, and DuckDB drops a pending result then: buffer it first."""
    global _hooked
    if _hooked:
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy

    @event.listens_for(Engine, "after_cursor_execute")
    def _buffer(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        reads = statement.lstrip()[:6].upper().startswith(("SELECT", "WITH"))
        if conn.dialect.name != "duckdb" or context is None or executemany or not reads:
            return
        if cursor.description is not None:
            rows = cursor.fetchall()
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)

    _hooked = True


def _suite(gx: Any, book: RuleBook, table: str) -> Any:
    expectations = [
        gx.expectations.ExpectColumnValuesToBeInSet(
            column=rule.id,
            value_set=[0],
            mostly=_mostly(rule.tolerance_pct),
            meta={
                "rule_id": rule.id,
                "rule_version": rule.version,
                "title_zh": rule.title_zh,
                "source_standard": rule.source_standard,
                "notes": {"format": "string", "content": [rule.title_zh, rule.remedy_zh]},
            },
        )
        for rule in book.of_table(table)
    ]
    return gx.ExpectationSuite(name=table, expectations=expectations)


def judge(
    book: RuleBook,
    connection: duckdb.DuckDBPyConnection,
    flags: str,
    expected: Mapping[tuple[str, str], tuple[int, int]],
    tables: Collection[str],
) -> list[Verdict]:
    """Validate every table's flags.

    Args:
        tables: those with flags; the others are not in the lake and nothing is said of them.
        connection: GX asks through cursors of it, so that the flags are read where they are.
        flags: schema with one table of flags per judged table.
        expected: (table, rule) -> (evaluated, failed) as the engine counted them.

    Raises:
        MedlakeError: E405, an expectation raised; E404, GX and the engine count differently.
    """
    gx = load_great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    from duckdb_engine import ConnectionWrapper

    source = context.data_sources.add_sql(
        "flags",
        connection_string="duckdb:///:memory:",
        create_temp_table=False,
        kwargs={"creator": lambda: ConnectionWrapper(connection.cursor())},
    )
    verdicts: list[Verdict] = []
    try:
        for table in tables:
            batch = (
                source.add_table_asset(table, table_name=table, schema_name=flags)
                .add_batch_definition_whole_table("all")
                .get_batch()
            )
            results = batch.validate(_suite(gx, book, table), result_format="BASIC").results
            verdicts += [_verdict(result, table, expected) for result in results]
    finally:
        source.get_engine().dispose()
    _log.info("judged", suite=len(tables), expectations=len(verdicts))
    return verdicts


def verdicts_of(
    book: RuleBook, counts: Mapping[tuple[str, str], tuple[int, int]], rows: Mapping[str, int]
) -> list[Verdict]:
    """The verdicts over all records where the judge looked at those that changed and confirmed their counts.

    The arithmetic is Great Expectations' own: at most ``1 - mostly`` of the evaluated may fail.
    """
    made = []
    for table in rows:
        for rule in book.of_table(table):
            evaluated, failed = counts.get((table, rule.id), (0, 0))
            mostly = _mostly(rule.tolerance_pct)
            success = evaluated == 0 or (evaluated - failed) / evaluated >= mostly
            expectation, threshold = "expect_column_values_to_be_in_set", round(100 * (1 - mostly), 4)
            made.append(
                Verdict(rule.id, table, expectation, success, rows[table], evaluated, failed, threshold)
            )
    return made


def _mostly(tolerance_pct: float) -> float:
    return round(1 - tolerance_pct / 100, 6)


def _verdict(result: Any, table: str, expected: Mapping[tuple[str, str], tuple[int, int]]) -> Verdict:
    config = result.expectation_config
    rule_id = config.kwargs["column"]
    if result.exception_info.get("raised_exception") or "element_count" not in result.result:
        message = str(result.exception_info.get("exception_message", "no result"))[:200]
        raise MedlakeError("E405", rule_id=rule_id, table=table, detail=message)
    rows, missing = int(result.result["element_count"]), int(result.result.get("missing_count") or 0)
    evaluated, failed = rows - missing, int(result.result.get("unexpected_count") or 0)
    ours = expected.get((table, rule_id), (0, 0))
    if (evaluated, failed) != ours:
        raise MedlakeError(
            "E404", rule_id=rule_id, table=table, ours=f"{ours[1]}/{ours[0]}", theirs=f"{failed}/{evaluated}"
        )
    return Verdict(
        rule_id,
        table,
        config.type,
        bool(result.success) or evaluated == 0,
        rows,
        evaluated,
        failed,
        round(100 * (1 - float(config.kwargs["mostly"])), 4),
    )
