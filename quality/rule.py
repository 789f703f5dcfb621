"""The rule book: reviewed YAML under ``quality/rules``, checked by its JSON schema and against the contracts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lake import registry
from lake.errors import MedlakeError
from quality.due.entry import Due
from quality.shapes import derived, known_tables

RULES_DIR = Path(__file__).parent / "rules"

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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without dates: a date stays the text that the schema checks."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in _Loader.yaml_implicit_resolvers.items()
}


def _steps(node: Sequence[Mapping[str, Any]]) -> tuple[tuple[date, float | int], ...]:
    return tuple(sorted((date.fromisoformat(s["valid_from"]), s["value"]) for s in node))


def _params(
    node: Mapping[str, Any] | None, by_org: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Param]:
    return {
        name: Param(
            name,
            _steps(steps),
            tuple((org, _steps(own[name])) for org, own in sorted((by_org or {}).items()) if name in own),
        )
        for name, steps in (node or {}).items()
    }


def _target(rule: Mapping[str, Any], other: Mapping[str, Any]) -> Target:
    node = {**rule, **other}
    if other and "condition" in other and "warn_when" not in other:
        node.pop("warn_when", None)  # a softening belongs to its condition
    return Target(
        table=node["table"],
        query=node.get("query"),
        dated_by=node.get("dated_by"),
        eligibility=node["eligibility"],
        condition=node["condition"],
        warn_when=node.get("warn_when"),
        fields=tuple(node["fields"]),
        observed=node["observed"],
        expected=node.get("expected", {}),
        message_zh=node["message_zh"],
        products=node["products"],
        due=Due(**node["due"]) if "due" in node else None,
    )


#: Entries of a rule that are taken as they are.
_COPIED = ("id", "version", "title_zh", "title_en", "category", "kind", "severity", "remedy_zh", "source_standard",
           "verified", "owner", "tolerance_pct")  # fmt: skip


def _rule(book: Mapping[str, Any], node: Mapping[str, Any], queries: dict[str, Query]) -> Rule:
    if "each" in node:
        from quality.generic import expand

        made = expand(node, _params(node.get("params")))
        targets = tuple(_target(node, other) for other, _ in made)
        queries |= {query.name: query for _, query in made if query}
    else:
        targets = tuple(_target(node, other) for other in ({}, *node.get("also", [])))
    params = _params(node.get("params"), node.get("org_params"))
    for query in {t.query for t in targets if t.query}:
        params = {**queries[query].params, **params}
    return Rule(
        **{name: node[name] for name in _COPIED},
        domain=book["domain"],
        domain_zh=book["domain_zh"],
        domain_en=book["domain_en"],
        needs=tuple(node.get("needs", ())),
        params=params,
        introduced_on=date.fromisoformat(node["introduced_on"]),
        targets=targets,
        examples=tuple(node["examples"]),
    )


def _texts(target: Target) -> list[str]:
    optional = [target.warn_when] if target.warn_when else []
    shown = [*target.observed.values(), *target.expected.values()]
    return [target.eligibility, target.condition, *optional, *shown]


def _problems(book: RuleBook, files: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What the schema cannot see, as (file, rule, problem)."""
    found: list[tuple[str, str, str]] = []
    products = {p.product for p in registry.products()}
    tables = known_tables()
    ids = [r.id for r in book.rules]
    for rule in book.rules:
        problems: list[str] = []
        if ids.count(rule.id) > 1:
            problems.append("its id is given twice")
        if not rule.id.startswith(rule.domain + "-"):
            problems.append(f"its id does not begin with {rule.domain}-")
        problems += [f"it needs {n}, which does not exist" for n in rule.needs if n not in ids]
        for target in rule.targets:
            if target.table not in tables:
                problems.append(f"there is no table {target.table}")
                continue
            columns = tables[target.table]
            problems += [f"{target.table} has no column {c}" for c in target.fields if c not in columns]
            problems += [f"there is no data product {p}" for p in target.products if p not in products]
            asked = {name for text in _texts(target) for name in PLACEHOLDER.findall(text)} - {"as_of"}
            problems += [f"parameter :{name} has no value" for name in sorted(asked - set(rule.params))]
            if target.due:
                spoken = " ".join(t for t in (target.due.due_on, target.due.fails_on, target.due.look, target.due.undone,
                                              target.due.what_zh) if t)  # fmt: skip
                own = {n for n in PLACEHOLDER.findall(spoken) if n in rule.params and rule.params[n].by_org}
                problems += [
                    f"parameter :{n} says when something is due: no institution has its own"
                    for n in sorted(own)
                ]
                query = book.queries.get(target.due.query or "")
                more = query.params if query else {}
                problems += target.due.problems(PLACEHOLDER, {*rule.params, *more}, book.queries)
        found += [(files[rule.domain], rule.id, p) for p in problems]
    for query in book.queries.values():
        asked = set(PLACEHOLDER.findall(query.sql)) - {"as_of"}
        found += [("", query.name, f"parameter :{n} has no value") for n in sorted(asked - set(query.params))]
        known = {*tables, *REFERENCE}
        found += [("", query.name, f"there is no table {t}") for t in query.reads if t not in known]
        found += [
            ("", query.name, f"it requires {t}, which it does not read")
            for t in query.requires
            if t not in query.reads
        ]
    return found


def read(directory: Path = RULES_DIR) -> dict[str, Any]:
    """The domain files of a directory by name, as YAML says them.

    Raises:
        MedlakeError: E401, one is not YAML.
    """
    nodes: dict[str, Any] = {}
    for path in sorted(directory.glob("*.yaml")):
        try:
            nodes[path.name] = yaml.load(path.read_text("utf-8"), Loader=_Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MedlakeError("E401", place=path.name, detail=str(error).replace("\n", " ")) from error
    return nodes


def build(nodes: Mapping[str, Any], valid: Mapping[str, Any] | None = None) -> RuleBook:
    """Check domain files and make the book of them.

    Args:
        valid: domain files that held to the schema before; one that is the same object is not held against it again.

    Raises:
        MedlakeError: E401 a file breaks the schema; E402 a rule names what does not exist.
    """
    import jsonschema

    schema = json.loads((RULES_DIR / "rule.schema.json").read_text("utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    rules: list[Rule] = []
    queries: dict[str, Query] = {}
    files: dict[str, str] = {}
    for file, node in nodes.items():
        is_valid = valid is not None and valid.get(file) is node
        if not is_valid and (breach := jsonschema.exceptions.best_match(validator.iter_errors(node))):
            place = f"{file}:{'/'.join(str(p) for p in breach.absolute_path)}"
            raise MedlakeError("E401", place=place, detail=breach.message[:400])
        files[node["domain"]] = file
        for name, query in node.get("queries", {}).items():
            read_tables = tuple(query["reads"])
            params, requires = _params(query.get("params")), tuple(query.get("requires", ()))
            queries[name] = Query(
                name, query["table"], read_tables, query["scope"], params, query["sql"], requires
            )
        known = {
            q
            for r in node["rules"]
            for q in (r.get("query"), *(a.get("query") for a in r.get("also", [])))
            if q
        }
        if unknown := known - set(queries):
            raise MedlakeError(
                "E402", place=file, rule_id="", detail=f"no query {', '.join(sorted(unknown))}"
            )
        for rule in node["rules"]:
            if wrong := {p for own in rule.get("org_params", {}).values() for p in own} - set(
                rule.get("params", {})
            ):
                detail = f"org_params: {', '.join(sorted(wrong))} is no parameter of the rule itself"
                raise MedlakeError("E402", place=file, rule_id=rule["id"], detail=detail)
        rules += sorted((_rule(node, r, queries) for r in node["rules"]), key=lambda r: r.id)
    book = RuleBook(tuple(rules), queries)
    for file, rule_id, problem in _problems(book, files):
        raise MedlakeError("E402", place=file, rule_id=rule_id, detail=problem)
    return book


def load(directory: Path = RULES_DIR) -> RuleBook:
    """Read and check every domain file of a directory.

    Raises:
        MedlakeError: E401 a file is not YAML or breaks the schema; E402 a rule names what does not exist.
    """
    return build(read(directory))


def rulebook() -> RuleBook:
    """The rules of this installation: those that come with Medlake, changed and added to by its stewards."""
    from quality.authoring import overlay

    return _rulebook(*overlay.stamp())


@lru_cache(maxsize=4)
def _rulebook(_folder: str, _changed: int) -> RuleBook:
    from quality.authoring import overlay

    return build(overlay.applied(read()))
