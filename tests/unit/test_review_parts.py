"""Parts of identity review: names of pairs, what answers teach, spreads of runs, words for every level and guard."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

import worklist
from empi import model
from empi.guards import GUARDS
from empi.review import drift, evidence, explain, history, learning, pairs, queue, ranking
from empi.review.learning import Answered
from empi.review.pairs import RecordKey
from lake.contracts import table_contract
from medlake.commands.empi_review import _UNDO
from medlake.commands.review_tables import bar
from worklist.machine import SYSTEM

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)
KEYS = st.builds(RecordKey, TEXT, TEXT, TEXT)


@given(KEYS, KEYS)
def test_a_pair_has_one_name_in_either_order(one: RecordKey, other: RecordKey) -> None:
    assert pairs.request_key(one, other) == pairs.request_key(other, one)
    assert len(pairs.request_key(one, other)) == len("empi_review|") + 64
    low, high = pairs.ordered(one, other)
    payload = {f"{c}_{s}": k[i] for s, k in (("l", low), ("r", high)) for i, c in enumerate(pairs.COLUMNS)}
    assert pairs.of_payload(payload) == (low, high)
    assert pairs.of_payload({k: v for k, v in payload.items() if k != "org_code_r"}) is None


def test_parts_of_keys_do_not_run_together() -> None:
    a, b = RecordKey("x", "y|z", "1"), RecordKey("x|y", "z", "1")
    assert pairs.digest(a, b) != pairs.digest(RecordKey("x", "y", "z|1"), b)


def test_every_level_and_guard_of_the_model_has_its_words() -> None:
    for comparison, rungs in model.LEVELS.items():
        for level in [*(name for name, _ in rungs), "else"]:
            assert explain.level_zh(comparison, level) != level, (comparison, level)
    for guard in GUARDS:
        assert guard in explain.texts()["guards"], guard
        assert all(explain.guard_texts(guard).values())
    assert explain.guard_texts("of_a_newer_model")["zh"] == "系统规则“of_a_newer_model”暂不合并"
    assert explain.guard_texts(None)["look_zh"] == ""
    assert "两个可信证件号" in explain.guard_texts(None, is_cut=True)["zh"]


def test_every_kind_of_event_has_its_word_and_its_columns() -> None:
    kinds = explain.texts()["kinds"]
    for table, (day, _) in evidence.VISITS.items():
        assert table in kinds and {day, "patient_local_id"} <= set(
            table_contract(table).silver_schema().names
        )
    for table, day in evidence.SERVICES.items():
        assert table in kinds and {day, "archive_id"} <= set(table_contract(table).silver_schema().names)
    assert set(evidence.CONTACTS) == set(explain.texts()["contacts"])


def test_what_history_knows_of_the_items_states_is_what_the_kind_says() -> None:
    rule = worklist.kinds()["empi_review"]
    assert {n for n, s in rule.states.items() if s.terminal} == history.CLOSED
    for action, target in history._BY_ENGINE.items():
        (step,) = [t for t in rule.transitions if t.action == action]
        assert step.roles == (SYSTEM,) and step.target == target
        assert {rule.states[s].terminal for s in step.sources} == {action == "ask_again"}
    for state, action in _UNDO.items():
        assert rule.find(action, state) is not None
    assert rule.find("apply_merge", "second_review").different_from == ("propose_merge",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (50, 50, 0.92865, 1.0)],
)
def test_the_interval_of_a_share(hits: int, of: int, low: float, high: float) -> None:
    """Worked out apart from the code, by the formula."""
    assert learning.wilson(hits, of) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_holds_the_share(hits: int, misses: int) -> None:
    low, high = learning.wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low <= hits / (hits + misses) <= high


def test_answers_by_band_and_guard() -> None:
    found = [Answered(3.2, None, True), Answered(3.9, None, False), Answered(-0.5, None, True)]
    found += [Answered(9.0, "twin", False), Answered(9.0, "newborn", True)]
    assert [(b["from"], b["decided"], b["same"]) for b in learning.bands(found)] == [(-1, 1, 1), (3, 2, 1)]
    assert [(g["guard"], g["same"]) for g in learning.guards(found)] == [("newborn", 1), ("twin", 0)]


def test_a_lower_threshold_is_proposed_only_where_enough_answers_bear_it() -> None:
    at = learning.accept_weight()
    good = [Answered(at - 0.5, None, True)] * 300
    mixed = [Answered(at - 1.5, None, n % 2 == 0) for n in range(300)]
    waiting = [(at - 0.5, None)] * 40 + [(at - 1.5, None)] * 60 + [(at + 3, "twin")] * 5
    (row,) = learning.proposals([*good, *mixed], waiting, 0.98, 50)
    assert row["change"] == f"accept_weight {at:g} -> {at - 1:g}"
    assert (row["rests_on"], row["joins"], row["wrong_expected"]) == (300, 40, 0.0)
    assert 0 < row["wrong_at_most"] < 1
    assert learning.proposals(good[:49], waiting, 0.98, 50) == []
    assert learning.proposals(mixed, waiting, 0.98, 50) == []
    twins = [Answered(at + 3, "twin", True)] * 400
    (row,) = learning.proposals(twins, waiting, 0.98, 50)
    assert row["joins"] == 5 and "twin" in row["change"]


def asked(state: str, guard: str | None, *systems: str) -> history.Asked:
    both = RecordKey(systems[0], "H101", "1"), RecordKey(systems[1], "C201", "2")
    return history.Asked(
        "k", "C201", "empi", datetime(2026, 11, 18, tzinfo=UTC), both, {"guard": guard}, state
    )


def test_a_group_that_people_know_is_less_open() -> None:
    assert ranking.openness(0, 0) == ranking.openness(5, 10) == 1
    assert ranking.openness(0, 38) == pytest.approx(4 * 1 / 40 * 39 / 40) == ranking.openness(38, 38)
    found = [asked("not_same", "twin", "his", "public_health")] * 3
    found += [asked("applied", "twin", "his", "his"), asked("unmerged", "twin", "public_health", "his")]
    found += [asked("candidate", "two_ids", "his", "his"), asked("not_same", None, "his", "his")]
    found += [asked("unsure", "newborn", "his", "his")]
    connection = duckdb.connect()
    ranking.create_openness(connection, found)
    told = dict(connection.execute("SELECT pair_group, openness FROM openness").fetchall())
    assert told == {
        "twin/0": pytest.approx(ranking.openness(1, 1)),
        "twin/1": pytest.approx(ranking.openness(0, 4)),
    }


@pytest.mark.parametrize("guard", [None, "twin"])
@pytest.mark.parametrize(
    "systems", [("his", "lis"), ("his", "public_health"), ("public_health", "public_health")]
)
def test_a_group_is_named_alike_in_sql(guard: str | None, systems: tuple[str, str]) -> None:
    sql = f"SELECT {ranking.GROUP_SQL} FROM (SELECT $1::VARCHAR AS guard, $2 AS source_system_l, $3 AS source_system_r)"
    assert duckdb.execute(sql, [guard, *systems]).fetchall() == [(ranking.group(guard, *systems),)]


@given(st.dictionaries(TEXT, st.integers(1, 50)), st.dictionaries(TEXT, st.integers(1, 50)))
def test_how_far_two_spreads_are_apart(one: dict[str, int], other: dict[str, int]) -> None:
    assert drift.distance(one, one) == 0 and 0 <= drift.distance(one, other) <= 1
    assert drift.distance(one, other) == drift.distance(other, one)
    if one and other and not set(one) & set(other):
        assert drift.distance(one, other) == 1


def test_a_weight_as_a_bar() -> None:
    assert (bar(3.2), bar(-2.0), bar(0.1), bar(40)) == ("███", "░░", "", "█" * 24 + "…")


def test_limits_are_dated_and_hold_from_their_day() -> None:
    for day in (date(2020, 1, 1), date(2026, 1, 1), date(2030, 1, 1)):
        most = queue.limits(day)
        assert 0 < most["max_per_institution"] <= most["max_per_day"] and 0 < most["wanted_share"] < 1
    assert Path(queue.__file__).with_name("limits.yaml").exists()
