"""The measures themselves, on worlds small enough to count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb

from empi import evaluation, measures


def judged(rows: Sequence[tuple[str, str, str | None, str]]) -> dict[str, Any]:
    """Rows: local id, empi_id, resident (None: nobody knows), source system. Person p was born in 1950."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE identifier (empi_id VARCHAR, source_system VARCHAR, org_code VARCHAR, identifier_value VARCHAR,"
        " valid_from DATE)"
    )
    connection.execute(
        "CREATE TABLE truth (source_system VARCHAR, org_code VARCHAR, local_id VARCHAR, resident_id VARCHAR)"
    )
    connection.execute("CREATE TABLE person (empi_id VARCHAR, birth_date DATE)")
    for local_id, empi_id, resident, system in rows:
        connection.execute(
            "INSERT INTO identifier VALUES (?, ?, 'H', ?, '2026-11-20')", [empi_id, system, local_id]
        )
        connection.execute("INSERT INTO truth VALUES (?, 'H', ?, ?)", [system, local_id, resident])
    for empi_id in sorted({r[1] for r in rows}):
        born = date(1950, 1, 1) if empi_id == "p" else None
        connection.execute("INSERT INTO person VALUES (?, ?)", [empi_id, born])
    return evaluation.judge(connection)


def test_all_right() -> None:
    found = judged([("1", "p", "A", "his"), ("2", "p", "A", "public_health"), ("3", "q", "B", "his")])
    assert (found["precision"], found["recall"], found["f1"], found["exact_clusters"]) == (1, 1, 1, 1)
    assert (found["records"], found["persons"]) == (3, 2)


def test_one_false_and_one_missed_pair() -> None:
    # p = {1A, 2A, 3B}: three pairs, one true; B = {3, 4}: its one pair is missed
    found = judged(
        [("1", "p", "A", "his"), ("2", "p", "A", "his"), ("3", "p", "B", "his"), ("4", "q", "B", "his")]
    )
    assert (found["false_pairs"], found["missed_pairs"]) == (2, 1)
    assert (found["precision"], found["recall"]) == (round(1 / 3, 6), 0.5)
    assert found["exact_clusters"] == 0


def test_nobody_is_a_resident_of_its_own() -> None:
    found = judged([("1", "p", None, "his"), ("2", "p", None, "his")])
    assert (found["false_pairs"], found["missed_pairs"], found["exact_clusters"]) == (1, 0, 0)


def test_groups_count_pairs_that_touch_them() -> None:
    rows = [("1", "p", "A", "his"), ("2", "p", "A", "public_health"), ("3", "q", "A", "lis")]
    found = judged(rows)
    assert (found["recall"], found["missed_pairs"]) == (round(1 / 3, 6), 2)
    assert found["by_source"]["his"]["missed_pairs"] == 1, "his-lis"
    assert found["by_source"]["lis"] == {
        "precision": 1.0, "precision_interval": [1.0, 1.0], "recall": 0.0, "recall_interval": [0.0, 0.0],
        "f1": 0.0, "false_pairs": 0, "missed_pairs": 2,
    }  # fmt: skip
    assert found["by_age"]["65+"]["missed_pairs"] == found["by_age"]["unknown"]["missed_pairs"] == 2


def test_no_pairs_at_all() -> None:
    found = judged([("1", "p", "A", "his")])
    assert (found["precision"], found["recall"], found["f1"], found["exact_clusters"]) == (1, 1, 1, 1)


def test_an_interval_is_that_of_whole_persons() -> None:
    """Ten persons of two records, one of them wrong: P = 0.9; the variance of the ratio by hand is 0.9 / 100."""
    rows = [(f"{n}{side}", f"e{n}", f"R{n}", "his") for n in range(9) for side in "ab"]
    rows += [("9a", "e9", "R9", "his"), ("9b", "e9", "R10", "his")]
    found = judged(rows)
    assert found["precision"] == 0.9
    wide = 1.96 * (9 * 0.1**2 + 0.9**2) ** 0.5 / 10
    assert found["precision_interval"] == [round(0.9 - wide, 6), min(round(0.9 + wide, 6), 1.0)]
    assert found["recall_interval"] == [1.0, 1.0]
    assert found["right_person"] == round(19 / 20, 6)


def test_a_truthful_review_brings_together_what_belongs_together() -> None:
    connection = duckdb.connect()
    connection.execute(
        """CREATE TABLE judged AS SELECT * FROM (VALUES ('p', 'A'), ('q', 'A'), ('r', 'A'), ('s', 'B')) t(empi_id, resident)"""
    )
    connection.execute(
        """CREATE TABLE candidate AS SELECT * FROM (VALUES ('q', 'p', 3.0, NULL, true), ('r', 'q', 9.0, 'twin', true),
        ('s', 'p', 2.0, NULL, false)) t(empi_id_l, empi_id_r, match_weight, guard, is_same)"""
    )
    assert measures.review_bands(connection) == [
        {"guard": "", "weight_from": 0, "pairs": 2, "share_same": 0.5},
        {"guard": "twin", "weight_from": 8, "pairs": 1, "share_same": 1.0},
    ]
    after = measures.after_review(connection)
    assert (after["precision"], after["recall"]) == (1.0, 1.0)
