"""A due entry is checked when the rule book is read, and its parameters are those of the rule and of its query."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.errors import MedlakeError
from quality.due import listing
from quality.rule import RULES_DIR, load, rulebook


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("      look: ", '      query: "tcm_next_stage"\n      look: ', "E401"),  # the rule itself, or a query of its own
        ("      due_on: ", "      due: ", "E401"),
        ('      query: "tcm_next_stage"\n', "      query: no_such_query\n", "E402"),
        ("tcm_year.assessed_year, 12, 31) + cast(:grace_days", "tcm_year.assessed_year, 12, 31) + cast(:no_such", "E402"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_refused(tmp_path: Path, old: str, new: str, code: str) -> None:
    given = (RULES_DIR / "tcm.yaml").read_text("utf-8")
    assert old in given
    (tmp_path / "tcm.yaml").write_text(given.replace(old, new, 1), "utf-8")
    with pytest.raises(MedlakeError, match=code):
        load(tmp_path)


def waits(sql: str) -> bool:
    return ":grace" in sql


def test_rules_that_wait_until_a_day_have_due_entries() -> None:
    """Whoever writes an absence rule with a grace writes when it is due; what stands out here has its reason in the docs."""
    book = rulebook()
    found = {
        r.id
        for r in book.rules
        for t in r.targets
        if waits(t.eligibility + t.condition) or (t.query and waits(book.queries[t.query].sql))
    }
    with_due = {r.id for r in listing.rules_with_due(book)}
    same_query = {  # judge what was done, by a query that also knows what is due
        r
        for r in found - with_due
        if not any(waits(t.eligibility + t.condition) for t in book.rule(r).targets)
    }
    assert found - with_due - same_query == set()
    assert len(with_due) >= 40
