"""A rule's examples are its tests: each runs through the real engine on a few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from lake.contracts import table_contract
from quality.compile import name
from quality.engine import evaluate
from quality.rule import Rule, RuleBook

#: The date being processed in an example that names none.
EXAMPLE_AS_OF = date(2026, 11, 20)

_SERVICE_DATE = "2026-05-04"
_IDENTIFIER = {"source_system": "public_health", "identifier_type": "MR"}
_RESIDENT = ("birth_date", "sex_code")


@dataclass(frozen=True)
class Outcome:
    """``flag`` 0, 1 or None; the message and severity of a violation."""

    flag: int | None
    severity: str = ""
    message_zh: str = ""


def _rows(example: Mapping[str, Any], table: str) -> dict[str, list[dict[str, Any]]]:
    """Complete rows by table; a bare ``row`` brings its resident along."""
    given = {
        t: [dict(r) for r in rows] for t, rows in example.get("rows", {table: [example.get("row")]}).items()
    }
    columns = table_contract(table).silver_columns
    if "row" in example and "archive_id" in columns and table != "ph_archive":
        row = given[table][0]
        given["ph_archive"] = [{c: row.pop(c) for c in _RESIDENT if c in row and c not in columns}]
    for other, rows in given.items():
        if other == "person_identifier":
            given[other] = [{**_IDENTIFIER, **r} for r in rows]
            continue
        contract = table_contract(other)
        base: dict[str, Any] = {"org_code": "C201", "source_file": f"{other}.csv"}
        base |= {k: f"{k.split('_')[0].upper()}1" for k in contract.key}
        base |= {f.name: _SERVICE_DATE for f in contract.fields if f.required and f.type == "date"}
        if "archive_id" in contract.silver_columns:
            base["archive_id"] = "A1"
        given[other] = [{**base, "source_line": line, **r} for line, r in enumerate(rows, start=2)]
    return given


def _load(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, list[dict[str, Any]]]) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS silver")
    for table, rows in tables.items():
        if table == "person_identifier":
            kinds = dict.fromkeys(
                ("empi_id", "source_system", "org_code", "identifier_type", "identifier_value"), "VARCHAR"
            ) | {"valid_to": "DATE"}
        else:
            kinds = table_contract(table).silver_columns
        columns = ", ".join(f"{name(c)} {kind}" for c, kind in kinds.items())
        connection.execute(f"CREATE TABLE silver.{name(table)} ({columns})")
        for row in rows:  # a handful of example rows
            connection.execute(
                f"INSERT INTO silver.{name(table)} ({', '.join(map(name, row))}) "
                f"VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )


def run(book: RuleBook, rule: Rule, example: Mapping[str, Any]) -> Outcome:
    """Judge one example.

    Raises:
        MedlakeError: E403, the rule's SQL does not run.
        LookupError: the example has no record with the key that it names.
    """
    table = example.get("table", rule.table)
    rows = _rows(example, table)
    as_of = date.fromisoformat(example["as_of"]) if "as_of" in example else EXAMPLE_AS_OF
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA flags")
        _load(connection, rows)
        evaluate(connection, book.only(rule.id), as_of)
        key = table_contract(table).key
        at = example.get("at") or "|".join(str(rows[table][-1][k]) for k in key)
        judged = connection.execute(
            f"SELECT {name(rule.id)} FROM flags.{name(table)} WHERE record_key = ?", [at]
        ).fetchone()
        if judged is None:
            raise LookupError(f"{rule.id}: the example has no record {at} in {table}")
        found = connection.execute(
            "SELECT severity, message_zh FROM finding_now WHERE rule_id = ? AND table_name = ? AND record_key = ?",
            [rule.id, table, at],
        ).fetchone()
    return Outcome(judged[0], *(found or ()))
