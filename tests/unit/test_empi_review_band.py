"""Which pairs wait for a person: one of two persons, none that people decided, the worthiest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from empi import model, review_band

NAMES = ", ".join(f"gamma_{name}" for name in model.LEVELS)


def uncertain(
    pairs: Sequence[tuple[int, int, float, str | None]],
    cluster: list[int],
    *,
    archives: frozenset[int] = frozenset(),
    decided: tuple[tuple[int, int], ...] = (),
) -> list[tuple[int, int, float]]:
    """``cluster[rec_no]`` is its person; rows (rec_l, rec_r, value) by falling value."""
    connection = duckdb.connect()
    gammas = ", ".join(f"0 AS gamma_{name}" for name in model.LEVELS)
    connection.execute("CREATE TABLE p (rec_l INTEGER, rec_r INTEGER, match_weight DOUBLE, guard VARCHAR)")
    if pairs:
        connection.executemany("INSERT INTO p VALUES (?, ?, ?, ?)", list(pairs))
    connection.execute(f"CREATE TABLE pair AS SELECT *, {gammas} FROM p")
    connection.execute("CREATE TABLE cluster (rec_no INTEGER, cluster_no INTEGER)")
    connection.executemany("INSERT INTO cluster VALUES (?, ?)", list(enumerate(cluster)))
    connection.execute("CREATE TABLE source_record (rec_no INTEGER, source_system VARCHAR)")
    systems = [(n, "public_health" if n in archives else "his") for n in range(len(cluster))]
    connection.executemany("INSERT INTO source_record VALUES (?, ?)", systems)
    connection.execute("CREATE TABLE decision (rec_l INTEGER, rec_r INTEGER, decision VARCHAR)")
    if decided:
        connection.executemany("INSERT INTO decision VALUES (?, ?, 'unsure')", list(decided))
    count = review_band.find(connection)
    assert (
        connection.execute(f"SELECT {NAMES} FROM uncertain").fetchall() == [(0,) * len(model.LEVELS)] * count
    )
    rows = connection.execute("SELECT rec_l, rec_r, value FROM uncertain ORDER BY value DESC").fetchall()
    return [(int(a), int(b), float(v)) for a, b, v in rows]


def pairs_of(found: list[tuple[int, int, float]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b, _ in found]


def test_the_band(lake_home: Path) -> None:
    bits = model.thresholds()
    pairs = [
        (0, 1, bits["review"], None),
        (0, 2, bits["review"] - 0.01, None),
        (0, 3, bits["review_guarded"], "twin"),
        (0, 4, bits["review_guarded"] - 0.01, "twin"),
        (0, 5, bits["accept"] + 9, None),  # a constraint refused it
    ]
    assert set(pairs_of(uncertain(pairs, [0, 1, 2, 3, 4, 5]))) == {(0, 1), (0, 3), (0, 5)}


def test_two_persons_are_one_question(lake_home: Path) -> None:
    pairs = [(0, 2, 1.0, None), (1, 2, 3.0, None), (1, 3, 3.0, None), (0, 1, 2.0, None)]
    assert pairs_of(uncertain(pairs, [0, 0, 2, 2])) == [(1, 2)], (
        "the strongest; ties by record; none within a person"
    )


def test_what_people_looked_at_does_not_come_again(lake_home: Path) -> None:
    """The decision is on other records of the same two persons."""
    pairs = [(0, 2, 3.0, None), (0, 4, 3.0, None)]
    assert pairs_of(uncertain(pairs, [0, 0, 2, 2, 4], decided=((1, 3),))) == [(0, 4)]


def test_an_open_question_on_much_comes_first(lake_home: Path) -> None:
    even, clear = (0, 1, 0.0, None), (2, 3, 3.9, None)
    assert pairs_of(uncertain([clear, even], [0, 1, 2, 3])) == [(0, 1), (2, 3)], (
        "at even odds an answer says most"
    )
    both = uncertain([even, (2, 3, 0.0, None)], [0, 1, 2, 3], archives=frozenset({2, 3}))
    assert pairs_of(both) == [(2, 3), (0, 1)]
    assert both[0][2] == 2 * both[1][2], "two archives"
    larger = uncertain([even, (2, 3, 0.0, None)], [0, 1, 2, 3, 3, 3])
    assert pairs_of(larger) == [(2, 3), (0, 1)], "more records come together"


def test_nothing_is_uncertain(lake_home: Path) -> None:
    assert uncertain([], [0, 1]) == []
