"""XLSX workbooks as counties export them: title rows, notes, several sheets by month, numbers as text.

Row numbers are Excel's. The loop over cells is what the library gives: Python objects, row by row.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from ingestion.readers import headers
from ingestion.readers.base import LandedFile, Sink, extras_json, reject_file, text_array, why
from lake.contracts import TableContract

#: A row that begins so and has at most two cells is the form's foot, not a record.
_FOOT = ("合计", "总计", "小计", "制表", "填表", "审核人", "备注", "注:", "注：", "说明")


def cell_text(value: Any) -> str:
    """A cell as Excel would show it unformatted. More than 15 digits have become a double: scientific, as seen."""
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


def _is_foot(cells: list[str]) -> bool:
    filled = [c for c in cells if c.strip()]
    return not filled or (len(filled) <= 2 and filled[0].strip().startswith(_FOOT))


def _read_sheet(file: LandedFile, table: TableContract, sink: Sink, name: str, rows: list[list[Any]]) -> None:
    if not any(c != "" for row in rows for c in row):
        return reject_file(sink, file, "E208", sheet=name)
    head = headers.find([[cell_text(c) for c in row] for row in rows[: headers.HEADER_ROWS]], table)
    if head is None:
        expected = "、".join(f.physical_name for f in table.fields[:6])
        return reject_file(sink, file, "E205", sheet=name, expected=expected)
    if head.unknown:
        sink.notice(file, "E221", sheet=name, columns="、".join(head.unknown))
    if missing := head.missing(table):
        sink.notice(file, "E222", sheet=name, columns="、".join(missing))
    texts = [[c if type(c) is str else cell_text(c) for c in row] for row in rows[head.row + 1 :]]
    kept = [(i, row) for i, row in enumerate(texts, head.row + 2) if not _is_foot(row)]
    if not kept:
        return
    columns: dict[str, pa.Array] = {
        n: text_array([row[i] for _, row in kept]) for n, i in head.fields.items()
    }
    columns["source_line"] = pa.array([i for i, _ in kept], pa.int64())
    columns["source_sheet"] = text_array([name] * len(kept))
    if head.unknown:
        extra = [text_array([row[i] for _, row in kept]) for i in head.unknown.values()]
        columns["_extra"] = extras_json(list(head.unknown), list(extra))
    sink.rows(file, table.name, pa.table(columns))


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read every sheet of one workbook; a sheet that cannot be used is rejected, the others go on."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_path(str(file.path)) as book:
            for name in book.sheet_names:
                try:
                    rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
                except CalamineError as error:
                    reject_file(sink, file, "E209", sheet=name, detail=why(error))
                    continue
                _read_sheet(file, table, sink, name, rows)
    except (CalamineError, OSError, ValueError) as error:
        reject_file(sink, file, "E209", detail=why(error))
