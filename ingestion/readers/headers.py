"""Which column is which: header cells matched to the contract by source name, English name or Chinese label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lake.contracts import TableContract

#: A header must lie within the first rows; titles and notes come before it.
HEADER_ROWS = 20

_UNIT = re.compile(r"[(（\[【][^()（）\[\]【】]*[)）\]】]$")
_BLANK = re.compile(r"[\s\u3000\u00a0\ufeff*＊]+")


def _fold(text: str) -> str:
    return _BLANK.sub("", text).upper()


@lru_cache(maxsize=64)
def _names(table: TableContract) -> dict[str, str]:
    """Folded spelling -> English name. The source's name wins over the English name, that over the label."""
    found: dict[str, str] = {}
    for spelling in ("physical_name", "name", "label_zh"):
        for f in table.fields:
            found.setdefault(_fold(getattr(f, spelling)), f.name)
    return found


@dataclass(frozen=True)
class Header:
    """Position of each contract field in a file, and the columns that the contract does not know."""

    row: int  # index of the header among the rows looked at
    width: int
    fields: dict[str, int]
    unknown: dict[str, int]

    def missing(self, table: TableContract) -> list[str]:
        return [f.physical_name for f in table.fields if f.name not in self.fields]


def match(cells: Sequence[str], names: dict[str, str], row: int) -> Header:
    """Match one row of cells. A unit in brackets after the name is ignored; a repeated name counts once."""
    fields: dict[str, int] = {}
    unknown: dict[str, int] = {}
    for position, cell in enumerate(cells):
        folded = _fold(cell)
        if not folded:
            continue
        name = names.get(folded) or names.get(_UNIT.sub("", folded))
        if name is not None and name not in fields:
            fields[name] = position
        else:
            unknown[cell.strip() if cell.strip() not in unknown else f"{cell.strip()}#{position + 1}"] = (
                position
            )
    return Header(row, len(cells), fields, unknown)


def find(rows: Sequence[Sequence[str]], table: TableContract) -> Header | None:
    """The header among the first rows: the first that names most fields, at least two (or all, if fewer)."""
    names = _names(table)
    best: Header | None = None
    for row, cells in enumerate(rows[:HEADER_ROWS]):
        found = match(cells, names, row)
        if best is None or len(found.fields) > len(best.fields):
            best = found
        if len(best.fields) == len(table.fields):
            break
    return best if best and len(best.fields) >= min(2, len(table.fields)) else None
