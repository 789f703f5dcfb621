"""What the schema of rule files cannot see: names of tables, columns, products, parameters and rules that do not exist."""

from __future__ import annotations

from collections.abc import Mapping

from lake import registry
from quality.rule.model import PLACEHOLDER, REFERENCE, RuleBook, Target
from quality.shapes import known_tables


def _texts(target: Target) -> list[str]:
    optional = [target.warn_when] if target.warn_when else []
    shown = [*target.observed.values(), *target.expected.values()]
    return [target.eligibility, target.condition, *optional, *shown]


def problems_of(book: RuleBook, files: Mapping[str, str]) -> list[tuple[str, str, str]]:
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
