"""Correction workbooks that come back: each cell that differs from what was handed out is one record.

The loop over rows is what the library gives: Python objects, row by row. Typing and codes go by field, as sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from ingestion import codemaps, conform, typing_sql, units
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.rows import _connection
from ingestion.readers.workbook import cell_text
from lake import correction_book as book
from lake.contracts import Field, TableContract, table_contract

_NEEDED = {*book.HIDDEN}


@dataclass(frozen=True)
class Changed:
    """One changed cell; ``line`` is Excel's row, ``column`` counts from 0."""

    table: TableContract
    field: str
    line: int
    column: int
    hidden: dict[str, str]
    before: str
    after: str

    @property
    def cell(self) -> str:
        return f"{column_name(self.column)}{self.line}"


def column_name(column: int) -> str:
    """Excel's letters of a column counted from 0."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _delivered_on(file: LandedFile) -> str:
    """The day of delivery, which landing puts into the path (``correction/2026-11-19/C201/...``)."""
    for part in PurePosixPath(file.source_file).parts:
        try:
            return date.fromisoformat(part).isoformat()
        except ValueError:
            continue
    return ""


def _shown(value: Any) -> str:
    return cell_text(value).strip()


def _reject(file: LandedFile, sheet: str, code: str, cell: Changed, **context: Any) -> Reject:
    f = next((x for x in cell.table.fields if x.name == cell.field), None)
    type_zh, type_en = conform.TYPE_NAMES.get(f.type if f else "", ("文本", "text"))
    told = {"sheet": sheet, "cell": cell.cell, "field": cell.field, "label": f.label_zh if f else cell.field}
    told |= {"type_zh": type_zh, "type_en": type_en, "code_system": f.code_system if f else ""}
    raw = json.dumps({**cell.hidden, "field": cell.field, "after": cell.after}, ensure_ascii=False)
    return Reject(file, "correction", code, raw, cell.line, sheet, cell.cell, file.org_code, told | context)


def _cells(
    file: LandedFile, sheet: str, names: list[str], rows: Iterator[list[Any]], sink: Sink
) -> Iterator[Changed]:
    at = {n: i for i, n in enumerate(names) if n}
    for line, row in enumerate(rows, book.HEAD_ROWS + 1):
        if not any(c != "" for c in row):
            continue
        hidden = {n: _shown(row[at[n]]) if at[n] < len(row) else "" for n in book.HIDDEN}
        try:
            table = table_contract(hidden[book.TABLE])
            given = json.loads(hidden[book.GIVEN])
            whole = isinstance(given, dict) and hidden[book.KEY] and hidden[book.HASH] and hidden[book.ORG]
        except (KeyError, ValueError):
            whole = False
        if not whole:
            told = {"sheet": sheet, "line": line}
            sink.reject(Reject(file, "correction", "E432", "", line, sheet, "", file.org_code, told))
            continue
        for name, before in given.items():
            if name not in at:
                continue
            after = _shown(row[at[name]]) if at[name] < len(row) else ""
            if after != str(before or "").strip():
                yield Changed(table, name, line, at[name], hidden, str(before or ""), after)


def _codes(field: Field, table: TableContract, org_code: str) -> dict[str, str] | None:
    """Text in lower case -> code; None where the platform has no list of the system."""
    if not field.code_system:
        return None
    return codemaps.code_map(field.code_system, feed=table.feed, org_code=org_code) or None


def _typed(field: Field, texts: list[str]) -> list[tuple[bool, str | None]]:
    """(whether it is of the field's type, its canonical text: as DuckDB writes the typed value, instants UTC)."""
    with _connection().cursor() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("given", pa.table({"i": list(range(len(texts))), "x": pa.array(texts, pa.string())}))
        broken = typing_sql.scientific("c") if conform.is_identifier(field) else "false"
        return con.execute(
            f"""SELECT c IS NULL OR (v IS NOT NULL AND NOT {broken}), CAST(v AS VARCHAR) FROM (
                SELECT i, c, {typing_sql.typed(field.type, "c")} AS v FROM (
                    SELECT i, {conform.clean(field, "x", False)} AS c FROM given)) ORDER BY i"""
        ).fetchall()


def _hand(file: LandedFile, sheet: str, cells: list[Changed], sink: Sink) -> None:
    """Give the sink the accepted among the changed cells of one table and field, in the sheet's order."""
    table, name = cells[0].table, cells[0].field
    field = next((f for f in table.fields if f.name == name), None)
    how = units.derived(table.name, [f.name for f in table.fields])
    converted = {how.value, how.unit, how.loinc} if how else set()
    if field is None or field.is_key or name in units.derived_names() or name in converted:
        for c in cells:
            sink.reject(_reject(file, sheet, "E437", c))
        return
    known = _codes(field, table, file.org_code)
    after, before = _typed(field, [c.after for c in cells]), _typed(field, [c.before for c in cells])
    kept: list[dict[str, str | None]] = []
    lines: list[int] = []
    for c, (ok, value), (_, old) in zip(cells, after, before, strict=True):
        if c.hidden[book.ORG] != file.org_code:
            sink.reject(_reject(file, sheet, "E433", c))
        elif not ok or (value is None and field.required):
            sink.reject(_reject(file, sheet, "E435", c))
        elif known is not None and value is not None and value.lower() not in known:
            sink.reject(_reject(file, sheet, "E436", c))
        else:
            if known is not None and value is not None:
                value = known[value.lower()]
            if value == old:
                continue  # written in another way: nothing changed
            row: dict[str, str | None] = {
                "table_name": table.name,
                "record_key": c.hidden[book.KEY],
                "field": name,
                "value_before": old,
                "value_after": value,
                "record_hash": c.hidden[book.HASH],
                "handed_out_on": c.hidden[book.ON],
            }
            told = json.dumps([file.org_code, *row.values()], ensure_ascii=False)
            row["correction_id"] = hashlib.sha256(told.encode()).hexdigest()[:32]
            row |= {"handed_in_on": _delivered_on(file), "cell": c.cell, "source_sheet": sheet}
            kept.append(row)
            lines.append(c.line)
    if kept:
        columns = {n: pa.array([r[n] for r in kept], pa.string()) for n in kept[0]}
        sink.rows(file, "correction", pa.table(columns | {"source_line": pa.array(lines, pa.int64())}))


def read(file: LandedFile, sink: Sink) -> None:
    """Read one workbook; a sheet without the platform's hidden row is no sheet of records."""
    from python_calamine import CalamineError, CalamineWorkbook

    found = False
    try:
        with CalamineWorkbook.from_path(str(file.path)) as opened:
            for sheet in opened.sheet_names:
                rows = iter(opened.get_sheet_by_name(sheet).iter_rows())
                names = [_shown(c) for c in next(rows, [])]
                if not set(names) >= _NEEDED:
                    continue
                found = True
                next(rows, None)  # labels
                groups: dict[tuple[str, str], list[Changed]] = {}
                for cell in _cells(file, sheet, names, rows, sink):
                    groups.setdefault((cell.table.name, cell.field), []).append(cell)
                for cells in groups.values():
                    _hand(file, sheet, cells, sink)
    except (CalamineError, OSError, ValueError) as error:
        return reject_file(sink, file, "E209", detail=why(error))
    if not found:
        reject_file(sink, file, "E431")
