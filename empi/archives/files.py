"""Files in the import layout of a source: CSV with a byte-order mark, or a workbook with title, note and header."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from empi.archives.layout import Layout
from lake.contracts import TableContract

Rows = Sequence[Mapping[str, str]]
_BOM = b"\xef\xbb\xbf"


def _as_csv(head: list[str], rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return _BOM + text.getvalue().encode()


def _as_workbook(title: str, org: str, data_date: date, head: list[str], rows: list[list[str]]) -> bytes:
    """A workbook as the county platform makes it: merged title, note, header in the third line, all cells text."""
    import xlsxwriter

    made = io.BytesIO()
    book = xlsxwriter.Workbook(made, {"in_memory": True})
    # a fixed date of creation: the same content is the same file
    book.set_properties({"title": title, "created": datetime(data_date.year, data_date.month, data_date.day)})
    bold = book.add_format({"bold": True, "align": "center"})
    sheet = book.add_worksheet(title)
    sheet.merge_range(0, 0, 0, len(head) - 1, f"{org} {title}导入表", bold)
    sheet.write_string(1, 0, f"生成日期:{data_date.isoformat()}  共{len(rows)}条")
    sheet.write_row(2, 0, head, bold)
    for r, row in enumerate(rows, start=3):
        for c, value in enumerate(row):
            if value:
                sheet.write_string(r, c, value)
    book.close()
    return made.getvalue()


def write(
    folder: Path, contract: TableContract, way: Layout, data_date: date, rows: Rows, extra: Sequence[str]
) -> bool:
    """Write ``<folder>/<institution>/<table>_<date>_<fingerprint>.csv|.xlsx`` for the service account alone (0600).

    Args:
        rows: cells of each row by field, texts as the institution writes them.
        extra: fields to write besides those that the institution delivers.

    Returns:
        whether it is new: a file of that content that is there already stays as it is.
    """
    names = [f.name for f in contract.fields if f.name in way.columns or f.name in extra]
    head = [contract.field(n).physical_name for n in names]
    cells = [[row.get(n, "") for n in names] for row in rows]
    digest = hashlib.sha256(repr((head, cells)).encode()).hexdigest()[:8]
    suffix = "xlsx" if way.is_workbook else "csv"
    path = folder / way.org_code / f"{contract.name}_{data_date:%Y%m%d}_{digest}.{suffix}"
    if path.exists():
        return False
    content = (
        _as_workbook(contract.label_zh, way.org_code, data_date, head, cells)
        if way.is_workbook
        else _as_csv(head, cells)
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    waiting = path.with_name(f".{path.name}.part")
    handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    waiting.rename(path)
    return True
