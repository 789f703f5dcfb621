"""What a rule's verdicts follow from besides the records: the text that it compiles to, on a day.

Two days of the same text say the same of the same record. A changed rule or parameter changes it, and so does a rule that
looks at the date being processed: its text names the day. Nothing is declared, so nothing can be declared wrongly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import date
from functools import lru_cache
from pathlib import Path

from lake.settings import settings
from quality import compile as sql
from quality.incremental.store import Pair
from quality.rule import REFERENCE, Rule, RuleBook, Target
from quality.shapes import derived, shape

_HERE = Path(__file__).parents[1]
#: What prepares, compiles and evaluates: with another of these everything is evaluated anew.
_ENGINE = (
    "engine.py",
    "compile.py",
    "prepare.py",
    "builders.py",
    "shapes.py",
    "given.py",
    "macros.sql",
    "derived.yaml",
)


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(str(len(data)).encode() + b":" + data)
    return found.hexdigest()


@lru_cache(maxsize=4)
def _engine(seeds: Path) -> str:
    files = [
        *(_HERE / name for name in _ENGINE),
        *sorted((_HERE / "reference").glob("*.csv")),
        *sorted(seeds.rglob("*.csv")),
    ]
    return _digest(*(path.read_bytes() for path in files))


def engine() -> str:
    """The engine that evaluates here: its code, its macros, its code lists and reference values."""
    return _engine(settings().seeds_dir)


def reads_of(book: RuleBook, target: Target) -> set[str]:
    """Every table that a rule's verdict on a table looks at, reference values aside."""
    todo, found = {target.table, *(book.queries[target.query].reads if target.query else ())}, set[str]()
    while todo:
        found.add(table := todo.pop())
        todo |= set(derived()[table].reads if table in derived() else ()) - found
    return found - set(REFERENCE)


def _table(table: str, as_of: date) -> str:
    """How a table is made: one that a function builds is made for its day."""
    made = shape(table)
    text = sql.bind(made.sql, {}, as_of) + (f"{made.builder} {as_of}" if made.builder else "")
    return repr((made.name, made.key, sorted(made.columns.items()), text))


def _own(book: RuleBook, rule: Rule, target: Target, as_of: date, present: Collection[str]) -> str:
    query = sql.query_sql(book.queries[target.query], as_of) if target.query else ""
    return _digest(
        sql.flag_sql(book, rule, target.table, as_of, present),
        query,
        sql.object_sql(target.observed, rule, target, as_of),
        sql.object_sql(target.expected, rule, target, as_of),
        sql.message_sql(rule, target, as_of),
        sql.soft_sql(rule, target, as_of),
        repr((rule.version, rule.domain, rule.category, rule.severity, rule.remedy_zh, rule.observing(as_of),
              target.fields, sorted(target.products.items()))),
        *(_table(t, as_of) for t in sorted(reads_of(book, target))),
    )  # fmt: skip


def signatures(book: RuleBook, as_of: date, present: Collection[str]) -> dict[Pair, str]:
    """The signature of each rule on each table it judges, with those of the rules that it needs there.

    Args:
        present: tables of the book that the lake has.
    """
    own = {
        (rule.id, target.table): _own(book, rule, target, as_of, present)
        for rule in book.rules
        for target in rule.targets
    }
    return {
        (rule.id, target.table): _digest(
            own[rule.id, target.table],
            *(own[n.id, target.table] for n in book.prerequisites(rule, target.table)),
        )
        for rule in book.rules
        for target in rule.targets
    }
