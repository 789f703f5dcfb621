"""A rule's examples are its tests: each runs through the real engine on a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import duckdb

from lake.contracts import table_contract
from quality.compile import name, text
from quality.engine import evaluate
from quality.rule import Rule, RuleBook
from quality.shapes import shape

#: The date being processed in an example that names none.
EXAMPLE_AS_OF = date(2026, 11, 20)

_SERVICE_DATE = "2026-05-04"
_IDENTIFIER = {"source_system": "public_health", "identifier_type": "MR"}
_RESIDENT = ("birth_date", "sex_code")
_ENTRY = dict.fromkeys(
    ("empi_id", "source_system", "org_code", "identifier_type", "identifier_value"), "VARCHAR"
)
#: Tables that are given beside silver, with their columns.
_GIVEN = {
    "person_identifier": {**_ENTRY, "valid_to": "DATE"},
    "delivered": {"org_code": "VARCHAR", "of_table": "VARCHAR", "day_on": "DATE", "records": "BIGINT"},
}


@dataclass(frozen=True)
class Outcome:
    """``flag`` 0, 1 or None; the message and severity of a violation."""

    flag: int | None
    severity: str = ""
    message_zh: str = ""


def _columns(table: str) -> Mapping[str, str]:
    if table in _GIVEN:
        return _GIVEN[table]
    known = shape(table)
    return {**known.columns, "org_code": "VARCHAR"} if known.is_derived else known.columns


def _rows(example: Mapping[str, Any], table: str) -> dict[str, list[dict[str, Any]]]:
    """Complete rows by table; a bare ``row`` brings its resident along."""
    given = {
        t: [dict(r) for r in rows] for t, rows in example.get("rows", {table: [example.get("row")]}).items()
    }
    columns = _columns(table)
    if "row" in example and "archive_id" in columns and table != "ph_archive":
        row = given[table][0]
        given["ph_archive"] = [{c: row.pop(c) for c in _RESIDENT if c in row and c not in columns}]
    for other, rows in given.items():
        if other == "person_identifier":
            given[other] = [{**_IDENTIFIER, **r} for r in rows]
            continue
        if other in _GIVEN or shape(other).is_derived:
            given[other] = [{"org_code": "C201", **r} for r in rows]
            continue
        contract = table_contract(other)
        base: dict[str, Any] = {"org_code": "C201", "source_file": f"{other}.csv", "data_date": _SERVICE_DATE}
        base |= {k: f"{k.split('_')[0].upper()}1" for k in contract.key}
        base |= {f.name: _SERVICE_DATE for f in contract.fields if f.required and f.type == "date"}
        base |= {f.name: 1 for f in contract.fields if f.is_key and f.type == "integer"}
        if "archive_id" in contract.silver_columns:
            base["archive_id"] = "A1"
        given[other] = [{**base, "source_line": line, **r} for line, r in enumerate(rows, start=2)]
    return given


def _load(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    for table, rows in tables.items():
        kinds = _columns(table)
        columns = ", ".join(f"{name(c)} {kind}" for c, kind in kinds.items())
        connection.execute(f"CREATE TABLE silver.{name(table)} ({columns})")
        for row in rows:  # a handful of example rows
            connection.execute(
                f"INSERT INTO silver.{name(table)} ({', '.join(map(name, row))}) "
                f"VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )


@contextmanager
def desk() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database for many examples, one after the other."""
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def run(
    book: RuleBook,
    rule: Rule,
    example: Mapping[str, Any],
    connection: duckdb.DuckDBPyConnection | None = None,
) -> Outcome:
    """Judge one example.

    Raises:
        MedlakeError: E403, the rule's SQL does not run.
        LookupError: the example has no record with the key that it names.
    """
    if connection is None:
        with desk() as own:
            return run(book, rule, example, own)
    table = example.get("table", rule.table)
    rows = _rows(example, table)
    as_of = date.fromisoformat(example["as_of"]) if "as_of" in example else EXAMPLE_AS_OF
    connection = connection.cursor()  # its temporary tables are its own
    connection.execute("SET TimeZone = 'UTC'")
    for schema in ("silver", "flags"):
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.execute(f"CREATE SCHEMA {schema}")
    _load(connection, rows)
    small = _for_table(book.only(rule.id), rule, table)
    evaluated = evaluate(connection, small, as_of)
    if table not in evaluated.rows:  # what the rule requires is not connected
        return Outcome(None)
    key = shape(table).key
    at = example.get("at") or "|".join(str(rows[table][-1][k]) for k in key)
    judged = connection.execute(
        f"SELECT {name(rule.id)} FROM flags.{name(table)} WHERE record_key = {text(at)}"
    ).fetchone()
    if judged is None:
        raise LookupError(f"{rule.id}: the example has no record {at} in {table}")
    found = connection.execute(
        "SELECT severity, message_zh FROM finding_now WHERE rule_id = ? AND table_name = ? AND record_key = ?",
        [rule.id, table, at],
    ).fetchone()
    return Outcome(judged[0], *(found or ()))


def _for_table(book: RuleBook, rule: Rule, table: str) -> RuleBook:
    """The book with a rule that is made for every table on this table alone."""
    if rule.kind != "each":
        return book
    here = replace(rule, targets=(rule.target(table),))
    return replace(book, rules=tuple(here if r.id == rule.id else r for r in book.rules))
