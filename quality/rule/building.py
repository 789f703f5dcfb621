"""The rule book out of domain files that hold to their schema and to the contracts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lake.errors import MedlakeError
from quality.rule.checks import problems_of
from quality.rule.model import Query, Rule, RuleBook
from quality.rule.nodes import RULES_DIR, params_of, read, rule_of


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
            params, requires = params_of(query.get("params")), tuple(query.get("requires", ()))
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
        rules += sorted((rule_of(node, r, queries) for r in node["rules"]), key=lambda r: r.id)
    book = RuleBook(tuple(rules), queries)
    for file, rule_id, problem in problems_of(book, files):
        raise MedlakeError("E402", place=file, rule_id=rule_id, detail=problem)
    return book


def load(directory: Path = RULES_DIR) -> RuleBook:
    """Read and check every domain file of a directory.

    Raises:
        MedlakeError: E401 a file is not YAML or breaks the schema; E402 a rule names what does not exist.
    """
    return build(read(directory))
