"""Which rows of a spreadsheet are no records: totals, notes, headers printed again, rows of column numbers.

The words are data (``layout.yaml``). What is left out is counted and told, never dropped silently.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

#: What is left out, in the words of the notice.
KINDS = {
    "totals": ("合计/小计行", "rows of totals"),
    "notes": ("注释/签章行", "notes and signatures"),
    "headers": ("重复的表头行", "repeated headers"),
    "numbers": ("列号行", "rows of column numbers"),
}
_BLANKS = r"[\s\x{3000}\x{00a0}\x{feff}]+"
_SHOWN = 5

Mask = npt.NDArray[np.bool_]


@lru_cache(maxsize=1)
def words() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return found


@lru_cache(maxsize=1)
def not_units() -> frozenset[str]:
    """Words in brackets after a header that are no unit."""
    return frozenset(words()["not_units"])


def is_month(label: str) -> bool:
    """Whether a header names a month: the table is wide by month."""
    return re.match(words()["month"], label.strip()) is not None


class LeftOut:
    """Counts what was left out of one file or sheet, with the numbers of the first rows."""

    def __init__(self) -> None:
        self.count: dict[str, int] = defaultdict(int)
        self.first: dict[str, list[int]] = defaultdict(list)

    def add(self, kind: str, rows: npt.NDArray[np.int64]) -> None:
        self.count[kind] += len(rows)
        self.first[kind] += rows[: _SHOWN - len(self.first[kind])].tolist()

    def told(self) -> dict[str, str] | None:
        """Context of the notice E226; None when nothing was left out."""
        if not any(self.count.values()):
            return None
        zh, en = [], []
        for kind, count in self.count.items():
            if not count:
                continue
            listed = ", ".join(map(str, self.first[kind])) + (" …" if count > _SHOWN else "")
            zh.append(f"{KINDS[kind][0]} {count} 行未作为记录（第 {listed} 行）")
            en.append(f"{count} {KINDS[kind][1]} are no records (rows {listed})")
        return {"what_zh": "；".join(zh), "what_en": "; ".join(en)}


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column, "")


def _first_filled(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The first of a row's leading cells that holds anything, blanks taken out."""
    found = columns[0]
    for other in columns[1:3]:
        found = pc.if_else(pc.equal(found, ""), other, found)
    return found


def _mask(values: Any) -> Mask:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


def _filled(columns: list[pa.ChunkedArray], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    total = np.zeros(len(rows), np.int64)
    for column in columns:
        total += _mask(pc.not_equal(pc.utf8_trim_whitespace(column.take(pa.array(rows))), ""))
    return total


def records(
    cells: list[pa.ChunkedArray], header: dict[int, set[str]], lines: npt.NDArray[np.int64], left_out: LeftOut
) -> Mask:
    """Which rows are records.

    Args:
        cells: all columns of some rows, text.
        header: position -> the column's labels, of two columns at most; a row that repeats them is a header again.
        lines: row number of each, for what is told.
    """
    columns = [_text(c) for c in cells]
    size = len(columns[0])
    keep = np.ones(size, bool)
    first = _first_filled(columns)
    known = [_mask(pc.is_in(columns[i], pa.array(sorted(labels)))) for i, labels in header.items()]
    again = np.logical_and.reduce(known) if len(known) >= 2 else np.zeros(size, bool)
    packed = pc.replace_substring_regex(first, _BLANKS, "")
    total = _mask(pc.match_substring_regex(packed, words()["totals"])) & ~again
    note = np.flatnonzero(_mask(pc.match_substring_regex(packed, words()["notes"])) & ~total & ~again)
    note = note[_filled(columns, note) <= words()["note_cells"]] if len(note) else note
    for kind, rows in (
        ("headers", np.flatnonzero(again)),
        ("totals", np.flatnonzero(total)),
        ("notes", note),
    ):
        if len(rows):
            keep[rows] = False
            left_out.add(kind, lines[rows])
    return keep


def is_number_row(cells: list[str]) -> bool:
    """Whether a row only numbers the columns: 1 2 3 …, or 甲 乙 1 2 3 …, as statistical forms do."""
    filled = [c.strip() for c in cells if c.strip()]
    while filled and filled[0] in "甲乙丙丁":
        filled = filled[1:]
    try:
        numbers = [float(c) for c in filled]
    except ValueError:
        return False
    return (
        len(numbers) >= 5
        and numbers == [numbers[0] + i for i in range(len(numbers))]
        and numbers[0] in (0, 1)
    )
