"""Entry-time checks of one process: what a request says, which residents' rows it may use, and the answer.

Statements are planned at their first use by a thread and kept (the newest :data:`KEPT` of them): a day's checks of a
table find theirs ready. Values of records are in memory for the time of a request and nowhere else.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from lake.contracts import TableContract
from lake.errors import MedlakeError
from quality.entry import values
from quality.entry.residents import Residents, Rows
from quality.entry.scope import REASONS, Deferred, Scope, columns_read, person_tables, scope
from quality.entry.statement import Judged, Statement, Violation
from quality.rule import RuleBook, rulebook
from quality.shapes import contract_tables

#: Records of one request.
MOST_RECORDS = 1000
#: Rows that may come along with a request.
MOST_ROWS = 5000
#: Statements that a thread keeps; each takes 4-5 MB and some 50 ms to plan (measured).
KEPT = 40


class Refused(MedlakeError):
    """E442 with the single problems: record, field, texts in both languages."""

    def __init__(self, problems: list[values.Problem]) -> None:
        super().__init__("E442", count=len(problems))
        self.problems = problems


@dataclass(frozen=True)
class Asked:
    """A request that was read: typed records, and rows of the same residents that came along."""

    table: TableContract
    records: list[dict[str, Any]]
    context: dict[str, list[dict[str, Any]]]


def _records(node: Any) -> tuple[list[Any], Mapping[str, Any]]:
    context: Mapping[str, Any] = {}
    if isinstance(node, dict) and "records" in node:
        if unknown := sorted(set(node) - {"records", "context"}):
            raise MedlakeError("E441", detail=f"keys: {len(unknown)}")
        context = node.get("context", {})
        node = node["records"]
    elif isinstance(node, dict):
        node = [node]
    if not isinstance(node, list) or not node or not all(isinstance(r, dict) for r in node):
        raise MedlakeError("E441", detail="records")
    if not isinstance(context, dict) or not all(
        isinstance(rows, list) and all(isinstance(r, dict) for r in rows) for rows in context.values()
    ):
        raise MedlakeError("E441", detail="context")
    if len(node) > MOST_RECORDS or sum(map(len, context.values())) > MOST_ROWS:
        raise MedlakeError("E441", detail=f"≤ {MOST_RECORDS:,} records, ≤ {MOST_ROWS:,} rows of context")
    return node, context


def read(table: str, node: Any, org_code: str) -> Asked:
    """A request's JSON: one record, a list, or ``{"records": [...], "context": {table: [rows]}}``.

    Raises:
        MedlakeError: E440 no such table; E441 another shape.
        Refused: E442, values or names that the contract does not have.
    """
    known = contract_tables()
    if table not in known:
        raise MedlakeError("E440", table="?", known=", ".join(t for t in rulebook().tables if t in known))
    given, along = _records(node)
    problems: list[values.Problem] = []
    records, context = [], {}
    for number, one in enumerate(given):
        row, wrong = values.typed(known[table], one, org_code, number)
        records.append(row)
        problems += wrong
    for other, rows in along.items():
        contract = known.get(other)
        if contract is None or "archive_id" not in contract.silver_columns:
            shown = other if contract else "?"
            problems.append(
                values.problem(None, f"context.{shown}", "不是居民健康档案的表", "is no table of an archive")
            )
            continue
        made = []
        for place, one in enumerate(rows):
            row, wrong = values.typed(contract, one, org_code, None, f"context.{other}[{place}].")
            made.append(row | {"org_code": str(one.get("org_code") or org_code)})
            problems += wrong
        context[other] = made
    if problems:
        raise Refused(problems)
    return Asked(known[table], records, context)


def _blocks(violation: Violation, as_of: date) -> str:
    """``save``: must be mended first; ``reason``: may be saved with a reason; ``none``: is told."""
    if violation.severity == "info" or violation.rule.observing(as_of):
        return "none"
    return "save" if violation.severity == "error" else "reason"


def _told(violation: Violation, table: TableContract, as_of: date) -> dict[str, Any]:
    rule = violation.rule
    target = rule.target(table.name)
    labels = {f.name: f.label_zh for f in table.fields}
    return {
        "rule_id": rule.id,
        "version": rule.version,
        "title_zh": rule.title_zh,
        "severity": violation.severity,
        "blocks": _blocks(violation, as_of),
        "observing": rule.observing(as_of),
        "fields": [{"name": f, "label_zh": labels.get(f, f)} for f in target.fields],
        "observed": violation.observed,
        "expected": violation.expected,
        "message_zh": violation.message_zh,
        "remedy_zh": rule.remedy_zh,
    }


def _waiting(deferred: Sequence[Deferred]) -> list[dict[str, Any]]:
    return [
        {
            "rule_id": d.rule_id,
            "why": d.why,
            "zh": REASONS[d.why][0],
            "en": REASONS[d.why][1],
            "needs": list(d.needs),
        }
        for d in deferred
    ]


class _Own(threading.local):
    """What a thread keeps: its statements and its connection to the residents' store."""

    def __init__(self) -> None:
        self.residents = Residents()
        self.book: RuleBook | None = None
        self.statements: OrderedDict[tuple[Any, ...], Statement] = OrderedDict()
        self.reads: dict[str, dict[str, frozenset[str]]] = {}

    def follow(self, book: RuleBook) -> RuleBook:
        """The rules to judge by; what was planned for others is let go."""
        if self.book is not book:
            for statement in self.statements.values():
                statement.close()
            self.book, self.reads = book, {}
            self.statements.clear()
        return book

    def looked_up(self, table: str) -> frozenset[str]:
        """Tables that the store can answer for, where a record of ``table`` is judged."""
        if self.book is not None and table not in self.reads:
            others = {"ph_archive", *person_tables(self.book, table)}
            self.reads[table] = {t: columns_read(self.book, table, t) for t in others}
        return self.residents.has(self.reads.get(table, {}))


class Checker:
    """Answers checks; as many threads as like may call it, each has statements of its own."""

    def __init__(self, book: RuleBook | None = None) -> None:
        self._book = book
        self._own = _Own()

    def statement(self, table: str, known: frozenset[str], as_of: date) -> Statement:
        """The planned rules of a table where rows of ``known`` tables are at hand."""
        book = self._own.follow(self._book or rulebook())
        relevant = known & person_tables(book, table)
        key = (table, relevant, as_of)
        kept = self._own.statements
        if key not in kept:
            kept[key] = Statement(scope(book, table, relevant), as_of)
            while len(kept) > KEPT:
                kept.popitem(last=False)[1].close()
        kept.move_to_end(key)
        return kept[key]

    def warm(self, tables: Sequence[str], as_of: date) -> None:
        """Plan the rules of tables ahead of the first request of this thread."""
        is_open = self._own.residents.open()
        for table in tables:
            self.statement(table, frozenset(), as_of).plan_texts()
            if is_open:
                self.statement(table, self._own.looked_up(table), as_of).plan_texts()

    def check(self, table: str, node: Any, org_code: str, as_of: date) -> dict[str, Any]:
        """Judge the records of a request.

        Args:
            node: the request's JSON.
            org_code: institution that asks; residents whose archive it keeps are looked up, others are not.
            as_of: day on which the records would be saved; no rule reads a clock.

        Returns:
            table, as_of, records (each: ``record`` from 0, ``save`` allowed | with_reason | blocked, ``violations``,
            ``evaluated``, ``not_applicable``, ``not_evaluated`` with why), counts.

        Raises:
            MedlakeError: E440, E441; ``Refused`` E442.
        """
        asked = read(table, node, org_code)
        self._own.follow(self._book or rulebook())
        residents = self._own.residents
        is_open = residents.open()
        persons = residents.persons(asked.records, org_code) if is_open else [None] * len(asked.records)
        groups: dict[bool, list[int]] = {}
        for place, person in enumerate(persons):
            groups.setdefault(person is not None, []).append(place)
        told: dict[int, dict[str, Any]] = {}
        for is_known, places in groups.items():
            known = frozenset(asked.context) | (self._own.looked_up(table) if is_known else frozenset())
            statement = self.statement(table, known, as_of)
            records = [asked.records[p] for p in places]
            others = self._others(asked, statement, {p for i in places if (p := persons[i])}, records)
            judged = statement.judge(records, others)
            archives = {r["archive_id"] for r in asked.context.get("ph_archive", []) if "archive_id" in r}
            for line, place in enumerate(places, start=1):
                has_resident = is_known or asked.records[place].get("archive_id") in archives
                told[place] = self._answer(
                    place, line, judged, statement.scope, asked.table, has_resident, as_of
                )
        answers = [told[place] for place in range(len(asked.records))]
        return {
            "table": table,
            "as_of": as_of.isoformat(),
            "records": answers,
            "blocked": sum(a["save"] == "blocked" for a in answers),
            "violations": sum(len(a["violations"]) for a in answers),
        }

    def _others(
        self, asked: Asked, statement: Statement, persons: set[str], records: Sequence[Mapping[str, Any]]
    ) -> Rows:
        """Rows that come along: what the request gives, and the residents' own from the store."""
        given = {t: rows for t, rows in asked.context.items() if t in statement.scope.book.reads}
        if not persons:
            return given
        parts = ("org_code", *asked.table.key)
        keys = ["|".join(str(r.get(k, "")) for k in parts) for r in records]
        reads = {t: read for t, read in statement.reads.items() if t not in asked.context}
        return self._own.residents.rows(persons, reads, asked.table.name, keys) | given

    def _answer(
        self,
        place: int,
        line: int,
        judged: Judged,
        made: Scope,
        table: TableContract,
        has_resident: bool,
        as_of: date,
    ) -> dict[str, Any]:
        flags = judged.flags[line]
        violations = [_told(v, table, as_of) for v in judged.violations if v.line == line]
        unknown = [
            Deferred(r.id, "resident_unknown", ("ph_archive",))
            for r in made.judged
            if flags[r.id] is None and r.id in made.of_resident and not has_resident
        ]
        waiting = (*made.deferred, *unknown)
        left = {d.rule_id for d in waiting}
        blocks = {v["blocks"] for v in violations}
        return {
            "record": place,
            "save": "blocked" if "save" in blocks else "with_reason" if "reason" in blocks else "allowed",
            "violations": violations,
            "evaluated": [r.id for r in made.judged if flags[r.id] is not None],
            "not_applicable": [r.id for r in made.judged if flags[r.id] is None and r.id not in left],
            "not_evaluated": _waiting(waiting),
        }
