"""A file of any origin as batches of text: one column per field, and ``line``, the line a person sees in an editor.

CSV is decoded and split by Arrow in blocks, a workbook read row by row, Parquet by row groups: no file is in memory as
a whole but a workbook's sheet. No value of a row enters an error.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.contracts import TableContract
from lake.errors import MedlakeError
from quality.entry.files.columns import Columns, match, recognised

_BLOCK = 8 << 20
_ROWS = 65_536
_HEADER_ROWS = 20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def unreadable(path: Path, detail: str) -> MedlakeError:
    return MedlakeError("E445", place=path.name, detail=detail)


@dataclass
class Source:
    """A file that is being read: ``batches`` once; afterwards ``skipped`` counts rows with another number of columns."""

    columns: Columns
    batches: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))
    skipped: list[int] = field(default_factory=list)


def _schema(columns: Columns) -> pa.Schema:
    return pa.schema([("line", pa.int64()), *((f, pa.string()) for f in columns.at)])


def _encoding(path: Path) -> str:
    """``utf-8``, ``utf-16`` by its mark, else ``gb18030``, which has GBK in it."""
    with path.open("rb") as file:
        start = file.read(4)
    for mark, code in _MARKS:
        if start.startswith(mark):
            return code
    for code in ("utf-8", "gb18030"):
        decoder = codecs.getincrementaldecoder(code)()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    decoder.decode(block)
                decoder.decode(b"", True)
        except UnicodeDecodeError:
            continue
        return code
    raise unreadable(path, "UTF-8 ✗, UTF-16 ✗, GB18030 ✗")


def _header(path: Path, code: str, table: TableContract) -> tuple[list[str], str]:
    try:
        with path.open(encoding="utf-8-sig" if code == "utf-8" else code, newline="") as file:
            start = file.read(1 << 20)
    except UnicodeError as error:
        raise unreadable(path, code) from error
    if not start.strip():
        raise unreadable(path, "0 B")
    best: tuple[tuple[int, int], list[str], str] | None = None
    for delimiter in ",\t;|":
        try:
            labels = next(csv.reader(io.StringIO(start), delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
        rank = (recognised(labels, table), len(labels))
        if best is None or rank > best[0]:
            best = (rank, labels, delimiter)
    if best is None:
        raise unreadable(path, "header")
    return best[1], best[2]


def _csv(path: Path, table: TableContract, mapping: Mapping[str, str]) -> Source:
    from pyarrow import csv as arrow_csv

    code = _encoding(path)
    labels, delimiter = _header(path, code, table)
    source = Source(match(labels, table, mapping, path.name))
    places = [f"c{i}" for i in range(len(labels))]
    first = 2 + sum(label.count("\n") for label in labels)

    def skip(row: Any) -> str:
        source.skipped.append(row.number or 0)
        lost[0] += 1 + row.text.count("\n")
        return "skip"

    lost = [0]

    def batches() -> Iterator[pa.RecordBatch]:
        line, gone = first, 0
        read = arrow_csv.ReadOptions(
            encoding=code, column_names=places, skip_rows_after_names=1, block_size=_BLOCK, use_threads=False
        )
        parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        try:
            for batch in arrow_csv.open_csv(path, read, parse, convert):
                # a row is as many lines as its cells hold line breaks, and one
                breaks = pa.array([0] * 0, pa.int64())
                counts = [
                    pc.fill_null(pc.count_substring(c, "\n"), 0) for c in batch.columns if _has_break(c)
                ]
                if counts:
                    total = counts[0]
                    for more in counts[1:]:
                        total = pc.add(total, more)
                    breaks = pc.subtract(pc.cumulative_sum(pc.cast(total, pa.int64())), total)
                lines = pa.array(range(line, line + batch.num_rows), pa.int64())
                line += batch.num_rows
                if len(breaks):
                    lines = pc.add(lines, breaks)
                    line += pc.sum(total).as_py()
                picked = [batch.column(n) for n in source.columns.at.values()]
                yield pa.RecordBatch.from_arrays([lines, *picked], schema=_schema(source.columns))
                line, gone = line + lost[0] - gone, lost[0]
        except (pa.ArrowException, UnicodeError) as error:  # their texts quote the row
            raise unreadable(path, f"CSV, line {line}") from error

    source.batches = batches()
    return source


def _has_break(column: pa.Array) -> bool:
    found = pc.any(pc.match_substring(column, "\n"))
    return bool(found.as_py())


def _text(value: Any) -> str | None:
    """A cell as text: 1.0 is 1, a date its day, an empty cell nothing."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else str(value)


def _xlsx(path: Path, table: TableContract, mapping: Mapping[str, str]) -> Source:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(str(path))
        sheets = [workbook.get_sheet_by_name(n) for n in workbook.sheet_names]
    except (CalamineError, OSError) as error:
        raise unreadable(path, "xlsx") from error
    best: tuple[int, int, Any, list[str]] | None = None
    for sheet in sheets:
        for number, row in enumerate(sheet.iter_rows()):
            if number >= _HEADER_ROWS:
                break
            labels = [_text(c) or "" for c in row]
            rank = recognised(labels, table) or sum(x in mapping.values() for x in labels)
            if rank and (best is None or rank > best[0]):
                best = (rank, number, sheet, labels)
    if best is None:
        raise MedlakeError("E446", place=path.name, table=table.name, detail="✗")
    _, header, sheet, labels = best
    source = Source(match(labels, table, mapping, path.name))
    start = (sheet.start or (0, 0))[0]

    def batches() -> Iterator[pa.RecordBatch]:
        waiting: list[list[Any]] = []
        # a workbook's cells come one by one: there is no set form of reading them
        for number, row in enumerate(sheet.iter_rows()):
            if number <= header:
                continue
            cells = [_text(row[n]) if n < len(row) else None for n in source.columns.at.values()]
            if any(c is not None for c in cells):
                waiting.append([start + number + 1, *cells])
            if len(waiting) == _ROWS:
                yield _batch(waiting, source.columns)
                waiting = []
        if waiting:
            yield _batch(waiting, source.columns)

    source.batches = batches()
    return source


def _batch(rows: list[list[Any]], columns: Columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), _schema(columns).types, strict=True)],
        schema=_schema(columns),
    )


def _parquet(path: Path, table: TableContract, mapping: Mapping[str, str]) -> Source:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "Parquet") from error
    labels = file.schema_arrow.names
    source = Source(match(labels, table, mapping, path.name))

    def batches() -> Iterator[pa.RecordBatch]:
        line = 1
        picked = [labels[n] for n in source.columns.at.values()]
        for batch in file.iter_batches(_ROWS, columns=picked):
            lines = pa.array(range(line, line + batch.num_rows), pa.int64())
            line += batch.num_rows
            try:
                made = [pc.cast(batch.column(n), pa.string()) for n in picked]
            except pa.ArrowException as error:
                raise unreadable(path, "Parquet: nested") from error
            yield pa.RecordBatch.from_arrays([lines, *made], schema=_schema(source.columns))

    source.batches = batches()
    return source


def open_source(path: Path, table: TableContract, mapping: Mapping[str, str]) -> Source:
    """Recognise a file by its name's end (anything that is no workbook and no Parquet is CSV) and its header.

    Raises:
        MedlakeError: E445 it cannot be read; E446 its header does not fit.
    """
    if not path.is_file():
        raise unreadable(path, "✗")
    suffix = path.suffix.lower()
    try:
        if suffix in (".xlsx", ".xls", ".xlsm", ".ods"):
            return _xlsx(path, table, mapping)
        if suffix in (".parquet", ".pq"):
            return _parquet(path, table, mapping)
        return _csv(path, table, mapping)
    except OSError as error:
        raise unreadable(path, error.strerror or type(error).__name__) from error
