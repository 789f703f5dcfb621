"""From YAML to entries of the rule book: files as they are read, and one rule, target or parameter out of its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from lake.errors import MedlakeError
from quality.due.entry import Due
from quality.rule.model import Param, Query, Rule, Target

RULES_DIR = Path(__file__).parents[1] / "rules"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without dates: a date stays the text that the schema checks."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in Loader.yaml_implicit_resolvers.items()
}


def _steps(node: Sequence[Mapping[str, Any]]) -> tuple[tuple[date, float | int], ...]:
    return tuple(sorted((date.fromisoformat(s["valid_from"]), s["value"]) for s in node))


def params_of(
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


def rule_of(book: Mapping[str, Any], node: Mapping[str, Any], queries: dict[str, Query]) -> Rule:
    if "each" in node:
        from quality.generic import expand

        made = expand(node, params_of(node.get("params")))
        targets = tuple(_target(node, other) for other, _ in made)
        queries |= {query.name: query for _, query in made if query}
    else:
        targets = tuple(_target(node, other) for other in ({}, *node.get("also", [])))
    params = params_of(node.get("params"), node.get("org_params"))
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


def read(directory: Path = RULES_DIR) -> dict[str, Any]:
    """The domain files of a directory by name, as YAML says them.

    Raises:
        MedlakeError: E401, one is not YAML.
    """
    nodes: dict[str, Any] = {}
    for path in sorted(directory.glob("*.yaml")):
        try:
            nodes[path.name] = yaml.load(path.read_text("utf-8"), Loader=Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise MedlakeError("E401", place=path.name, detail=str(error).replace("\n", " ")) from error
    return nodes
