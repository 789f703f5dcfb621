"""The due list and the rules say the same: what is on the list and not done is a finding the day after ``fails_on``.

Each absence rule is tried on its own failing examples, with the date being processed moved back to when the deed was
still to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from quality import examples
from quality.due import listing
from quality.rule import Rule, rulebook
from quality.shapes import shape

BOOK = rulebook()
RULES = listing.rules_with_due(BOOK)
#: How far before the example's date somebody looks at the list, where a rule's own query says what is next.
BACK = (1, 3, 8, 20, 60, 150, 330, 700)
#: Tasks that come again every year or stage: a record may fail for the last one while the next is due.
PERIODIC = {r.id for r in RULES if (d := r.targets[0].due) and (d.query or ".assessed_year" in d.due_on)}


@pytest.fixture(scope="module")
def desk() -> Iterator[duckdb.DuckDBPyConnection]:
    with examples.desk() as connection:
        yield connection


def key_of(rule: Rule, example: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> str:
    return str(example.get("at") or "|".join(str(rows[rule.table][-1][k]) for k in shape(rule.table).key))


def due_rows(
    desk: duckdb.DuckDBPyConnection,
    rule: Rule,
    example: Mapping[str, Any],
    as_of: date,
    since: date | None = None,
) -> list[tuple[date, date, str]]:
    rows = examples._rows(example, rule.table)
    connection = desk.cursor()
    connection.execute("SET TimeZone = 'UTC'")
    for schema in ("silver", "flags"):
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.execute(f"CREATE SCHEMA {schema}")
    examples._load(connection, rows)
    listing.due(connection, BOOK.only(rule.id), as_of, since=since)
    found: list[tuple[date, date, str]] = connection.execute(
        "SELECT due_on, fails_on, what_zh FROM due_now WHERE rule_id = ? AND record_key = ?",
        [rule.id, key_of(rule, example, rows)],
    ).fetchall()
    return found


def undone(rule: Rule) -> list[Mapping[str, Any]]:
    """The rule's examples in which something is not done: it fails, or is not due yet."""
    here = [e for e in rule.examples if e.get("table", rule.table) == rule.table]
    return [e for word in ("fail", "skip") for e in here if e["expect"] == word]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_due_until_the_grace_ends_and_then_a_finding(desk: duckdb.DuckDBPyConnection, rule: Rule) -> None:
    tried = 0
    for example in undone(rule):
        at = date.fromisoformat(example["as_of"]) if "as_of" in example else examples.EXAMPLE_AS_OF
        listed = due_rows(desk, rule, example, at, since=date.min)
        for back in BACK if rule.id in PERIODIC and not listed else ():
            if listed := due_rows(desk, rule, example, at - timedelta(days=back)):
                break
        if not listed:
            continue  # this example fails for another reason than a day that has passed
        ((due_on, fails_on, what),) = listed
        assert due_on <= fails_on
        assert what
        still = examples.run(BOOK, rule, {**example, "as_of": fails_on.isoformat()}, desk)
        after = examples.run(
            BOOK, rule, {**example, "as_of": (fails_on + timedelta(days=1)).isoformat()}, desk
        )
        assert after.flag == 1, (due_on, fails_on)
        assert still.flag in (None, 0) or (rule.id in PERIODIC and still.message_zh != after.message_zh), (
            fails_on
        )
        assert fails_on in [r[1] for r in due_rows(desk, rule, example, fails_on)], (
            "on the list on its last day"
        )
        tried += 1
        break
    assert tried, "no example of this rule was ever due"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_what_is_done_is_not_due(desk: duckdb.DuckDBPyConnection, rule: Rule) -> None:
    """A passing example whose deed is done before its day is on no list for that day."""
    done = next(
        e for e in rule.examples if e["expect"] == "pass" and e.get("table", rule.table) == rule.table
    )
    at = date.fromisoformat(done["as_of"]) if "as_of" in done else examples.EXAMPLE_AS_OF
    for due_on, fails_on, _ in due_rows(desk, rule, done, at):
        outcome = examples.run(
            BOOK, rule, {**done, "as_of": (fails_on + timedelta(days=1)).isoformat()}, desk
        )
        assert outcome.flag == 1, (due_on, fails_on)  # then it is the next deed, and really to be done
