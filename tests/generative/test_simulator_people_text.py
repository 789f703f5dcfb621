"""Column-wise text and numbering against their one-at-a-time meaning."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.people.identity import calendar, check_digit, serial_numbers
from simulator.people.text import digits, matrix, to_arrow

_CHARACTERS = st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=("Cs",))


@given(st.lists(st.text(_CHARACTERS, max_size=9), max_size=30), st.data())
def test_text_columns_are_what_python_would_write(texts: list[str], data: st.DataObject) -> None:
    codes = matrix(texts, 9)
    missing = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), dtype=bool
    )
    wanted = [None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)]
    assert to_arrow(codes, missing).to_pylist() == wanted
    # Shifting the characters within the row changes nothing: zeros are no characters.
    assert to_arrow(np.roll(np.pad(codes, ((0, 0), (0, 4))), 3, axis=1)).to_pylist() == texts


@given(st.lists(st.integers(0, 10**8 - 1), min_size=1, max_size=20))
def test_digits_pad_with_zeros(numbers: list[int]) -> None:
    assert to_arrow(digits(np.array(numbers), 8)).to_pylist() == [f"{n:08d}" for n in numbers]


@given(st.text("0123456789", min_size=17, max_size=17))
def test_check_character_makes_the_weighted_sum_one(first17: str) -> None:
    last = chr(check_digit(matrix([first17]))[0])
    values = [int(c) for c in first17] + [10 if last == "X" else int(last)]
    assert sum(v * 2 ** (17 - i) for i, v in enumerate(values)) % 11 == 1


@given(st.dates())
def test_calendar_number(day: object) -> None:
    assert int(calendar(np.array([day], dtype="datetime64[D]").astype(np.int64))[0]) == int(
        str(day).replace("-", "")
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-9000, -8996), st.booleans()), min_size=1, max_size=200
    ),
    st.data(),
)
def test_serials_are_unique_per_county_and_day_and_tell_the_sex(
    people: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    county, born, female = (np.array(column) for column in zip(*people, strict=True))
    twin = np.full(len(people), -1)
    for i in range(0, len(people) - 1, 2):
        if data.draw(st.booleans()):
            twin[i], twin[i + 1] = i + 1, i
            county[i + 1], born[i + 1] = county[i], born[i]
    serial = serial_numbers(county, born, female, twin)
    assert len({*zip(county.tolist(), born.tolist(), serial.tolist(), strict=True)}) == len(people)
    assert serial.min() >= 0 and serial.max() <= 999
    assert (serial % 2 == np.where(female, 0, 1)).all()
    second = np.flatnonzero(twin >= 0)
    assert (np.abs(serial[second] - serial[twin[second]]) <= 3).all()
