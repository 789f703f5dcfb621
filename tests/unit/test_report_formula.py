"""The checks' language: what it computes, and that nothing else can be said in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import MedlakeError
from products.reports import formula

CELLS = {"表1!B5": 5.0, "表1!B6": 2.0, "表1!B7": 3.0, "表 2!C1": 7.0}


def value(cell: str) -> float:
    return CELLS.get(cell, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("=B5", 5), ("SUM(B5:B7)", 10), ("SUM(B5:B6,'表 2'!C1)*2", 28), ("-(B5-B6)/3", -1), ("$B$5+'表 2'!$C$1", 12), ("B5/0", 0)],
)  # fmt: skip
def test_numbers(text: str, expected: float) -> None:
    assert formula.number(text, "表1", value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("B5 = B6 + B7", True), ("表1!B5 > '表 2'!C1", False), ("B5<>B6", True), ("SUM(B6:B7) >= 5", True), ("B6 <= 1", False)],
)  # fmt: skip
def test_checks(text: str, holds: bool) -> None:
    assert formula.check(text, "表1", value).holds is holds


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "B5", "B5 = ", "=cmd|'/c'!A1", "VLOOKUP(B5,A1:B2,2)=1",
     "(" * 300 + "1=1", "SUM(A1:XFD1048576)=0", "1=1=1"]
)  # fmt: skip
def test_nothing_else_is_read(text: str) -> None:
    with pytest.raises(MedlakeError, match="E634"):
        formula.check(text, "表1", value)


@given(st.text(alphabet="B5SUM()+-*/=<>!:' ,$1表", max_size=40))
def test_any_text_is_computed_or_refused(text: str) -> None:
    try:
        formula.check(text, "表1", value)
    except MedlakeError as error:
        assert error.code == "E634"
