"""From a rule's SQL to a small expression that a node evaluates without a database engine.

Rules are read as data files (``quality/rules/*.yaml``); of them the ones on one record are taken whose SQL uses
nothing but what ``entry_eval`` knows. What cannot be taken along is counted, and the centre judges it later.

An expression is JSON: a list whose first element names the operation, such as ``["<", ["col", "sbp_mmhg"], ["lit", 140]]``.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlglot
import yaml
from sqlglot import exp

from ingestion.edge.entry_eval import FUNCTIONS
from lake.contracts import contracts
from lake.settings import PROJECT_ROOT

Expression = list[Any]
RULES_DIR = PROJECT_ROOT / "quality" / "rules"

#: For so long after its introduction a rule only warns (the centre's ``quality.rule.OBSERVATION_DAYS``).
_OBSERVED = timedelta(days=30)

_BINARY: dict[Any, str] = {
    exp.And: "and", exp.Or: "or", exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.Pow: "**",
}  # fmt: skip


class NotPortable(Exception):
    """The expression uses something that a node does not know."""


def compiled(sql: str) -> Expression:
    """Raises NotPortable."""
    try:
        return _of(sqlglot.parse_one(sql, dialect="duckdb"))
    except sqlglot.errors.ParseError as error:
        raise NotPortable(str(error)) from error


def _of(node: Any) -> Expression:
    for kind, name in _BINARY.items():
        if type(node) is kind:
            return [name, _of(node.left), _of(node.right)]
    if isinstance(node, exp.Paren):
        return _of(node.this)
    if isinstance(node, exp.Not):
        return ["not", _of(node.this)]
    if isinstance(node, exp.Neg):
        return ["-", ["lit", 0], _of(node.this)]
    if isinstance(node, exp.Null):
        return ["lit", None]
    if isinstance(node, exp.Boolean):
        return ["lit", bool(node.this)]
    if isinstance(node, exp.Literal):
        return ["lit", node.this if node.is_string else float(node.this)]
    if isinstance(node, exp.Column) and not node.table:
        return ["col", node.name]
    if isinstance(node, exp.Placeholder):
        return ["as_of"] if node.name == "as_of" else ["param", node.name]
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return ["is_null", _of(node.this)]
    if isinstance(node, exp.Between):
        return [
            "and",
            [">=", _of(node.this), _of(node.args["low"])],
            ["<=", _of(node.this), _of(node.args["high"])],
        ]
    if isinstance(node, exp.In) and node.expressions:
        return ["in", _of(node.this), *(_of(e) for e in node.expressions)]
    if isinstance(node, exp.Case):
        subject = _of(node.this) if node.this is not None else None
        tests = [_of(i.this) if subject is None else ["=", subject, _of(i.this)] for i in node.args["ifs"]]
        arms = [[test, _of(i.args["true"])] for test, i in zip(tests, node.args["ifs"], strict=True)]
        default = node.args.get("default")
        return ["case", arms, _of(default) if default is not None else ["lit", None]]
    return _function(node)


def _function(node: Any) -> Expression:
    if isinstance(node, exp.Anonymous):
        name, arguments = node.name.lower(), list(node.expressions)
    elif isinstance(node, exp.Func):
        name = node.sql_name().lower()
        arguments = [
            a
            for v in node.args.values()
            for a in (v if isinstance(v, list) else [v])
            if isinstance(a, exp.Expression)
        ]
    else:
        raise NotPortable(type(node).__name__)
    name = {"regexp_like": "regexp_matches", "power": "**", "pow": "**"}.get(name, name)
    if name == "**" and len(arguments) == 2:
        return ["**", *(_of(a) for a in arguments)]
    if name not in FUNCTIONS:
        raise NotPortable(name)
    return ["fn", name, *(_of(a) for a in arguments)]


def _steps(params: dict[str, Any]) -> dict[str, list[list[Any]]]:
    return {n: sorted([str(s["valid_from"]), s["value"]] for s in steps) for n, steps in params.items()}


def _target(rule: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A rule on one of its tables."""
    merged = {**rule, **own}
    said = {**(merged.get("expected") or {}), **(merged.get("observed") or {})}
    named = {k: compiled(str(sql)) for k, sql in said.items()}
    return {
        "id": rule["id"],
        "version": rule["version"],
        "table": merged["table"],
        "severity": rule["severity"],
        "observe_until": str(date.fromisoformat(str(rule["introduced_on"])) + _OBSERVED),
        "title_zh": rule["title_zh"],
        "message_zh": merged["message_zh"],
        "remedy_zh": rule["remedy_zh"],
        "fields": merged["fields"],
        "dated_by": merged.get("dated_by"),
        "params": _steps(rule.get("params") or {}),
        "eligibility": compiled(str(merged["eligibility"])),
        "condition": compiled(str(merged["condition"])),
        "warn_when": compiled(str(merged["warn_when"])) if merged.get("warn_when") else ["lit", False],
        "named": named,
    }


@lru_cache(maxsize=1)
def entry_rules(folder: Path = RULES_DIR) -> tuple[list[dict[str, Any]], list[str]]:
    """The rules a node can check at entry, and the ids of rules on one record that it cannot.

    A rule on a table that the platform derives is neither: nobody enters its rows.
    """
    entered = {table for feed in contracts().values() for table in feed.tables}
    found: list[dict[str, Any]] = []
    left: list[str] = []
    files = [yaml.safe_load(p.read_text("utf-8")) for p in sorted(folder.glob("*.yaml"))]
    rules = {r["id"]: r for f in files for r in f["rules"]}
    for rule in rules.values():
        if rule["kind"] != "row":
            continue
        try:
            needs = _needs(rules, rule["id"])
            targets = ({**rule, **own} for own in ({}, *rule.get("also", [])))
            found += [_target(rule, t) | {"needs": needs} for t in targets if t["table"] in entered]
        except NotPortable:
            left.append(rule["id"])
    return found, left


def _needs(rules: dict[str, dict[str, Any]], rule_id: str) -> list[str]:
    """Rules that must not have failed on a record, directly or through others."""
    todo, found = list(rules[rule_id].get("needs", [])), list[str]()
    while todo:
        if (current := todo.pop(0)) not in found:
            found.append(current)
            todo += rules[current].get("needs", [])
    return found
