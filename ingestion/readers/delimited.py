"""CSV and its relatives: encoding, separator and header are found, every record keeps its line number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv as pa_csv

from ingestion.readers import headers, records, text
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, text_array, why
from ingestion.readers.layout import LeftOut
from ingestion.readers.rows import hand_over, tell_header
from lake.contracts import TableContract

#: Bytes read at once; a larger file is read in windows that end at a record's end.
WINDOW = 64 * 1024 * 1024

_SEPARATORS = ",\t;|"
#: Bytes among which the header is looked for.
_HEAD = 256 * 1024


def _windows(path: Path, size: int) -> Iterator[bytes]:
    """The file in pieces that end outside quotes after a line break; UTF-16 comes as UTF-8."""
    with path.open("rb") as file:
        rest = b""
        for block in text.blocks(file, size):
            piece = rest + block
            data = np.frombuffer(piece, np.uint8)
            breaks = np.flatnonzero(data == 10)
            if len(breaks) and (data == 34).any():
                outer = breaks[~np.logical_xor.accumulate(data == 34)[breaks]]
                breaks = outer if len(outer) else breaks
            if not len(breaks):
                rest = piece
                continue
            cut = int(breaks[-1]) + 1
            rest = piece[cut:]
            yield piece[:cut]
        if rest:
            yield rest


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(line), delimiter=separator), [])


def _head_rows(head: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """The first rows, and the number of lines up to the end of each: a quoted label may hold a line break."""
    reader = csv.reader(io.StringIO(head), delimiter=separator)
    rows: list[list[str]] = []
    ends: list[int] = []
    try:
        for row in reader:
            rows.append(row)
            ends.append(reader.line_num)
            if len(rows) == headers.HEADER_ROWS:
                break
    except csv.Error:  # a field that never ends: what was read so far
        pass
    return rows, ends


def _find_header(data: bytes, table: TableContract) -> tuple[headers.Header, str, int] | None:
    """The header, the separator under which most of its names are known, and the number of lines up to its end."""
    head = data[:_HEAD].decode("utf-8", "replace")
    lines = head.split("\n")[: headers.HEADER_ROWS]
    best: tuple[headers.Header, str, int] | None = None
    for separator in (s for s in _SEPARATORS if s in head):
        by_line = [_cells(line, separator) for line in lines], list(range(1, len(lines) + 1))
        by_record = _head_rows(head, separator)
        # Mostly every line is a record, and the two ways to read them are the same.
        for rows, ends in [by_record] if by_record == by_line else [by_record, by_line]:
            found = headers.find(rows, table)
            if found and (best is None or len(found.fields) > len(best[0].fields)):
                best = (found, separator, ends[found.row])
        if best and len(best[0].fields) == len(table.fields):
            break
    return best


def _parse(data: bytes, found: records.Records, width: int, separator: str) -> pa.Table:
    """Good records to columns of text. Bad ones lie between runs of good ones and are cut out."""
    names = [str(i) for i in range(width)]
    if not len(found.start):
        return pa.table({n: text_array([]) for n in names})
    jumps = np.flatnonzero(found.start[1:] != found.end[:-1] + 1) + 1
    first = found.start[np.concatenate(([0], jumps))]
    last = found.end[np.concatenate((jumps - 1, [len(found.end) - 1]))]
    good = b"\n".join(data[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True))
    many_lines = bool((np.diff(found.line) > 1).any()) or b'"' in good
    try:
        parsed = pa_csv.read_csv(
            pa.BufferReader(good),
            pa_csv.ReadOptions(column_names=names, block_size=max(1 << 20, min(len(good) + 1, 1 << 24))),
            pa_csv.ParseOptions(delimiter=separator, newlines_in_values=many_lines),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
        if parsed.num_rows == len(found.start):
            return parsed
    except pa.ArrowInvalid:
        pass
    # quotes inside unquoted fields: the parsers disagree on them, so record by record decides
    spans = zip(found.start.tolist(), found.end.tolist(), strict=True)
    rows = [_cells(data[a:b].decode(), separator)[:width] for a, b in spans]
    rows = [r + [""] * (width - len(r)) for r in rows]
    return pa.table({n: text_array([r[i] for r in rows]) for i, n in enumerate(names)})


def _reject_ragged(
    file: LandedFile,
    table: TableContract,
    sink: Sink,
    data: bytes,
    bad: records.Records,
    base: int,
    width: int,
) -> None:
    spans = zip(bad.start.tolist(), bad.end.tolist(), bad.line.tolist(), bad.fields.tolist(), strict=True)
    for start, end, line, fields in spans:  # only the bad ones
        raw = data[start:end].decode("utf-8", "replace")
        context = {"found": fields or "?", "expected": width}
        sink.reject(Reject(file, table.name, "E207", raw, base + line + 1, context=context))


def read(file: LandedFile, table: TableContract, sink: Sink, *, window: int = WINDOW) -> None:
    """Read one delimited file of one table."""
    head: headers.Header | None = None
    separator, encoding, base = ",", None, 0
    left_out = LeftOut()
    try:
        for piece in _windows(file.path, window):
            decoded = text.decode(piece, encoding)
            encoding = decoded.encoding
            data, skip = decoded.data, 0
            if head is None:
                found = _find_header(data, table)
                if found is None:
                    expected = "、".join(f.physical_name for f in table.fields[:6])
                    return reject_file(sink, file, "E205", expected=expected)
                head, separator, skip = found
                tell_header(file, table, sink, head)
            lines_in_piece = data.count(b"\n")
            body = data.split(b"\n", skip)[skip] if data.count(b"\n", 0) >= skip else b""
            for line, raw in decoded.bad.items():
                context = {"encoding": decoded.encoding}
                sink.reject(
                    Reject(file, table.name, "E206", text.shown(raw), base + line + 1, context=context)
                )
            found_records = records.find(body, separator, head.width)
            blank = (found_records.end - found_records.start) == found_records.fields - 1  # separators only
            kept = found_records.take(~blank)
            good = kept.fields == head.width
            _reject_ragged(file, table, sink, body, kept.take(~good), base + skip, head.width)
            whole = kept.take(good)
            parsed = _parse(body, whole, head.width, separator)
            if parsed.num_rows:
                lines = whole.line + (base + skip + 1)
                hand_over(file, table, sink, parsed.columns, lines, head, left_out)
            base += lines_in_piece
        if told := left_out.told():
            sink.notice(file, "E226", **told)
    except OSError as error:
        reject_file(sink, file, "E202", detail=why(error))
