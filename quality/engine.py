"""The engine: flags at native grain, then every violation with its place. Sets only, no loop over records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import duckdb

from lake.errors import MedlakeError
from quality import compile as sql
from quality.prepare import Prepared, prepare, run_query
from quality.rule import RuleBook

_FINDING_NOW = """
    CREATE OR REPLACE TEMP TABLE finding_now (
        rule_id VARCHAR, table_name VARCHAR, record_key VARCHAR, org_code VARCHAR, doctor_id VARCHAR,
        empi_id VARCHAR, severity VARCHAR, field_list VARCHAR, observed VARCHAR, expected VARCHAR,
        message_zh VARCHAR, source_file VARCHAR, source_sheet VARCHAR, source_line BIGINT,
        is_observing BOOLEAN, effect VARCHAR
    )
"""
_RULE_COUNT = """
    CREATE OR REPLACE TEMP TABLE rule_count (
        rule_id VARCHAR, table_name VARCHAR, org_code VARCHAR, evaluated BIGINT, failed BIGINT
    )
"""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation left in the connection.

    ``finding_now`` (one row per rule and failing record), ``rule_count`` (per rule, table, institution) and the
    flags ``<flags>.<table>``; ``rows`` counts the records of each judged table that the lake has.
    """

    book: RuleBook
    as_of: date
    flags: str
    rows: dict[str, int]


def _count(connection: duckdb.DuckDBPyConnection, book: RuleBook, table: str, flags: str) -> set[str]:
    """Count evaluated and failed records per rule and institution. Returns the rules that some record failed."""
    connection.execute(f"INSERT INTO rule_count {sql.counts_sql(book, table, flags)}")
    failed = connection.execute(
        f"SELECT DISTINCT rule_id FROM rule_count WHERE table_name = {sql.text(table)} AND failed > 0"
    ).fetchall()
    return {rule_id for (rule_id,) in failed}


@contextmanager
def _in_given_order(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Joins as they are written: violations, which lie rule by rule, then stream past their records.

    Turned around, each batch of rows would hold all rules at once, and their texts cost four times as much (measured).
    """
    connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    try:
        yield
    finally:
        connection.execute("SET disabled_optimizers = ''")


def _find(
    connection: duckdb.DuckDBPyConnection,
    evaluated: Evaluated,
    prepared: Prepared,
    table: str,
    failed: set[str],
) -> None:
    """Add a table's violations to ``finding_now``.

    Raises:
        MedlakeError: E403, with the rule whose text does not run.
    """
    book, as_of = evaluated.book, evaluated.as_of
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE violation AS {sql.violations_sql(book, table, evaluated.flags, failed)}"
    )
    told = sql.findings_sql(book, table, as_of, failed, prepared.present)
    try:
        with _in_given_order(connection):
            connection.execute(f"INSERT INTO finding_now {told}")
    except duckdb.Error as error:
        for rule_id in sorted(failed):  # whose text it is: they run one by one
            try:
                connection.execute(
                    sql.findings_sql(book, table, as_of, {rule_id}, prepared.present)
                ).fetchall()
            except duckdb.Error as own:
                raise MedlakeError("E403", rule_id=rule_id, table=table, detail=_plain(own)) from own
        raise MedlakeError("E403", rule_id=table, table=table, detail=_plain(error)) from error


def nothing(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of an evaluation that judged no record."""
    connection.execute(_FINDING_NOW)
    connection.execute(_RULE_COUNT)


def evaluate(
    connection: duckdb.DuckDBPyConnection,
    book: RuleBook,
    as_of: date,
    *,
    flags: str = "flags",
    is_told: bool = True,
) -> Evaluated:
    """Judge every record that the book covers, as of a date.

    Args:
        connection: has views ``silver.<table>`` (those missing count as empty) and may attach more databases.
        flags: schema or attached database that receives one table of flags per judged table.
        is_told: without it violations are counted, and none is told: ``finding_now`` stays empty.

    Raises:
        MedlakeError: E403, a rule's SQL does not run.
    """
    prepared = prepare(connection, book, as_of)
    runnable = sorted({q for t in prepared.rows for q in book.queries_of(t, prepared.present)})
    for query in runnable:
        table = book.queries[query].table
        try:
            run_query(connection, book.queries[query], as_of)
        except duckdb.Error as error:
            raise MedlakeError("E403", rule_id=query, table=table, detail=_plain(error)) from error
    nothing(connection)
    made = Evaluated(book, as_of, flags, prepared.rows)
    for table in prepared.rows:
        try:
            connection.execute(sql.flags_sql(book, table, as_of, flags, prepared.present))
            failed = _count(connection, book, table, flags)
        except duckdb.Error as error:
            raise MedlakeError("E403", rule_id=table, table=table, detail=_plain(error)) from error
        if failed and is_told:
            _find(connection, made, prepared, table, failed)
    connection.execute("DROP TABLE IF EXISTS violation")
    return made


def _plain(error: duckdb.Error) -> str:
    """The kind of a DuckDB error and what it names; a conversion error would quote a record's value."""
    if isinstance(error, duckdb.ConversionException):
        return type(error).__name__
    return str(error).splitlines()[0][:300]
