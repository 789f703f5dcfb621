"""What of the rule book must look at every record again, what only at records near a change, and what at none.

- *still*: same text, and nothing that it looks at changed: its counts and findings stand.
- *narrow*: same text, and its verdict on a record follows from that record, or from the records of its person: only
  changed records, and those of the persons concerned, are judged again.
- *full*: another text (a rule or parameter changed, or the rule looks at the date), or a verdict that follows from records
  which no text tells apart: every record is judged again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from quality.incremental import apart
from quality.incremental.signature import reads_of
from quality.incremental.store import Pair
from quality.rule import Rule, RuleBook, Target
from quality.shapes import contract_tables

_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """The rules on their tables (``Pair``) by what they need. ``by_person``: those of ``narrow`` that look at the other
    records of a person; ``whole``: unchanged tables of no person that these look at, and must find whole."""

    still: frozenset[Pair]
    narrow: frozenset[Pair]
    full: frozenset[Pair]
    by_person: frozenset[Pair]
    whole: frozenset[str]


def has_subquery(target: Target) -> bool:
    """Whether an expression of the rule itself looks at a table."""
    texts = [
        target.eligibility,
        target.condition,
        target.warn_when or "",
        *target.observed.values(),
        *target.expected.values(),
    ]
    return any(_SELECT.search(text) for text in texts)


def _involved(book: RuleBook, rule: Rule, target: Target) -> list[Target]:
    """The rule on a table, and what it needs there."""
    return [target, *(n.target(target.table) for n in book.prerequisites(rule, target.table))]


def plan(
    book: RuleBook,
    before: Mapping[Pair, str],
    now: Mapping[Pair, str],
    count: Callable[[str], int | None],
    persons_changed: bool | None,
) -> Plan:
    """Sort the book.

    Args:
        before: signatures of the check before.
        now: those of this one.
        count: changed records of a contract's table; None where they cannot be told.
        persons_changed: whether the health archive or the index changed for any record; None: cannot be told.
    """
    known = set(contract_tables())
    still, narrow, full, by_person = set[Pair](), set[Pair](), set[Pair](), set[Pair]()
    whole = set[str]()
    for rule in book.rules:
        for target in rule.targets:
            pair = (rule.id, target.table)
            involved = _involved(book, rule, target)
            reads = set().union(*(reads_of(book, t) for t in involved))
            if before.get(pair) != now[pair] or not reads <= known or any(has_subquery(t) for t in involved):
                full.add(pair)
                continue
            counts = [count(t) for t in sorted(reads)]
            queries = {t.query for t in involved if t.query}
            if None in counts or persons_changed is None:
                full.add(pair)
            elif not queries:
                narrow.add(pair)
            elif not any(counts) and not persons_changed:
                still.add(pair)
            elif all(apart.by_person(book.queries[q], free := _unchanged(reads, count)) for q in queries):
                narrow.add(pair)
                by_person.add(pair)
                whole |= free
            else:
                full.add(pair)
    return Plan(frozenset(still), frozenset(narrow), frozenset(full), frozenset(by_person), frozenset(whole))


def _unchanged(reads: set[str], count: Callable[[str], int | None]) -> frozenset[str]:
    """Tables of no person, such as the staff, that did not change: the same for everybody."""
    known = contract_tables()
    return frozenset(
        t
        for t in reads
        if not {"archive_id", "patient_local_id"} & set(known[t].silver_columns) and count(t) == 0
    )


def book_of(book: RuleBook, pairs: frozenset[Pair]) -> RuleBook:
    """The book that judges these pairs, with what they need on the same tables."""
    wanted = set(pairs)
    for rule in book.rules:
        for target in rule.targets:
            if (rule.id, target.table) in pairs:
                wanted |= {(n.id, target.table) for n in book.prerequisites(rule, target.table)}
    kept = []
    for rule in book.rules:
        targets = tuple(t for t in rule.targets if (rule.id, t.table) in wanted)
        if targets:
            kept.append(replace(rule, targets=targets))
    # a rule that is needed, but judges none of these tables, must still be found by its id
    found = {r.id for r in kept}
    todo = [n for r in kept for n in r.needs]
    while todo:
        if (needed := todo.pop()) not in found:
            found.add(needed)
            kept.append(replace(book.rule(needed), targets=()))
            todo += book.rule(needed).needs
    return RuleBook(tuple(kept), book.queries)
