"""``docs/rules/``: the rule book as people read it, generated. Run ``python -m quality.docs`` after a change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lake import registry
from lake.settings import settings
from quality.rule import Rule, RuleBook, rulebook
from quality.shapes import shape

KINDS_ZH = {"row": "单条记录", "set": "跨记录/跨表", "sum": "统计", "each": "逐表生成"}
SEVERITY_ZH = {"error": "错误", "warn": "警告", "info": "提示"}
EFFECT_ZH = {"exclude": "剔除", "show": "仅展示", "block": "阻断"}
EXPECT_ZH = {"pass": "通过", "fail": "违规", "skip": "不判定"}


def label(table: str) -> str:
    """A table's Chinese name."""
    return shape(table).label_zh


def thresholds(rule: Rule) -> list[tuple[str, str]]:
    """Each parameter with its dated values as text, such as ``140(2009-10-10起)``."""
    return [
        (name, "、".join(f"{value:g}({since}起)" for since, value in param.steps))
        for name, param in rule.params.items()
    ]


def _value(value: Any) -> str:
    return "空" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _cells(row: Mapping[str, Any]) -> str:
    return "，".join(f"`{k}`={_value(v)}" for k, v in row.items())


def example_lines(rule: Rule) -> list[tuple[str, str, list[str]]]:
    """(expectation, note, lines) of each example; a line is one row of one table."""
    made = []
    for example in rule.examples:
        rows = example.get("rows") or {example.get("table", rule.table): [example["row"]]}
        lines = [f"{t}: {_cells(r)}" for t, many in rows.items() for r in many]
        if "as_of" in example:
            lines.append(f"处理日期 {example['as_of']}")
        if "at" in example:
            lines.append(f"判定的记录 {example['at']}")
        made.append((EXPECT_ZH[example["expect"]], example.get("note_zh", ""), lines))
    return made


def _section(rule: Rule) -> list[str]:
    tables = "、".join(f"{label(t.table)} `{t.table}`" for t in rule.targets)
    products = {p.product: p.label_zh for p in registry.products()}
    effects = "；".join(
        f"{label(t.table)}：" + "、".join(f"{products[p]} {EFFECT_ZH[e]}" for p, e in t.products.items())
        for t in rule.targets
    )
    lines = [
        f"## {rule.id} {rule.title_zh}",
        "",
        f"*{rule.title_en}*",
        "",
        "| | |",
        "|---|---|",
        f"| 表 | {tables} |",
        f"| 类别 | {rule.category}，{KINDS_ZH[rule.kind]}，{SEVERITY_ZH[rule.severity]} |",
        f"| 依据 | {rule.source_standard}（核实程度 {rule.verified}） |",
        f"| 数据产品 | {effects} |",
        f"| 责任科室 | {rule.owner}，自 {rule.introduced_on} 起，版本 {rule.version} |",
        f"| 处理办法 | {rule.remedy_zh} |",
    ]
    if rule.needs:
        lines.append(f"| 前置规则 | {'、'.join(rule.needs)}（违规时本规则不判定） |")
    if rule.params:
        lines.append("| 参数 | " + "；".join(f"`{n}` = {v}" for n, v in thresholds(rule)) + " |")
    main = rule.targets[0]
    lines += ["", "违规条件：", "", "```sql", main.condition.strip(), "```", ""]
    if main.eligibility != "true":
        lines += ["适用范围：", "", "```sql", main.eligibility.strip(), "```", ""]
    lines += ["| 示例 | 说明 | 数据 |", "|---|---|---|"]
    for expected, note, rows in example_lines(rule):
        cell = "<br>".join(rows).replace("|", "\\|")
        lines.append(f"| {expected} | {note} | {cell} |")
    return [*lines, ""]


def pages(book: RuleBook) -> dict[str, str]:
    """File name -> text of every page of ``docs/rules``."""
    made: dict[str, str] = {}
    index = [
        "# 质控规则 / Quality rules",
        "",
        "由 `python -m quality.docs` 从 `quality/rules/*.yaml` 生成，请勿手改。每条规则的示例就是它的测试。",
        "",
        "| 规则 | 名称 | 表 | 类别 | 类型 | 级别 |",
        "|---|---|---|---|---|---|",
    ]
    for domain in dict.fromkeys(r.domain for r in book.rules):
        rules = [r for r in book.rules if r.domain == domain]
        head = [
            f"# {rules[0].domain_zh}（{domain}）",
            "",
            f"{rules[0].domain_en}. 由规则文件生成，请勿手改。",
            "",
        ]
        made[f"{domain}.md"] = "\n".join(head + [line for r in rules for line in _section(r)])
        index += [
            f"| [{r.id}]({domain}.md) | {r.title_zh} | {'、'.join(t.table for t in r.targets)} | {r.category} "
            f"| {KINDS_ZH[r.kind]} | {SEVERITY_ZH[r.severity]} |"
            for r in rules
        ]
    made["README.md"] = "\n".join([*index, ""])
    return made


def write(directory: Path | None = None) -> list[Path]:
    """Write the pages and remove those of domains that are gone. Returns the files."""
    target = directory or settings().project_root / "docs" / "rules"
    target.mkdir(parents=True, exist_ok=True)
    made = pages(rulebook())
    for old in target.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (target / name).write_text(text, encoding="utf-8")
    return [target / name for name in made]


if __name__ == "__main__":
    print("\n".join(str(p) for p in write()))
