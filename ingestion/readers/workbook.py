"""Workbooks as counties export them (.xlsx, .xlsm, .xls, .xlsb, .ods): one table a sheet, on as many sheets as months.

Title rows, headers of several rows, merged cells, two blocks side by side, a second header further down, totals and
notes: ``headers`` and ``layout`` say what is what, and what was decided is told (E226). Row numbers are Excel's. The
loop over rows is what the library gives: Python objects, row by row; rows are handed over in chunks, so memory is
that of the library's own sheet and of one chunk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.readers import headers, layout, xlsx_parts
from ingestion.readers.base import LandedFile, Sink, reject_file, text_array, why
from ingestion.readers.headers import Header
from ingestion.readers.layout import LeftOut
from ingestion.readers.rows import hand_over, tell_header
from lake.contracts import TableContract

#: Rows handed over at once.
CHUNK_ROWS = 20_000

Row = list[Any]


def cell_text(value: Any) -> str:
    """A cell as Excel would show it unformatted. More than 15 digits have become a double: scientific, as seen."""
    if type(value) is float and -1e15 < value < 1e15:  # nearly all
        text = repr(value)
        return text[:-2] if text.endswith(".0") else text
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if abs(value) < 1e15:
            return str(int(value)) if value == int(value) else repr(value)
        return f"{value:.14E}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return ""


def _percent_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return cell_text(value)
    return cell_text(float(round(value * 100, 10))) + "%"


@dataclass
class _Sheet:
    """One sheet while it is read; ``merges`` are ((first row, column), (last row, column)), 0-based."""

    file: LandedFile
    table: TableContract
    sink: Sink
    name: str
    merges: list[tuple[tuple[int, int], tuple[int, int]]]
    percent: dict[int, set[int]]
    date1904: bool
    left_out: LeftOut = field(default_factory=LeftOut)
    filled_down: dict[int, int] = field(default_factory=dict)
    sections: int = 0
    headers_seen: int = 0
    shifted: int = 0

    def prepare(self, numbered: Iterable[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        """Rows with merged cells filled: across in a header's rows (done by the caller), down in the body."""
        down: dict[int, list[tuple[int, int]]] = {}
        wide: dict[int, int] = {}
        for (r1, c1), (r2, c2) in self.merges:
            if r2 > r1:
                down.setdefault(r1, []).append((c1, r2))
            else:
                wide[r1] = max(wide.get(r1, 0), c2 - c1 + 1)
        active: dict[int, tuple[int, Any]] = {}
        for number, row in numbered:
            for column, (end, value) in list(active.items()):
                if number > end:
                    del active[column]
                elif column < len(row) and row[column] == "":
                    row[column] = value
                    self.filled_down[column] = self.filled_down.get(column, 0) + 1
            for column, end in down.get(number, ()):
                if column < len(row):
                    active[column] = (end, row[column])
            # a label merged across most of the sheet, alone on its row, is a section's title
            if wide.get(number, 0) >= max(3, len(row) // 2) and sum(1 for c in row if c != "") == 1:
                self.sections += 1
                continue
            yield number, row

    def texts(self, numbered: list[tuple[int, Row]], width: int, dated: set[int]) -> list[pa.ChunkedArray]:
        """All columns of some rows as text."""
        columns = []
        for position, cells in enumerate(
            itertools.zip_longest(*(row[:width] for _, row in numbered), fillvalue="")
        ):
            rows = self.percent.get(position)
            if rows:
                values = [
                    _percent_text(c) if n in rows else cell_text(c)
                    for c, (n, _) in zip(cells, numbered, strict=True)
                ]
            elif self.date1904 and position in dated:
                values = [self._shift(c) for c in cells]
            else:
                values = [c if type(c) is str else cell_text(c) for c in cells]
            columns.append(pa.chunked_array([text_array(values)]))
        empty = pa.chunked_array([text_array([""] * len(numbered))])
        return columns + [empty] * (width - len(columns))

    def _shift(self, value: Any) -> str:
        """A day number of the 1904 system as one of the usual system; real dates calamine has turned already."""
        if isinstance(value, float) and not isinstance(value, bool):
            self.shifted += 1
            return cell_text(value + xlsx_parts.DAYS_1904)
        return cell_text(value)

    def hand(self, numbered: list[tuple[int, Row]], head: Header) -> None:
        """Hand over the records among some rows below one header."""
        dated = {
            p
            for h in (head, *head.blocks)
            for n, p in h.fields.items()
            if self.table.field(n).type in ("date", "timestamp")
        }
        cells = self.texts(numbered, head.width, dated)
        lines = np.array([n + 1 for n, _ in numbered], np.int64)
        hand_over(self.file, self.table, self.sink, cells, lines, head, self.left_out, sheet=self.name)

    def tell(self) -> None:
        """What was decided about the sheet's layout."""
        if told := self.left_out.told():
            self.sink.notice(self.file, "E226", sheet=self.name, **told)
        if self.filled_down:
            count, columns = sum(self.filled_down.values()), len(self.filled_down)
            zh = f"{columns} 列中的纵向合并单元格已向下填充 {count} 处"
            en = f"vertically merged cells of {columns} columns were filled down, {count} cells"
            self.sink.notice(self.file, "E226", sheet=self.name, what_zh=zh, what_en=en)
        if self.sections:
            zh, en = (
                f"{self.sections} 个横向合并的分段标题行未作为记录",
                f"{self.sections} merged section titles are no records",
            )
            self.sink.notice(self.file, "E226", sheet=self.name, what_zh=zh, what_en=en)
        if self.headers_seen > 1:
            zh = f"本表内有 {self.headers_seen} 个不同的表头，各按其下方的行读取"
            en = f"{self.headers_seen} different headers stand on this sheet, each read for the rows below it"
            self.sink.notice(self.file, "E226", sheet=self.name, what_zh=zh, what_en=en)
        if self.shifted:
            zh = f"工作簿使用 1904 日期系统，{self.shifted} 个日期序列号已换算"
            en = f"the workbook uses the 1904 date system, {self.shifted} day numbers were shifted"
            self.sink.notice(self.file, "E226", sheet=self.name, what_zh=zh, what_en=en)


def _spread(rows: list[list[str]], merges: list[tuple[tuple[int, int], tuple[int, int]]]) -> list[list[str]]:
    """The first rows with merged labels in every cell that they span."""
    found = [list(r) for r in rows]
    for (r1, c1), (r2, c2) in merges:
        if r1 >= len(found) or c1 >= len(found[r1]):
            continue
        for r in range(r1, min(r2, len(found) - 1) + 1):
            for c in range(c1, min(c2, len(found[r]) - 1) + 1):
                found[r][c] = found[r1][c1]
    return found


def _again(row: Row, head: Header, table: TableContract, known: Mapping[str, str]) -> Header | None:
    """A different header on a row of the body: it names most of what the present one does, at other places."""
    if not any(
        type(c) is str and c and (c in known or (not c.isascii() and headers.fold(c) in known))
        for c in row[:3]
    ):
        return None
    texts = [c for c in row if isinstance(c, str) and c.strip()]
    if len(texts) < max(2, 0.6 * len(head.fields)):
        return None
    cells = [cell_text(c) for c in row]
    found = headers.match([cells], table, 0, [cells])
    return (
        found if len(found.fields) >= max(2, 0.6 * len(head.fields)) and found.fields != head.fields else None
    )


def _read_sheet(sheet: _Sheet, rows: Iterator[Row]) -> None:
    file, table, sink = sheet.file, sheet.table, sheet.sink
    first = list(itertools.islice(rows, headers.HEADER_ROWS))
    if not any(c != "" for row in first for c in row):
        first = list(itertools.islice(rows, 0, 1_000))  # far below, if anywhere
        if not any(c != "" for row in first for c in row):
            return reject_file(sink, file, "E208", sheet=sheet.name)
        return reject_file(sink, file, "E205", sheet=sheet.name, expected=_expected(table))
    head = headers.find(_spread([[cell_text(c) for c in row] for row in first], sheet.merges), table)
    if head is None:
        return reject_file(sink, file, "E205", sheet=sheet.name, expected=_expected(table))
    tell_header(file, table, sink, head, sheet=sheet.name)
    sheet.headers_seen = 1
    known = headers.names(table)  # once: it looks whether somebody accepted a synonym meanwhile
    start = head.row + 1
    body = enumerate(itertools.chain(first[start:], rows), start)
    waiting: list[tuple[int, Row]] = []
    for number, row in sheet.prepare(body):
        if number == start and layout.is_number_row([cell_text(c) for c in row]):
            sheet.left_out.add("numbers", np.array([number + 1]))
            continue
        if (other := _again(row, head, table, known)) is not None:
            if waiting:
                sheet.hand(waiting, head)
            head, waiting = other, []
            sheet.headers_seen += 1
            tell_header(file, table, sink, head, sheet=sheet.name)
            continue
        waiting.append((number, row))
        if len(waiting) >= CHUNK_ROWS:
            sheet.hand(waiting, head)
            waiting = []
    if waiting:
        sheet.hand(waiting, head)
    sheet.tell()


def _expected(table: TableContract) -> str:
    return "、".join(f.physical_name for f in table.fields[:6])


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read every sheet of one workbook; a sheet that cannot be used is rejected, the others go on."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_path(str(file.path)) as book:
            parts = xlsx_parts.read(file.path)
            for name in book.sheet_names:
                try:
                    found = book.get_sheet_by_name(name)
                except CalamineError as error:
                    reject_file(sink, file, "E209", sheet=name, detail=why(error))
                    continue
                merges = list(found.merged_cell_ranges or [])
                sheet = _Sheet(
                    *(file, table, sink, name), merges, xlsx_parts.percent_cells(parts, name), parts.date1904
                )
                _read_sheet(sheet, iter(found.iter_rows()))
    except (CalamineError, OSError, ValueError) as error:
        reject_file(sink, file, "E209", detail=why(error))
