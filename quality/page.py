"""The quality page (质控页): a steward's first look, our own Chinese HTML with local assets and no script.

Rendered from the judge's results, gates and scorecards; aggregates only, no record of a person. The folder
``<home>/quality/page`` is a link to a finished rendering, so a reader never meets half a page.
"""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

from lake import registry, runs
from lake.settings import settings
from quality import docs
from quality.page_facts import Facts, gather, newest_checked
from quality.page_scores import polyline
from quality.rule import Rule, RuleBook, rulebook

_HERE = Path(__file__).parent
_KEPT = 3


def page_dir() -> Path:
    """Where the finished page stands (a link); ``index.html`` is its entry."""
    return settings().home / "quality" / "page"


def _number(value: float | int | None) -> str:
    return "—" if value is None else f"{value:,.0f}"


def _pct(value: float | None) -> str:
    """A share for reading: ``—`` when nothing was evaluated, two digits where they matter."""
    if value is None:
        return "—"
    return (
        "0"
        if value == 0
        else "<0.01%"
        if value < 0.01
        else f"{value:.2f}%"
        if value < 10
        else f"{value:.1f}%"
    )


def _points(value: float | None) -> str:
    """A score for reading, ``—`` where an older check did not compute it."""
    return "—" if value is None else f"{value:.1f}"


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": _number, "pct": _pct, "points": _points}
    made.globals |= {
        "severity_zh": docs.SEVERITY_ZH,
        "kinds_zh": docs.KINDS_ZH,
        "effect_zh": docs.EFFECT_ZH,
        "products": {p.product: p.label_zh for p in registry.products()},
    }
    return made


def _trend(facts: Facts) -> dict[str, Any] | None:
    """Points of the little curve of open findings, in a 240 x 48 box."""
    values = [t["findings"] for t in facts.trend]
    points = polyline(values, 0, max(values, default=1))
    if not points:
        return None
    return {"points": points, "first": facts.trend[0], "last": facts.trend[-1]}


def _rule_values(rule: Rule, facts: Facts) -> dict[str, Any]:
    """What a rule's page shows besides the rule itself."""
    lines = facts.of_rule(rule.id)
    counts: dict[str, int] = {}
    for line in lines:
        for org, n in facts.by_org.get((rule.id, line.table), {}).items():
            counts[org] = counts.get(org, 0) + n
    ranked = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    return {
        "rule": rule,
        "lines": lines,
        "thresholds": docs.thresholds(rule),
        "examples": docs.example_lines(rule),
        "table_zh": {t.table: docs.label(t.table) for t in rule.targets},
        "orgs": [(facts.org_names.get(o, o), n) for o, n in ranked],
        "top": ranked[0][1] if ranked else 0,
    }


def _org_values(org: str, facts: Facts) -> dict[str, Any]:
    """What an institution's page shows: its card, what costs it points, its trend."""
    trend = facts.scores.trend.get(org, [])
    values = [t["score"] for t in trend]
    return {
        "org": org,
        "org_name": facts.org_names.get(org, org),
        "cards": facts.scores.of_org(org),
        "parts": facts.scores.parts.get(org, []),
        "trend": trend,
        "points": polyline(values, min(values, default=0), max(values, default=100)),
        "titles": {x.rule_id: x.title_zh for x in facts.lines},
        "labels": {x.table: x.table_zh for x in facts.lines},
    }


def _write(folder: Path, facts: Facts | None, book: RuleBook, problem: str) -> None:
    environment = _environment()

    def put(name: str, template: str, **values: Any) -> None:
        html = environment.get_template(template).render(
            facts=facts, scores=facts.scores if facts else None, **values
        )
        (folder / name).write_text(html, encoding="utf-8")

    shutil.copytree(_HERE / "static", folder, dirs_exist_ok=True)
    if facts is None:
        put("index.html", "empty.html", problem=problem)
        return
    worst = sorted((x for x in facts.lines if x.failed), key=lambda x: (-x.failed, x.rule_id))[:10]
    watched = [x for x in facts.lines if x.observing]
    put("index.html", "index.html", worst=worst, trend=_trend(facts), watched=len(watched))
    put("scores.html", "scores.html")
    watched.sort(key=lambda x: (-x.failed, x.rule_id, x.table))
    put("watch.html", "watch.html", lines=watched, since={r.id: r.introduced_on for r in book.rules})
    for org in facts.scores.orgs:
        put(f"org-{org}.html", "org.html", **_org_values(org, facts))
    for entry in facts.tables():
        put(f"table-{entry['table']}.html", "table.html", entry=entry)
    for rule in book.rules:
        if facts.of_rule(rule.id):
            put(f"rule-{rule.id}.html", "rule.html", **_rule_values(rule, facts))


def render(data_date: date | None = None, book: RuleBook | None = None) -> Path:
    """Render the page of a checked date (default: the newest) and put it in place. Returns its entry.

    Without any check, or when the date has none, the page says so instead of failing.
    """
    book = book or rulebook()
    run = newest_checked() if data_date is None else runs.get_run(data_date)
    problem = ""
    facts: Facts | None = None
    if run is None:
        problem = "还没有完成过质控。接入数据并运行质控后，这里显示结果。"
    elif "quality/gate" not in run.versions:
        problem = f"{run.data_date} 的质控尚未完成或未通过评判，结果没有生效；请查看调度任务的日志。"
    else:
        facts = gather(run, book)
    parent = settings().home / "quality"
    name = (
        f"{run.data_date:%Y%m%d}-{os.getpid()}-{os.urandom(3).hex()}"
        if run
        else f"empty-{os.urandom(3).hex()}"
    )
    folder = parent / "pages" / name
    folder.mkdir(parents=True)
    _write(folder, facts, book, problem)
    link = parent / f".page-{name}"
    link.symlink_to(folder.relative_to(parent))
    link.replace(page_dir())
    for old in sorted((parent / "pages").iterdir(), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return page_dir() / "index.html"
