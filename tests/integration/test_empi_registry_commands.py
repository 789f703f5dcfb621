"""The registry's commands on a small lake: decide and withdraw, merge and unmerge, history, and what they refuse."""

from __future__ import annotations

import pytest

import empi
from tests.registry_world import command, day, deliver, his, patient, person_of, told, who


@pytest.fixture
def persons(lake_home: object) -> tuple[str, str]:
    """Three residents are linked; the ids of the first two."""
    deliver("patient", [patient(str(n), **who(n)) for n in range(3)])
    empi.link(day(0))
    ids = person_of()
    return ids[his("0")], ids[his("1")]


def test_a_decision_is_listed_until_it_is_withdrawn(persons: tuple[str, str]) -> None:
    given = ("his/H101/0", "his/H101/2", "cannot_link", "--by", "steward", "--reason", "seen both")
    decided = told("decide", *given)
    code, text = command("decisions")
    assert code == 0 and decided["decision_id"] in text.replace("\n", "")  # whole, so that it can be copied
    told("withdraw", decided["decision_id"], "--by", "steward")
    assert told("decisions")["rows"] == []
    assert [r["decision_id"] for r in told("decisions", "--all")["rows"]] == [decided["decision_id"]]


def test_a_merge_shows_at_once_lasts_through_a_run_and_can_be_undone(persons: tuple[str, str]) -> None:
    kept, retired = persons
    merged = told("merge", kept, retired, "--by", "steward", "--reason", "one person")
    assert told("history", retired)["current_empi_id"] == kept
    assert told("history", retired)["is_retired"]
    code, text = command("changes")
    assert code == 0 and merged["change_id"] in text.replace("\n", "")
    empi.link(day(1))
    assert told("history", retired)["current_empi_id"] == kept
    told("unmerge", merged["change_id"], "--by", "steward", "--reason", "two persons")
    assert told("history", retired)["current_empi_id"] == retired


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("diff", "x"), "E326"),
        (("approve", "x", "--by", "a", "--reason", "r"), "E326"),
        (("history", "E0"), "E327"),
        (("decide", "his/1", "a/b/c", "unsure", "--by", "a", "--reason", "r"), "E320"),
        (("train", "--date", "2026-11-02"), "E304"),
    ],
)
def test_what_is_not_there_is_a_numbered_error(
    persons: tuple[str, str], words: tuple[str, ...], error: str
) -> None:
    code, text = command(*words, "--json")
    assert code == 1
    assert f'"error": "{error}"' in text
