"""A steward's words made into a rule: a file with one rule, or single settings of a rule that there is.

Settings are ``key=value``: ``severity=warn``, ``tolerance_pct=2``, ``products.chronic_disease=show``,
``params.max_daily=50@2027-01-01`` (a value from a day on), ``org.C201.max_daily=60@2027-01-01`` (one institution's own).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import yaml

from lake import registry
from lake.errors import MedlakeError
from quality.authoring import harmless, overlay
from quality.rule import RuleBook, build, read, rulebook

#: What a single setting may change; the rest of a rule is changed by a file.
SETTABLE = ("severity", "category", "title_zh", "title_en", "message_zh", "remedy_zh", "source_standard", "owner",
            "eligibility", "condition", "warn_when", "tolerance_pct", "verified")  # fmt: skip
_DATED = re.compile(r"(?P<value>[^@]+)@(?P<day>\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Draft:
    """A change that holds together: ``file`` is the domain file with the rule (None: retired), ``book`` the rules as
    they would be, ``before`` as they are."""

    action: str
    rule_id: str
    base_version: int
    file: dict[str, Any] | None
    before: RuleBook
    book: RuleBook


def _bad(place: str, detail: str) -> MedlakeError:
    return MedlakeError("E447", place=place, detail=detail)


def _found(nodes: Mapping[str, Any], rule_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The domain file of a rule and the rule in it."""
    for node in nodes.values():
        for rule in node["rules"]:
            if rule["id"] == rule_id:
                return node, rule
    return None


def _scalar(key: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise _bad(key, "a number is wanted / 应为数值") from None


def _step(name: str, key: str, value: str, on: date) -> dict[str, Any]:
    dated = _DATED.fullmatch(value)
    number = _scalar(key, dated["value"] if dated else value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _bad(key, f"{name}: a number is wanted / 应为数值")
    try:
        since = date.fromisoformat(dated["day"]) if dated else on
    except ValueError:
        raise _bad(key, f"{name}: date / 日期") from None
    return {"valid_from": since.isoformat(), "value": number}


def _stepped(steps: Sequence[Mapping[str, Any]], step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps with one more, or with another value from the same day."""
    kept = [dict(s) for s in steps if s["valid_from"] != step["valid_from"]]
    return sorted([*kept, dict(step)], key=lambda s: str(s["valid_from"]))


def with_settings(rule: Mapping[str, Any], settings: Sequence[str], on: date) -> dict[str, Any]:
    """A rule with ``key=value`` settings.

    Raises:
        MedlakeError: E447, with the setting that cannot be taken.
    """
    made = copy.deepcopy(dict(rule))
    for setting in settings:
        key, equal, value = setting.partition("=")
        key, value = key.strip(), value.strip()
        parts = key.split(".")
        if not equal or not value:
            raise _bad(key, "key=value")
        if parts[0] == "params" and len(parts) == 2:
            params = made.setdefault("params", {})
            if parts[1] not in params:
                raise _bad(key, f"parameters of the rule itself / 规则自身参数：{', '.join(params) or '—'}")
            params[parts[1]] = _stepped(params[parts[1]], _step(parts[1], key, value, on))
        elif parts[0] == "org" and len(parts) == 3:
            if parts[1] not in registry.org_codes():
                raise _bad(key, f"institution / 机构 {parts[1]}")
            if parts[2] not in made.get("params", {}):
                raise _bad(
                    key,
                    f"parameters of the rule itself / 规则自身参数：{', '.join(made.get('params', {})) or '—'}",
                )
            own = made.setdefault("org_params", {}).setdefault(parts[1], {})
            own[parts[2]] = _stepped(own.get(parts[2], []), _step(parts[2], key, value, on))
        elif parts[0] == "products" and len(parts) == 2:
            made["products"] = {**made["products"], parts[1]: value}
        elif key in SETTABLE:
            made[key] = _scalar(key, value) if key == "tolerance_pct" else value
        else:
            raise _bad(key, f"{', '.join(SETTABLE)}, params.*, org.*.*, products.*")
    return made


def _one(node: Any, nodes: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A domain file with one rule from what a steward gives: such a file, or the rule alone."""
    if not isinstance(node, dict):
        raise _bad(place, "a mapping / 应为映射")
    if "rules" not in node:
        node = {"domain": str(node.get("id", "")).partition("-")[0], "rules": [node]}
    if (
        not isinstance(node["rules"], list)
        or len(node["rules"]) != 1
        or not isinstance(node["rules"][0], dict)
    ):
        raise _bad(f"{place}:rules", "one rule / 应有一条规则")
    if not isinstance(node.get("domain"), str) or not node["domain"]:
        raise _bad(f"{place}:id", "a rule's id begins with its domain / 规则编号以域开头，如 HTN-001")
    shipped: Mapping[str, Any] = next((n for n in nodes.values() if n["domain"] == node.get("domain")), {})
    node = copy.deepcopy(node)
    named = {k: node.get(k) or shipped.get(k) for k in ("domain", "domain_zh", "domain_en")}
    rest = {k: v for k, v in node.items() if k not in (*named, "defaults")}
    return {k: v for k, v in named.items() if v is not None} | rest


def draft(
    action: str,
    rule_id: str,
    *,
    on: date,
    file: Any = None,
    settings: Sequence[str] = (),
    place: str = "rule.yaml",
) -> Draft:
    """Make a change and hold it against the schema, the contracts, the other rules and its own examples.

    Args:
        action: ``new``, ``change`` or ``retire``.
        on: the day from which it would hold: ``introduced_on``, and of settings without a date.
        file: YAML content (parsed) of a new rule, or of a rule as it shall be.

    Raises:
        MedlakeError: E447 with the place; E401, E402 what the schema and the contracts refuse; E449 no such rule;
            E665 SQL that does more than judge rows.
    """
    nodes = overlay.applied(read())
    before = rulebook()
    present = _found(nodes, rule_id)
    if action == "new":
        made = _one(file, nodes, place)
        rule_id = str(made["rules"][0].get("id", ""))
        if _found(nodes, rule_id) is not None:
            raise _bad(f"{place}:id", f"{rule_id} exists / 已存在")
        version = _last_version(rule_id) + 1
    elif present is None:
        raise MedlakeError("E449", what=rule_id)
    else:
        domain, rule = present
        version = max(int(rule["version"]), _last_version(rule_id)) + 1
        names = {k: domain[k] for k in ("domain", "domain_zh", "domain_en")}
        made = _one(file, nodes, place) if file is not None else {**names, "rules": [rule]}
        if made["rules"][0].get("id") != rule_id:
            raise _bad(f"{place}:id", rule_id)
        made["rules"] = [with_settings(made["rules"][0], settings, on)]
        if action == "change" and file is None and not settings:
            raise _bad("--set", "nothing to change / 没有修改")
    base = int(present[1]["version"]) if present else 0
    if action == "retire":
        return Draft(
            action, rule_id, base, None, before, _built(overlay.lay(nodes, rule_id, None), nodes, place)
        )
    made["rules"][0] |= {"version": version, "introduced_on": on.isoformat()}
    overlap = set(made.get("queries", {})) & {q for n in nodes.values() for q in n.get("queries", {})}
    if action == "new" and overlap:
        raise _bad(f"{place}:queries", f"{', '.join(sorted(overlap))} exists / 已存在")
    book = _built(overlay.lay(nodes, rule_id, made), nodes, place)
    harmless.check(made, place)
    _examples(book, rule_id, place)
    return Draft(action, rule_id, base, made, before, book)


def _last_version(rule_id: str) -> int:
    entry = overlay.held().get(rule_id)
    return int(entry["version"]) if entry else 0


def _built(nodes: Mapping[str, Any], known: Mapping[str, Any], place: str) -> RuleBook:
    try:
        return build(nodes, known)
    except MedlakeError as error:
        raise _bad(error.place or place, error.zh) from error


def _examples(book: RuleBook, rule_id: str, place: str) -> None:
    """A rule's examples are its tests: each must come out as it says."""
    from quality import examples

    rule = book.rule(rule_id)
    # what one institution has of its own is not what the examples are about
    rule = replace(rule, params={n: replace(p, by_org=()) for n, p in rule.params.items()})
    book = replace(book, rules=tuple(rule if r.id == rule_id else r for r in book.rules))
    wanted = {"pass": 0, "fail": 1, "skip": None}
    with examples.desk() as desk:
        for number, example in enumerate(rule.examples):
            try:
                outcome = examples.run(book, rule, example, desk)
            except (LookupError, MedlakeError) as error:
                detail = error.zh if isinstance(error, MedlakeError) else str(error)
                raise _bad(f"{place}:examples/{number}", detail) from error
            if outcome.flag != wanted[example["expect"]]:
                raise _bad(f"{place}:examples/{number}", f"expect {example['expect']} → {outcome.flag}")
