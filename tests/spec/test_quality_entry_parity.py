"""The entry-time check says of a record what the batch says of it: every example of every rule of one record.

That the examples come out of the batch's engine as they say is ``test_quality_examples``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from quality import examples
from quality.entry.scope import needs_of, person_tables, scope
from quality.entry.statement import Judged, Statement
from quality.rule import Rule, rulebook
from quality.shapes import contract_tables, shape

FLAG = {"pass": 0, "fail": 1, "skip": None}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in json.loads(json.dumps(row, default=str)).items() if k != "source_line"}


def _as_of(example: Mapping[str, Any]) -> date:
    return date.fromisoformat(example["as_of"]) if "as_of" in example else examples.EXAMPLE_AS_OF


def _holds(rule: Rule, example: Mapping[str, Any], judged: Judged, line: int) -> bool:
    """Whether a record's flag, severity and message are what its example says."""
    told = [v for v in judged.violations if v.rule.id == rule.id and v.line == line]
    if judged.flags[line][rule.id] != FLAG[example["expect"]] or len(told) != (example["expect"] == "fail"):
        return False
    wanted = example.get("severity", rule.severity)
    return all(v.severity == wanted and v.message_zh and "{" not in v.message_zh for v in told)


def test_every_example_of_one_record_is_judged_as_by_the_engine() -> None:
    asked: dict[
        tuple[str, date], list[tuple[Rule, Mapping[str, Any], dict[str, Any], list[dict[str, Any]]]]
    ] = {}
    for rule in rulebook().rules:
        for number, example in enumerate(rule.examples):
            table = example.get("table", rule.table)
            if table not in contract_tables() or rule.target(table).query or "row" not in example:
                continue
            rows = examples._rows(example, table)
            other = f"{rule.id}-{number}"  # each example is about a resident of its own
            archives = [
                _plain(r) | ({"archive_id": other} if r["archive_id"] == "A1" else {})
                for r in rows.get("ph_archive", [])
            ]
            own = _plain(rows[table][0])
            if own.get("archive_id") == "A1":
                own["archive_id"] = other
            asked.setdefault((table, _as_of(example)), []).append(
                (rule, example, own, [] if table == "ph_archive" else archives)
            )
    wrong, rules = [], set()
    for (table, as_of), cases in asked.items():
        archives = [a for *_, along in cases for a in along]
        statement = Statement(scope(rulebook(), table, frozenset()), as_of)
        judged = statement.judge([own for _, _, own, _ in cases], {"ph_archive": archives})
        statement.close()
        for line, (rule, example, *_) in enumerate(cases, start=1):
            rules.add(rule.id)
            if not _holds(rule, example, judged, line):
                wrong.append((rule.id, example["expect"], judged.flags[line][rule.id]))
    assert wrong == []
    assert len(rules) > 80


def test_examples_of_several_records_with_the_others_along() -> None:
    looking_back = [
        r.id for r in rulebook().rules if (q := r.targets[0].query) and not needs_of(rulebook().queries[q])[0]
    ]
    assert len(looking_back) > 70
    for rule_id in looking_back:
        rule = rulebook().rule(rule_id)
        query = rulebook().queries[str(rule.targets[0].query)]
        table, book = rule.table, rulebook().only(rule_id)
        statements: dict[date, Statement] = {}
        # a table of which an example has no rows is known to be empty
        known = person_tables(rulebook(), table) | {"ph_archive"}
        for example in rule.examples:
            if example.get("table", table) != table:
                continue
            rows = examples._rows(example, table)
            if not set(query.requires) <= set(rows):
                continue  # about a lake that a feed is not connected to
            as_of = _as_of(example)
            if as_of not in statements:
                statements[as_of] = Statement(scope(book, table, known), as_of)
            statement = statements[as_of]
            assert rule_id in {r.id for r in statement.scope.judged}
            at = example.get("at") or "|".join(str(rows[table][-1][k]) for k in shape(table).key)
            own = [r for r in rows[table] if "|".join(str(r[k]) for k in shape(table).key) == at][-1]
            # as the store has them: of the resident's rows only what rules read
            others = {
                t: [{k: v for k, v in _plain(r).items() if k in read} for r in given if r is not own]
                for t, given in rows.items()
                if (read := statement.reads.get(t))
            }
            assert _holds(rule, example, statement.judge([_plain(own)], others), 1), (rule_id, example)


def test_texts_of_a_violation_are_the_batchs() -> None:
    for rule_id in ("HTN-001", "ARC-002", "EXM-006", "GEN-002"):
        rule = rulebook().rule(rule_id)
        example = next(e for e in rule.examples if e["expect"] == "fail" and "row" in e)
        batch = examples.run(rulebook(), rule, example)
        table = example.get("table", rule.table)
        rows = examples._rows(example, table)
        others = {t: [_plain(r) for r in given] for t, given in rows.items() if t != table}
        made = Statement(scope(rulebook(), table, frozenset()), examples.EXAMPLE_AS_OF)
        judged = made.judge([_plain(rows[table][0])], others)
        (told,) = (v for v in judged.violations if v.rule.id == rule_id)
        assert (told.message_zh, told.severity) == (batch.message_zh, batch.severity)
