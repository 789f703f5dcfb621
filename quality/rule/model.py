"""What a rule book is: rules with their tables, set queries and dated parameters. Nothing here reads a file."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from quality.due.entry import Due
from quality.shapes import derived

#: A rule observes for so many days after its introduction: it shows findings, it excludes nothing.
OBSERVATION_DAYS = 30

#: Code lists and reference values that set queries may read besides silver (``quality/reference``, dbt's seeds).
REFERENCE = (
    "dim_org", "dim_region", "growth_who", "immunization_plan", "notifiable_icd10", "pregnancy_drug",
    "icd10_person", "drug_dose_max", "lab_interval", "lab_possible", "vital_possible", "cold_chain_limit",
    "machine_hours", "modality_body_part",
)  # fmt: skip

#: ``:name`` in SQL text, but not ``::type`` and not ``12:30``.
PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class Param:
    """A threshold with its history: ``steps`` are (valid_from, value), oldest first; ``by_org`` those of institutions
    that have their own (institution, steps), which hold from their first date on."""

    name: str
    steps: tuple[tuple[date, float | int], ...]
    by_org: tuple[tuple[str, tuple[tuple[date, float | int], ...]], ...] = ()

    def at(self, day: date) -> float | int | None:
        """The value that holds on a day; None before the first."""
        return next((value for since, value in reversed(self.steps) if since <= day), None)


@dataclass(frozen=True)
class Query:
    """A set query of a domain: one row per ``rid`` of ``table``; a rule names its columns ``<query>.<column>``.

    ``requires`` names tables without which its rules are not evaluated: where a feed is not connected, that something
    is missing from it tells nothing.
    """

    name: str
    table: str
    reads: tuple[str, ...]
    scope: str
    params: Mapping[str, Param]
    sql: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """One table that a rule judges, with the expressions as they read there."""

    table: str
    query: str | None
    dated_by: str | None
    eligibility: str
    condition: str
    warn_when: str | None
    fields: tuple[str, ...]
    observed: Mapping[str, str]
    expected: Mapping[str, str]
    message_zh: str
    products: Mapping[str, str]
    due: Due | None = None


@dataclass(frozen=True)
class Rule:
    """One rule. ``params`` holds its own parameters and those of its queries."""

    id: str
    version: int
    domain: str
    domain_zh: str
    domain_en: str
    title_zh: str
    title_en: str
    category: str
    kind: str
    severity: str
    needs: tuple[str, ...]
    params: Mapping[str, Param]
    remedy_zh: str
    source_standard: str
    verified: str
    owner: str
    introduced_on: date
    tolerance_pct: float
    targets: tuple[Target, ...]
    examples: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def table(self) -> str:
        return self.targets[0].table

    def target(self, table: str) -> Target:
        return next(t for t in self.targets if t.table == table)

    def observing(self, as_of: date) -> bool:
        """Whether the rule is still in its observation window on the date being processed."""
        return as_of < self.introduced_on + timedelta(days=OBSERVATION_DAYS)


@dataclass(frozen=True)
class RuleBook:
    """All rules and their set queries."""

    rules: tuple[Rule, ...]
    queries: Mapping[str, Query]

    def rule(self, rule_id: str) -> Rule:
        return next(r for r in self.rules if r.id == rule_id)

    @property
    def tables(self) -> list[str]:
        """Tables that some rule judges."""
        return sorted({t.table for r in self.rules for t in r.targets})

    @property
    def reads(self) -> list[str]:
        """Tables that must be prepared: those judged, those that set queries read, and what derived ones are made of."""
        todo = {*self.tables, "ph_archive", *(t for q in self.used_queries for t in self.queries[q].reads)}
        found: set[str] = set()
        while todo:
            found.add(table := todo.pop())
            todo |= set(derived()[table].reads if table in derived() else ()) - found
        return sorted(found)

    def evaluable(self, rule: Rule, table: str, present: Collection[str] | None) -> bool:
        """Whether the lake has what the rule requires on a table (``present`` None: it has everything)."""
        query = rule.target(table).query
        return present is None or query is None or set(self.queries[query].requires) <= set(present)

    def queries_of(self, table: str, present: Collection[str] | None = None) -> list[str]:
        """Set queries of the rules that can be evaluated on a table."""
        rules = [r for r in self.of_table(table) if self.evaluable(r, table, present)]
        return sorted({q for r in rules if (q := r.target(table).query)})

    @property
    def used_queries(self) -> list[str]:
        return sorted({t.query for r in self.rules for t in r.targets if t.query})

    def of_table(self, table: str) -> list[Rule]:
        """Rules that judge a table, each after those it needs."""
        here = {r.id: r for r in self.rules if any(t.table == table for t in r.targets)}
        ordered: dict[str, Rule] = {}

        def place(rule: Rule) -> None:
            for needed in rule.needs:
                if needed in here and needed not in ordered:
                    place(here[needed])
            ordered.setdefault(rule.id, rule)

        for rule in here.values():
            place(rule)
        return list(ordered.values())

    def prerequisites(self, rule: Rule, table: str) -> list[Rule]:
        """Rules that must not have failed on a record of the table, directly or through others."""
        todo, found = list(rule.needs), dict[str, Rule]()
        while todo:
            if (current := todo.pop(0)) not in found:
                found[current] = self.rule(current)
                todo += found[current].needs
        return [r for r in found.values() if any(t.table == table for t in r.targets)]

    def only(self, *rule_ids: str) -> RuleBook:
        """A smaller book: the named rules and, transitively, those they need."""
        wanted: set[str] = set()
        todo = list(rule_ids)
        while todo:
            if (current := todo.pop()) not in wanted:
                wanted.add(current)
                todo += self.rule(current).needs
        return RuleBook(tuple(r for r in self.rules if r.id in wanted), self.queries)
