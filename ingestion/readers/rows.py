"""From columns of text under a header to rows for the sink: what CSV and workbooks share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers import layout
from ingestion.readers.base import LandedFile, Sink, text_array
from ingestion.readers.headers import Header
from ingestion.readers.layout import LeftOut
from ingestion.units.sql import DECLARED
from lake.contracts import TableContract

_MONTHS_WIDE = 3


def tell_header(
    file: LandedFile, table: TableContract, sink: Sink, head: Header, *, sheet: str | None = None
) -> None:
    """Notices about a header: unknown and missing columns, units, several rows, two blocks, months as columns."""
    for block in (head, *head.blocks):
        if block.unknown:
            sink.notice(file, "E221", sheet=sheet, columns="、".join(block.unknown))
        if missing := block.missing(table):
            sink.notice(file, "E222", sheet=sheet, columns="、".join(missing))
        for doubt in block.doubts:
            sink.notice(file, "E227", sheet=sheet, **doubt)
    if head.blocks:
        n = len(head.blocks) + 1
        zh = f"表头并排出现 {n} 次，每行按 {n} 条记录读取"
        en = f"the header stands {n} times side by side, each row is read as {n} records"
        sink.notice(file, "E226", sheet=sheet, what_zh=zh, what_en=en)
    months = [label for label in head.unknown if layout.is_month(label.split("/")[-1])]
    if len(months) >= _MONTHS_WIDE:
        zh = f"{len(months)} 个月份列（宽表）未拆成记录，内容原样保留在 _extra；请导出一月一行的明细"
        en = f"{len(months)} columns are months (a wide table): kept in _extra, not turned into records; export a row a month"
        sink.notice(file, "E226", sheet=sheet, what_zh=zh, what_en=en)


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    """One in-memory DuckDB of this process: opening one costs more than folding a small file's extras."""
    return duckdb.connect(config={"threads": 1})


def extras(
    names: list[str], columns: list[pa.ChunkedArray], declared: Mapping[str, str], size: int
) -> pa.Array:
    """Unknown columns folded into one JSON text per row, empty values left out, null where nothing is left.

    Args:
        declared: units that the header declares, by field; they go in under ``#units``.
        size: number of rows.
    """
    fixed = f"{json.dumps(DECLARED)}: {json.dumps(dict(declared), ensure_ascii=False)}" if declared else ""
    if not names:
        return text_array([f"{{{fixed}}}"] * size) if fixed else pa.nulls(size, pa.string())
    parts = ["?::VARCHAR" if fixed else "NULL::VARCHAR"]
    parts += [
        f"CASE WHEN \"{i}\" <> '' THEN ? || ': ' || CAST(to_json(\"{i}\") AS VARCHAR) END"
        for i in range(len(names))
    ]
    data = pa.table({str(i): c for i, c in enumerate(columns)})
    with _connection().cursor() as connection:
        connection.register("data", data)
        kept = f"list_filter([{', '.join(parts)}], x -> x IS NOT NULL)"
        given = ([fixed] if fixed else []) + [json.dumps(n, ensure_ascii=False) for n in names]
        text = "CASE WHEN len(k) > 0 THEN '{' || array_to_string(k, ', ') || '}' END"
        found = connection.execute(
            f"SELECT {text} AS x FROM (SELECT {kept} AS k FROM data)", given
        ).to_arrow_table()
    return found["x"].combine_chunks()


def _labels(head: Header, table: TableContract) -> dict[int, set[str]]:
    """The first two columns of a header and how their labels may be printed again."""
    found: dict[int, set[str]] = {}
    for name, position in sorted(head.fields.items(), key=lambda f: f[1])[:2]:
        f = table.field(name)
        found[position] = {f.physical_name, f.name, f.label_zh}
    return found


def hand_over(
    file: LandedFile,
    table: TableContract,
    sink: Sink,
    cells: list[pa.ChunkedArray],
    lines: npt.NDArray[np.int64],
    head: Header,
    left_out: LeftOut,
    *,
    sheet: str | None = None,
) -> None:
    """Give the sink the records among some rows: each block of the header its own.

    A row of a sheet, or of a block, that holds blanks only is no record; a CSV line with a blank in it is one.
    """
    keep = layout.records(cells, _labels(head, table), lines, left_out)
    for block in (head, *head.blocks):
        picked = [*block.fields.values(), *block.unknown.values()]
        delivered = sheet is None and not head.blocks
        rows = np.flatnonzero(keep if delivered else keep & _any_filled([cells[i] for i in picked]))
        if not len(rows):
            continue
        whole = len(rows) == len(lines)
        taken = pa.array(rows)
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            n: cells[i] if whole else cells[i].take(taken) for n, i in block.fields.items()
        }
        columns["source_line"] = pa.array(lines[rows], pa.int64())
        if sheet is not None:
            columns["source_sheet"] = text_array([sheet] * len(rows))
        if block.unknown or block.units:
            unknown = [cells[i] if whole else cells[i].take(taken) for i in block.unknown.values()]
            columns["_extra"] = extras(list(block.unknown), unknown, block.units, len(rows))
        sink.rows(file, table.name, pa.table(columns))


def _any_filled(columns: list[pa.ChunkedArray]) -> npt.NDArray[np.bool_]:
    """Rows in which some cell holds more than blanks; decided by the first column for nearly all."""
    size = len(columns[0])
    found = np.zeros(size, bool)
    for column in columns:
        rest = np.flatnonzero(~found)
        if not len(rest):
            break
        part = column if len(rest) == size else column.take(pa.array(rest))
        filled = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(part), ""), False)
        found[rest] = np.asarray(filled.to_numpy(zero_copy_only=False), bool)
    return found
