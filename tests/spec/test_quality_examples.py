"""Each rule's own examples run through the engine; the generated pages and the reference list stay true."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pytest

from lake.settings import settings
from quality import docs, examples
from quality.rule import Rule, rulebook

FLAG = {"pass": 0, "fail": 1, "skip": None}
ASKED = {
    "ARC": "001 002 004 005 007 009 013 016 017 018",
    "HTN": "001 002 003 004 006 007 009 016 021 022",
    "DM": "001 002 003 004 005 006 008 010 013 015",
    "EXM": "001 003 006 007 014 018 019 022 025 026",
}
CASES = [(r, i, e) for r in rulebook().rules for i, e in enumerate(r.examples)]


@pytest.fixture(scope="module")
def desk() -> Iterator[duckdb.DuckDBPyConnection]:
    with examples.desk() as connection:
        yield connection


@pytest.mark.parametrize(
    ("rule", "index", "example"), CASES, ids=[f"{r.id}-{i}-{e['expect']}" for r, i, e in CASES]
)
def test_example(rule: Rule, index: int, example: Mapping[str, Any], desk: duckdb.DuckDBPyConnection) -> None:
    outcome = examples.run(rulebook(), rule, example, desk)
    assert outcome.flag == FLAG[example["expect"]], example.get("note_zh", "")
    if outcome.flag == 1:
        assert outcome.severity == example.get("severity", rule.severity)
        assert outcome.message_zh
        assert "{" not in outcome.message_zh
        assert "None" not in outcome.message_zh


def test_the_forty_rules_of_the_first_issue_are_there() -> None:
    wanted = {f"{domain}-{number}" for domain, numbers in ASKED.items() for number in numbers.split()}
    assert {r.id for r in rulebook().rules} >= wanted
    many = [r.id for r in rulebook().rules if r.kind == "set"]
    assert len(many) >= 12


def test_every_threshold_is_a_dated_parameter() -> None:
    """No clinical number stands in a condition: only codes in quotes, 0/1 flags, unit factors and list positions."""
    harmless = {"0", "1", "2", "100", "18", "17", "15"}
    for rule in rulebook().rules:
        for target in rule.targets:
            bare = re.sub(r"'[^']*'", "", f"{target.eligibility} {target.condition} {target.warn_when or ''}")
            numbers = set(re.findall(r"(?<![\w.:])\d+(?:\.\d+)?", bare))
            assert numbers <= harmless, (rule.id, numbers - harmless)


def test_pages_in_docs_are_what_the_rules_say() -> None:
    folder = settings().project_root / "docs" / "rules"
    for name, text in docs.pages(rulebook()).items():
        assert (folder / name).read_text("utf-8") == text, f"run python -m quality.docs ({name})"


def test_every_rule_is_explained_where_it_was_read_freely() -> None:
    text = (settings().project_root / "docs" / "SPEC_CLARIFICATIONS.md").read_text("utf-8")
    named = set(re.findall(r"[A-Z]{2,4}-\d{3}", text))
    assert named <= {r.id for r in rulebook().rules}
