"""Reads checks and the simple formulas of workbooks: numbers, cells, ranges, SUM, + - * / and comparisons. No eval."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from openpyxl.utils import get_column_letter, range_boundaries

from lake.errors import MedlakeError

_TOKEN = re.compile(
    r"\s*(?:(?P<ref>(?:'[^'\[\]]{1,31}'!|[\w（）]{1,31}!)?\$?[A-Z]{1,3}\$?\d{1,7}(?::\$?[A-Z]{1,3}\$?\d{1,7})?)"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<name>SUM)(?=\s*\()|(?P<op><=|>=|<>|[-+*/(),<>=]))"
)
_SIGNS = ("=", "<>", "<=", ">=", "<", ">")

#: Cells that one range may name.
_CELLS = 10_000

Value = Callable[[str], float]


@dataclass(frozen=True)
class Outcome:
    """Both sides of a check as numbers."""

    text: str
    left: float
    sign: str
    right: float

    @property
    def holds(self) -> bool:
        close = abs(self.left - self.right) < 1e-6
        return {"=": close, "<>": not close, "<=": self.left <= self.right or close,
                ">=": self.left >= self.right or close, "<": self.left < self.right and not close,
                ">": self.left > self.right and not close}[self.sign]  # fmt: skip


def cell_of(reference: str, sheet: str) -> str:
    """``B5``, ``$B$5``, ``'表 1'!B5`` as ``表 1!B5``."""
    place, bang, cell = reference.rpartition("!")
    return f"{place.strip(chr(39)) if bang else sheet}!{cell.replace('$', '')}"


class _Reader:
    def __init__(self, text: str, sheet: str, value: Value) -> None:
        self.text, self.sheet, self.value, self.at, self.depth = text, sheet, value, 0, 0
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():  # a formula of one cell: tens of tokens
            found = _TOKEN.match(text, place)
            if not found or len(self.tokens) > 500:
                raise MedlakeError("E634", detail=text[:80])
            kind = found.lastgroup or ""
            self.tokens.append((kind, found.group(kind)))
            place = found.end()

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def take(self, expected: str = "") -> tuple[str, str]:
        token = self.peek()
        if not token[0] or (expected and token[1] != expected):
            raise MedlakeError("E634", detail=self.text[:80])
        self.at += 1
        return token

    def total(self) -> float:
        result = self.term()
        while self.peek()[1] in ("+", "-"):
            result = result + self.term() if self.take()[1] == "+" else result - self.term()
        return result

    def term(self) -> float:
        result = self.factor()
        while self.peek()[1] in ("*", "/"):
            if self.take()[1] == "*":
                result *= self.factor()
            else:
                below = self.factor()
                result = result / below if below else 0.0
        return result

    def factor(self) -> float:
        self.depth += 1
        if self.depth > 200:
            raise MedlakeError("E634", detail=self.text[:80])
        kind, text = self.take()
        if text == "-":
            return -self.factor()
        if kind == "number":
            return float(text)
        if kind == "ref" and ":" not in text:
            return self.value(cell_of(text, self.sheet))
        if kind == "name":
            self.take("(")
            result = self.part()
            while self.peek()[1] == ",":
                self.take()
                result += self.part()
            self.take(")")
            return result
        if text == "(":
            result = self.total()
            self.take(")")
            return result
        raise MedlakeError("E634", detail=self.text[:80])

    def part(self) -> float:
        """One argument of SUM: a range or a value."""
        kind, text = self.peek()
        if kind != "ref" or ":" not in text:
            return self.total()
        self.take()
        place, bang, cells = text.rpartition("!")
        first, top, last, bottom = range_boundaries(cells.replace("$", ""))
        if None in (first, top, last, bottom) or (last - first + 1) * (bottom - top + 1) > _CELLS:
            raise MedlakeError("E634", detail=self.text[:80])
        prefix = place.strip("'") if bang else self.sheet
        return sum(
            self.value(f"{prefix}!{get_column_letter(c)}{r}")
            for r in range(top, bottom + 1)
            for c in range(first, last + 1)
        )


def number(text: str, sheet: str, value: Value) -> float:
    """The value of a formula such as ``=SUM(B5:B9)+C2``.

    Raises:
        MedlakeError: E634, it is more than this reads.
    """
    reader = _Reader(text.lstrip().removeprefix("="), sheet, value)
    result = reader.total()
    if reader.peek()[0]:
        raise MedlakeError("E634", detail=text[:80])
    return result


def check(text: str, sheet: str, value: Value) -> Outcome:
    """Both sides of a check such as ``表1!B5 = 表1!B6 + 表2!C3``.

    Raises:
        MedlakeError: E634, it cannot be read.
    """
    reader = _Reader(text, sheet, value)
    left = reader.total()
    sign = reader.take()[1]
    if sign not in _SIGNS:
        raise MedlakeError("E634", detail=text[:80])
    right = reader.total()
    if reader.peek()[0]:
        raise MedlakeError("E634", detail=text[:80])
    return Outcome(text, left, sign, right)
