"""The rules of one table as of one day, planned once and asked often: one small in-memory database each.

Everything is the batch's: ``quality.prepare`` makes the tables (on empty ones, while its statements are written down),
``quality.compile`` the flags and texts. A question is one transaction that is rolled back: records are put in, the
written-down statements fill what rules see, flags are read, texts of violated rules alone are made, and nothing stays.

Plans are made without the optimizer: with a handful of rows its work is most of the time (measured: five times).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from quality import compile as sql
from quality.compile import name, text
from quality.entry.scope import Scope, columns_read
from quality.prepare import prepare
from quality.rule import REFERENCE, Rule
from quality.shapes import shape

_MAKES = re.compile(r"\s*CREATE OR REPLACE TEMP (?:TABLE|VIEW) (\"?\w+\"?) AS\s", re.ASCII)
IDENTITY = {
    **dict.fromkeys(
        ("empi_id", "source_system", "org_code", "identifier_type", "identifier_value"), "VARCHAR"
    ),
    "valid_to": "DATE",
}


@dataclass(frozen=True)
class Violation:
    """A rule that a record breaks. ``line`` counts records of the question from 1."""

    line: int
    rule: Rule
    severity: str
    observed: dict[str, Any]
    expected: dict[str, Any]
    message_zh: str


@dataclass(frozen=True)
class Judged:
    """Per record (line) the flags by rule: 0, 1 or None; and the violations."""

    flags: dict[int, dict[str, int | None]]
    violations: list[Violation]


class Written:
    """A connection that writes down what is made from silver, and makes it as tables that can be filled again."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.made: list[tuple[str, str]] = []

    def execute(self, query: str, *values: Any) -> duckdb.DuckDBPyConnection:
        if (found := _MAKES.match(query)) and found[1].strip('"') not in REFERENCE:
            self.made.append((found[1], query[found.end() :]))
            query = f"CREATE OR REPLACE TEMP TABLE {found[1]} AS {query[found.end() :]}"
        return self._connection.execute(query, *values)


class Statement:
    """Rules of a table as of a day, ready to be asked. One thread at a time; a lock sees to it."""

    def __init__(self, scope: Scope, as_of: date) -> None:
        self.scope, self.as_of = scope, as_of
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._con = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})
        self._con.execute("SET TimeZone = 'UTC'")
        self._con.execute("PRAGMA disable_optimizer")
        self._book, self._table = scope.book, scope.table
        #: Table -> columns that are read of the resident's other rows.
        self.reads = self._reads()
        self._silver = self._make_silver()
        written = Written(self._con)
        prepare(written, self._book, as_of)  # type: ignore[arg-type]
        #: statements in order, each with the table that it fills from rows of the same name alone ('' otherwise)
        self._fills: list[tuple[str, str]] = []
        for number, (target, select) in enumerate(written.made):
            plain = target.strip('"')
            filled = self._plan(f"fill_{number}", f"INSERT INTO {target} {select}")
            self._fills.append((filled, plain if plain in self._silver else ""))
        for query in self._book.queries_of(self._table):
            select = sql.query_sql(self._book.queries[query], as_of)
            select = f"SELECT rid AS q_rid, * EXCLUDE (rid) FROM ({select})"
            self._con.execute(f"CREATE TEMP TABLE q_{query} AS {select}")
            self._fills.append((self._plan(f"ask_{query}", f"INSERT INTO q_{query} {select}"), ""))
        # the records asked about with what set queries say of them, as one table: an expression over a join's outcome
        # costs ten times that of one over a table (measured)
        queries = self._book.queries_of(self._table)
        select = f"SELECT {', '.join(['r.*', *queries])} FROM {sql.joins_sql(self._book, self._table)}"
        self._con.execute(f"CREATE TEMP TABLE asked AS {select}")
        self._plan("fill_asked", f"INSERT INTO asked {select} WHERE r.source_line IS NOT NULL")
        self._fills.append(("fill_asked", ""))
        rules = self._book.of_table(self._table)
        self._ids = [r.id for r in rules]
        flags = ", ".join(sql.flag_sql(self._book, r, self._table, as_of) for r in rules)
        self._plan("flags", f"SELECT r.source_line, {flags} FROM asked AS r")

    def _plan(self, statement: str, query: str) -> str:
        self._con.execute(f"PREPARE {statement} AS {query}")
        return statement

    def _reads(self) -> dict[str, frozenset[str]]:
        looked_at = {t for q in self._book.queries_of(self._table) for t in self._book.queries[q].reads}
        wanted = {t for t in self._book.reads if t not in REFERENCE and not shape(t).is_derived}
        wanted -= {self._table} - looked_at
        made = {t: columns_read(self._book, self._table, t) for t in sorted(wanted)}
        return made | {"person_identifier": frozenset(IDENTITY)}

    def _make_silver(self) -> set[str]:
        self._con.execute("CREATE SCHEMA silver")
        held: dict[str, Mapping[str, str]] = {"person_identifier": IDENTITY}
        for table in self._book.reads:
            if table not in REFERENCE and not shape(table).is_derived:
                held[table] = shape(table).columns
        for table, columns in held.items():
            made = ", ".join(f"{name(c)} {kind}" for c, kind in columns.items())
            self._con.execute(f"CREATE TABLE silver.{name(table)} ({made})")
            # of other tables nothing is read but what rules look at
            put = {c: k for c, k in columns.items() if table == self._table or c in self.reads[table]}
            kinds = text(json.dumps([put]))
            named = ", ".join(f"x.{name(c)} AS {name(c)}" for c in put)
            self._plan(
                f"put_{table}",
                f"INSERT INTO silver.{name(table)} BY NAME SELECT {named} "
                f"FROM (SELECT unnest(from_json($1::VARCHAR, {kinds})) AS x)",
            )
        return set(held)

    def _details(self, rule: Rule) -> str:
        """The prepared statement that tells a rule's violations, made when it is first violated."""
        if rule.id not in self._told:
            target = rule.target(self._table)
            self._plan(
                f"told_{rule.id.replace('-', '_')}",
                f"SELECT r.source_line, {sql.soft_sql(rule, target, self.as_of)}, "
                f"{sql.object_sql(target.observed, rule, target, self.as_of)}, "
                f"{sql.object_sql(target.expected, rule, target, self.as_of)}, "
                f"{sql.message_sql(rule, target, self.as_of)} "
                "FROM asked AS r WHERE list_contains($1::BIGINT[], r.source_line)",
            )
            self._told.add(rule.id)
        return f"told_{rule.id.replace('-', '_')}"

    def _violations(self, failed: Mapping[str, Collection[int]]) -> list[Violation]:
        found = []
        for rule_id, lines in failed.items():
            rule = self._book.rule(rule_id)
            told = self._con.execute(f"EXECUTE {self._details(rule)}({sorted(lines)})").fetchall()
            for line, soft, observed, expected, message in told:
                severity = "warn" if soft else rule.severity
                found.append(
                    Violation(line, rule, severity, json.loads(observed), json.loads(expected), message)
                )
        return sorted(found, key=lambda v: (v.line, v.rule.id))

    def plan_texts(self) -> None:
        """Plan what tells violations, ahead of the first of them."""
        for rule in self.scope.judged:
            self._details(rule)

    def judge(
        self, records: Sequence[Mapping[str, Any]], others: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> Judged:
        """Judge records of the table.

        Args:
            records: JSON values by column (``quality.entry.values``), in the order of their lines.
            others: rows of residents that come along, per table, in such values too.
        """
        given = {t: list(rows) for t, rows in others.items() if rows and t in self._silver}
        lines = [{**r, "source_line": n} for n, r in enumerate(records, start=1)]
        given[self._table] = [*lines, *given.get(self._table, [])]
        with self._lock:
            self._con.execute("BEGIN")
            try:
                for table, rows in given.items():
                    self._con.execute(f"EXECUTE put_{table}({text(json.dumps(rows))})")
                for fill, of in self._fills:
                    if not of or of in given:
                        self._con.execute(f"EXECUTE {fill}")
                flags = {
                    row[0]: dict(zip(self._ids, row[1:], strict=True))
                    for row in self._con.execute("EXECUTE flags").fetchall()
                }
                failed: dict[str, list[int]] = {}
                for line, of_record in flags.items():
                    for rule_id in (r for r, flag in of_record.items() if flag == 1):
                        failed.setdefault(rule_id, []).append(line)
                return Judged(flags, self._violations(failed))
            finally:
                self._con.execute("ROLLBACK")

    def close(self) -> None:
        self._con.close()
