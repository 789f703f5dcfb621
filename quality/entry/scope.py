"""Which rules can be judged on a record that was just typed in, and what the others wait for.

A rule that looks at one record and its resident is judged at once. One that compares it with the resident's other
records is judged where those are known; one that compares residents, or looks at what was received, waits for the night.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache

from lake.errors import MedlakeError
from quality.rule import PLACEHOLDER, REFERENCE, Query, Rule, RuleBook, Target
from quality.shapes import contract_tables

_WORD = re.compile(r"[a-z][a-z0-9_]*")
#: Columns by which rows of one person are told apart and put together, whatever rules read.
_ALWAYS = frozenset({"org_code", "archive_id", "patient_local_id", "requesting_org_code"})
#: What the resident behind a record is made from (``quality.prepare``).
_OF_ARCHIVE = frozenset({"birth_date", "sex_code", "source_updated_at"})

#: Columns that a record has of its resident's archive.
RESIDENT = frozenset({"birth_date", "sex_code", "empi_id", "person_key"})

#: Why a rule was not judged: (Chinese, English).
REASONS: dict[str, tuple[str, str]] = {
    "other_residents": (
        "需与其他居民的记录比较，由每日质控检查",
        "compares residents: the daily check does it",
    ),
    "as_received": (
        "需看各次收到的版本，由每日质控检查",
        "looks at versions as received: the daily check does it",
    ),
    "resident_rows": ("需要该居民的其他记录", "needs other records of the resident"),
    "resident_unknown": ("需要居民的出生日期或性别", "needs the resident's birth date or sex"),
}


@dataclass(frozen=True)
class Deferred:
    """A rule that is not judged: ``why`` is a key of :data:`REASONS`, ``needs`` the tables that would let it be."""

    rule_id: str
    why: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """``book`` judges one table alone; ``of_resident`` are rules that look at the resident's archive."""

    table: str
    book: RuleBook
    judged: tuple[Rule, ...]
    deferred: tuple[Deferred, ...]
    of_resident: frozenset[str]


def of_table(book: RuleBook, table: str) -> RuleBook:
    """A smaller book: the rules of a table on that table alone; those they need elsewhere keep their place.

    Raises:
        MedlakeError: E440, there is no such table, or no rule judges its records.
    """
    rules = book.of_table(table) if table in contract_tables() else []
    if not rules:
        known = [t for t in book.tables if t in contract_tables()]
        raise MedlakeError("E440", table=table, known=", ".join(known))
    kept = book.only(*(r.id for r in rules)).rules
    here = [replace(r, targets=tuple(t for t in r.targets if t.table == table)) for r in kept]
    return RuleBook(tuple(here), book.queries)


@lru_cache(maxsize=512)
def _is_of_person(table: str) -> bool:
    known = contract_tables().get(table)
    return known is not None and bool({"archive_id", "patient_local_id"} & set(known.silver_columns))


def needs_of(query: Query) -> tuple[str, tuple[str, ...]]:
    """Why a set query waits ('' if the resident's own rows suffice), and the tables whose rows it looks at."""
    reads = [t for t in query.reads if t not in REFERENCE]
    if any(t.startswith("bronze_") for t in reads):
        return "as_received", ()
    if query.scope != "person" or not all(_is_of_person(t) for t in reads):
        return "other_residents", ()
    return "", tuple(reads)


def person_tables(book: RuleBook, table: str) -> frozenset[str]:
    """Tables whose rows of the same resident let more rules of a table be judged."""
    found: set[str] = set()
    for rule in book.of_table(table):
        query = rule.target(table).query
        if query and not needs_of(book.queries[query])[0]:
            found |= set(needs_of(book.queries[query])[1])
    return frozenset(found)


def columns_read(book: RuleBook, table: str, other: str) -> frozenset[str]:
    """Columns of another table (or of the same table's other rows) that judging a record of ``table`` reads.

    Those that set queries over it name, or that rules name as a query's (it may hand on all of a row).
    """
    own = {r.target(table).query for r in book.of_table(table)} - {None}
    queries = [book.queries[q] for q in own if q and other in book.queries[q].reads]
    words = {w for q in queries for w in _WORD.findall(q.sql)}
    named = [
        text
        for t in (r.target(table) for r in book.of_table(table))
        if t.query in {q.name for q in queries}
        for text in (
            t.eligibility,
            t.condition,
            t.warn_when or "",
            *t.observed.values(),
            *t.expected.values(),
        )
    ]
    for text in named:
        words |= set(re.findall(r"\w\.([a-z][a-z0-9_]*)", text))
    contract = contract_tables()[other]
    always = _ALWAYS | set(contract.key) | (_OF_ARCHIVE if other == "ph_archive" else set())
    return frozenset((words | always) & set(contract.silver_columns))


def _silent(rule: Rule) -> Rule:
    """The rule as one that is not evaluated: its flag is NULL, so it holds nobody back."""
    off = {"query": None, "eligibility": "false", "condition": "false", "warn_when": None}
    return replace(rule, targets=tuple(replace(t, observed={}, expected={}, **off) for t in rule.targets))  # type: ignore[arg-type]


def _looks_at_resident(target: Target, own: Collection[str]) -> bool:
    words = set(PLACEHOLDER.sub("", f"{target.eligibility} {target.condition}").replace("(", " ").replace(")", " ")
                .replace(",", " ").split())  # fmt: skip
    return bool(words & (RESIDENT - set(own)))


def scope(book: RuleBook, table: str, known: frozenset[str]) -> Scope:
    """What can be judged where the resident's rows of the ``known`` tables are at hand.

    Raises:
        MedlakeError: E440.
    """
    small = of_table(book, table)
    own = contract_tables()[table].silver_columns
    rules: list[Rule] = []
    deferred: list[Deferred] = []
    of_resident = set()
    here = {r.id for r in small.of_table(table)}
    for rule in small.rules:
        query = rule.target(table).query if rule.id in here else None
        if query is None:
            rules.append(rule)
            if rule.id in here and _looks_at_resident(rule.target(table), own):
                of_resident.add(rule.id)
            continue
        why, needs = needs_of(small.queries[query])
        missing = tuple(t for t in needs if t not in known)
        if why or missing:
            deferred.append(Deferred(rule.id, why or "resident_rows", missing))
            rules.append(_silent(rule))
        else:
            rules.append(rule)
    made = RuleBook(tuple(rules), small.queries)
    waiting = {d.rule_id for d in deferred}
    judged = tuple(r for r in made.of_table(table) if r.id not in waiting)
    return Scope(table, made, judged, tuple(deferred), frozenset(of_resident))
