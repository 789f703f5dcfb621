"""Writes an export's workbook: data sheets, and the sheet 导出说明 that says what this file is.

Rows stream to disk (XlsxWriter's constant memory), so a large export needs little memory. The same data and request
give the same bytes: no clock, no machine name goes into the file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from lake.errors import MedlakeError
from products.export_query import Header

#: Rows that an Excel sheet can hold, the header included.
SHEET_ROWS = 1_048_576

#: A text that begins so is taken for a formula once it passes through CSV.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

#: One fixed instant instead of the clock, so that bytes repeat.
_CREATED = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)

_NOTE = "导出说明"
_SAMPLE = 200


def guard(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet could run it."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _width(values: Iterable[Any]) -> float:
    """Column width in characters: a Chinese one counts for two."""
    longest = max(
        (
            sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in str(v))
            for v in values
            if v is not None
        ),
        default=0,
    )
    return float(min(max(longest + 3, 8), 46))


def sheet_name(title_zh: str, number: int) -> str:
    """A legal sheet name, numbered from the second on."""
    kept = "".join(c for c in title_zh if c not in "[]:*?/\\'")[:26] or "数据"
    return kept if number == 1 else f"{kept}({number})"


class _Sheets:
    """The data sheets of one workbook, the next one opened when one is full."""

    def __init__(
        self, book: xlsxwriter.Workbook, headers: Sequence[Header], title_zh: str, rows_per_sheet: int
    ):
        self.book, self.headers, self.title_zh, self.limit = book, headers, title_zh, rows_per_sheet
        font = {"font_name": "微软雅黑", "font_size": 10, "valign": "vcenter"}
        self.head = book.add_format(
            font | {"bold": True, "bg_color": "#0F5C63", "font_color": "#FFFFFF", "border": 1, "border_color": "#C9D6D8",
                    "text_wrap": True, "align": "center"}
        )  # fmt: skip
        self.styles: dict[str, Format] = {
            "text": book.add_format(font | {"num_format": "@"}),
            "flag": book.add_format(font | {"align": "center"}),
            "number": book.add_format(font),
            "date": book.add_format(font | {"num_format": "yyyy-mm-dd", "align": "center"}),
            "instant": book.add_format(font | {"num_format": "yyyy-mm-dd hh:mm", "align": "center"}),
        }
        self.widths = [_width([h.label_zh]) for h in headers]
        self.count, self.row = 0, 0
        self.sheet: Worksheet

    def learn(self, rows: list[tuple[Any, ...]]) -> None:
        """Set the widths from the first rows."""
        for at, header in enumerate(self.headers):
            shown = (
                [row[at] for row in rows] if header.kind in {"text", "number"} else ["2026-11-20 00:00"[:10]]
            )
            self.widths[at] = max(self.widths[at], _width(shown))

    def open(self) -> None:
        self.count += 1
        self.sheet = self.book.add_worksheet(sheet_name(self.title_zh, self.count))
        self.sheet.freeze_panes(1, 0)
        self.sheet.set_row(0, 26)
        self.sheet.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})
        for at, (header, width) in enumerate(zip(self.headers, self.widths, strict=True)):
            self.sheet.set_column(at, at, width)
            self.sheet.write_string(0, at, guard(header.label_zh), self.head)
        self.row = 0

    def close(self) -> None:
        self.sheet.autofilter(0, 0, max(self.row, 1), len(self.headers) - 1)

    def write(self, values: tuple[Any, ...]) -> None:
        if self.row + 1 >= self.limit:
            self.close()
            self.open()
        self.row += 1
        for at, (header, value) in enumerate(zip(self.headers, values, strict=True)):
            if value is None:
                continue
            style = self.styles[header.kind]
            if header.kind in {"text", "flag"}:
                status = self.sheet.write_string(self.row, at, guard(str(value)), style)
            elif header.kind == "number":
                status = self.sheet.write_number(self.row, at, float(value), style)
            else:
                status = self.sheet.write_datetime(self.row, at, value, style)
            if status:  # XlsxWriter drops a text that is too long and says so by its return value only
                raise MedlakeError("E627", place=header.field, columns=header.label_zh)


def _write_note(book: xlsxwriter.Workbook, facts: list[tuple[str, str]], headers: Sequence[Header]) -> None:
    font = {"font_name": "微软雅黑", "font_size": 10, "valign": "top", "text_wrap": True}
    title = book.add_format(
        font | {"bold": True, "font_size": 14, "font_color": "#0F5C63", "text_wrap": False}
    )
    label, plain = (
        book.add_format(font | {"font_color": "#53686D"}),
        book.add_format(font | {"num_format": "@"}),
    )
    head = book.add_format(font | {"bold": True, "bottom": 1, "bottom_color": "#0F5C63"})
    sheet = book.add_worksheet(_NOTE)
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 18)
    sheet.set_column(1, 1, 52)
    sheet.set_column(2, 4, 14)
    sheet.write_string(0, 0, _NOTE, title)
    line = 2
    for name, value in facts:
        sheet.write_string(line, 0, name, label)
        sheet.write_string(line, 1, guard(value), plain)
        line += 1
    line += 1
    for at, name in enumerate(("序号", "列名", "字段", "敏感级别", "单位")):
        sheet.write_string(line, at, name, head)
    for number, header in enumerate(headers, start=1):
        shown = (str(number), header.label_zh, header.field, str(header.level), header.unit)
        for at, value in enumerate(shown):
            sheet.write_string(line + number, at, guard(value), plain)


def write_workbook(
    path: Path,
    headers: Sequence[Header],
    rows: Iterable[tuple[Any, ...]],
    *,
    title_zh: str,
    facts: Any,
    rows_per_sheet: int = SHEET_ROWS,
) -> tuple[int, int]:
    """Write the workbook; returns (rows written, data sheets).

    Args:
        rows: in the order of ``headers``. They are taken one by one: XlsxWriter's interface is a cell at a time.
        facts: called with (rows written, sheets) once all rows are in; gives the lines of 导出说明.
        rows_per_sheet: header included; a sheet that is full is followed by another.

    Raises:
        MedlakeError: E627, a text does not fit into a cell.
    """
    options = {
        "constant_memory": True,
        "tmpdir": str(path.parent),  # rows are personal data: not into /tmp
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    written = 0
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties({"title": title_zh, "author": "Medlake", "created": _CREATED})
        sheets = _Sheets(book, headers, title_zh, rows_per_sheet)
        source = iter(rows)
        sample = list(islice(source, _SAMPLE))
        sheets.learn(sample)
        sheets.open()
        for values in chain(sample, source):
            sheets.write(values)
            written += 1
        sheets.close()
        _write_note(book, facts(written, sheets.count), headers)
    return written, sheets.count
