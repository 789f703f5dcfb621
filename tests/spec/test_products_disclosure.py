"""What researchers see, by example. The property over random tables is in tests/generative."""

from __future__ import annotations

import numpy as np
import pytest

from products.disclosure import MIN_CELL, ROUND_TO, SMALL, WITHHELD, protect, protect_count


def shown(counts: list) -> list:
    return protect(np.array(counts)).shown.tolist()


def test_the_two_constants() -> None:
    assert (MIN_CELL, ROUND_TO, SMALL) == (10, 5, "<10")


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "<10"), (1, "<10"), (9, "<10"), (10, 10), (12, 10), (13, 15), (1234, 1235)]
)
def test_one_number(count: int, expected: int | str) -> None:
    assert protect_count(count) == expected


def test_large_numbers_are_only_rounded() -> None:
    assert shown([101, 52, 33]) == [100, 50, 35, 185]


def test_a_single_small_cell_takes_the_next_smallest_with_it() -> None:
    assert shown([120, 30, 4]) == [120, WITHHELD, SMALL, 155]


def test_two_small_cells_that_would_give_each_other_away_take_a_third() -> None:
    # 9 + 9 = 18 could only be 9 and 9: both are at the top of what "<10" allows
    assert shown([9, 9, 40, 300]) == [SMALL, SMALL, WITHHELD, 300, 360]


def test_two_small_cells_that_hide_each_other() -> None:
    assert shown([2, 7, 300]) == [SMALL, SMALL, 300, 310]


def test_a_table_takes_a_rectangle() -> None:
    table = protect(np.array([[120, 30], [55, 4], [80, 61]]))
    assert table.shown[1, 1] == SMALL
    for line in (table.shown[1], table.shown[:, 1]):
        assert sum(isinstance(v, str) for v in line) >= 2
    assert table.shown[-1, -1] == 350


def test_what_cannot_be_protected_is_not_broken_down() -> None:
    assert shown([9, 9]) == [WITHHELD, WITHHELD, 20]
    assert shown([0, 0, 0, 4]) == [SMALL, SMALL, SMALL, SMALL, SMALL]


def test_an_empty_table_has_only_its_total() -> None:
    assert protect(np.zeros((0,), dtype=np.int64)).shown.tolist() == [SMALL]
