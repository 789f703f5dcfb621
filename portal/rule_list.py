"""The rules of this installation as people read them: a searched list, one rule with its history, what came of it.

Rules hold no resident; counts of findings and tickets follow the institution tree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import select

from lake import contracts, duck, registry, tables
from lake.local_time import local_today
from portal import score_pages
from portal.accounts import Person
from quality import authoring
from quality.authoring import overlay
from quality.rule import OBSERVATION_DAYS, Rule, read, rulebook
from quality.tickets import KIND, counting, reasons
from worklist import store
from worklist.tables import item as ticket_table

#: What a rule's own words mean on a page.
SEVERITIES = {"error": "错误", "warn": "警告", "info": "提示"}
KINDS = {"row": "逐条", "set": "多条或多表", "sum": "汇总", "each": "各表通用"}
STATES = {"live": "已生效", "observing": "观察期", "retired": "已停用"}
EFFECTS = {"exclude": "剔除不合规记录", "show": "只展示"}
_LOG = 30


def state(rule: Rule) -> str:
    return "observing" if rule.observing(local_today()) else "live"


def _retired() -> list[dict[str, Any]]:
    held = {rule_id: entry for rule_id, entry in overlay.held().items() if entry["state"] == "retired"}
    if not held:  # the files are long to read
        return []
    shipped = {r["id"]: (node, r) for node in read().values() for r in node["rules"]}
    made = []
    for rule_id, entry in sorted(held.items()):
        node, rule = shipped.get(rule_id, ({}, {}))
        made.append({
            "id": rule_id, "title_zh": rule.get("title_zh", ""), "domain": node.get("domain", rule_id.partition("-")[0]),
            "domain_zh": node.get("domain_zh", ""), "category": rule.get("category", ""),
            "severity": rule.get("severity", ""), "version": entry["version"], "state": "retired", "until": None,
        })  # fmt: skip
    return made


@lru_cache(maxsize=4)
def _rows(_stamp: tuple[str, int], _today: date) -> tuple[dict[str, Any], ...]:
    rows = [
        {"id": r.id, "title_zh": r.title_zh, "domain": r.domain, "domain_zh": r.domain_zh, "category": r.category,
         "severity": r.severity, "version": r.version, "state": state(r),
         "until": r.introduced_on + timedelta(days=OBSERVATION_DAYS)}
        for r in rulebook().rules
    ]  # fmt: skip
    return tuple(sorted([*rows, *_retired()], key=lambda r: str(r["id"])))


def listed(chosen: Mapping[str, str]) -> dict[str, Any]:
    """Rules that fit ``q`` (number or title), ``domain``, ``category``, ``severity`` and ``state``."""
    every = _rows(overlay.stamp(), local_today())
    words = chosen.get("q", "").strip().lower()
    fits = [
        r
        for r in every
        if (not words or words in r["id"].lower() or words in r["title_zh"].lower())
        and all(not chosen.get(k) or r[k] == chosen[k] for k in ("domain", "category", "severity", "state"))
    ]
    return {
        "rows": fits,
        "total": len(every),
        "domains": {r["domain"]: r["domain_zh"] for r in every if r["domain_zh"]},
        "categories": sorted({r["category"] for r in every if r["category"]}),
        "observing": sum(r["state"] == "observing" for r in every),
    }


def labels(table: str) -> dict[str, str]:
    """Field -> its Chinese name, of a table of the contracts."""
    try:
        return {f.name: f.label_zh for f in contracts.table_contract(table).fields}
    except (KeyError, LookupError):
        return {}


def _examples(rule: Rule) -> list[dict[str, Any]]:
    """Examples with their rows as (table, [(field, its name, value)])."""
    made = []
    for example in rule.examples:
        table = str(example.get("table", rule.table))
        given = example.get("rows") or {table: [example.get("row", {})]}
        shown = [
            (name, [(f, labels(name).get(f, f), v) for f, v in row.items()])
            for name, rows in given.items()
            for row in rows
        ]
        made.append({"expect": example["expect"], "note_zh": example.get("note_zh", ""), "rows": shown})
    return made


def _found(person: Person, rule_id: str) -> dict[str, int] | None:
    """Open and observed findings of the newest check in the institutions in reach; None before the first check."""
    at, seen = counting.newest(), score_pages.scope(person)
    if at is None:
        return None
    org = counting.org_sql("f")
    within = "" if seen is None else f"AND list_contains(?, {org})"
    with duck.connect() as connection:
        row = connection.execute(
            f"SELECT count(*), count(DISTINCT {org}) FROM {tables.scan_sql(counting.FINDING, at.finding)} AS f "
            f"WHERE f.rule_id = ? AND f.state IN ('open', 'observing', 'waived') {within}",
            [rule_id, *([] if seen is None else [sorted(seen)])],
        ).fetchone()
    assert row is not None
    return {"findings": int(row[0]), "orgs": int(row[1])}


def _outcomes(person: Person, rule_id: str) -> list[tuple[str, int]]:
    """What people said of the rule's tickets in reach: (reason, tickets), most frequent first."""
    c, seen = ticket_table.c, score_pages.scope(person)
    terms = [c.kind == KIND, c.subject == f"quality/rule/{rule_id}"]
    if seen is not None:
        terms.append(c.org_code.in_(sorted(seen)))
    with store.begin() as connection:
        rows = connection.execute(select(c.payload).where(*terms)).all()
    codes = Counter(code for row in rows if (code := json.loads(row.payload).get("reason_code")))
    known = reasons()
    return [(known[c].zh if c in known else c, n) for c, n in codes.most_common()]


def _versions(rule_id: str) -> list[int]:
    """Versions that this installation published, the newest first; shipped ones are not among them."""
    found = (overlay.folder() / "published").glob(f"{rule_id}.v*.yaml")
    numbers = (p.name.removeprefix(f"{rule_id}.v").removesuffix(".yaml") for p in found)
    return sorted((int(n) for n in numbers if n.isdecimal()), reverse=True)


def one(person: Person, rule_id: str) -> dict[str, Any] | None:
    """A rule for its page: ``row`` of the list, ``rule`` (None once retired), examples, history, what came of it."""
    row = next((r for r in _rows(overlay.stamp(), local_today()) if r["id"] == rule_id), None)
    if row is None:
        return None
    rule = next((r for r in rulebook().rules if r.id == rule_id), None)
    products = {p.product: p.label_zh for p in registry.products()}
    return {
        "row": row,
        "rule": rule,
        "products": products,
        "labels": labels(rule.table) if rule else {},
        "examples": _examples(rule) if rule else [],
        "found": _found(person, rule_id),
        "outcomes": _outcomes(person, rule_id),
        "versions": _versions(rule_id),
        "log": authoring.log(rule_id, _LOG),
        "proposals": [p for p in authoring.proposals("open") if p.rule_id == rule_id],
    }
