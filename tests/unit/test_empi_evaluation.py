"""The measures themselves, on worlds small enough to count by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb

from empi import evaluation


def judged(rows: list[tuple[str, str, str | None, str]]) -> dict[str, Any]:
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
        "precision": 1.0, "recall": 0.0, "f1": 0.0, "false_pairs": 0, "missed_pairs": 2,
    }  # fmt: skip
    assert found["by_age"]["65+"]["missed_pairs"] == found["by_age"]["unknown"]["missed_pairs"] == 2


def test_no_pairs_at_all() -> None:
    found = judged([("1", "p", "A", "his")])
    assert (found["precision"], found["recall"], found["f1"], found["exact_clusters"]) == (1, 1, 1, 1)
