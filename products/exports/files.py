"""Writes an export's files: XLSX (formatted when small, in bulk when large) and CSV with BOM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from lake.duck import literal
from products import export_sheet
from products.exports import bulk
from products.exports.query import Header

#: Rows up to which XlsxWriter formats the workbook (0.1 s a thousand rows of 30 columns); above, the extension writes.
FORMATTED_ROWS = 20_000

Facts = Callable[[int, int], list[tuple[str, str]]]

#: A text that begins so is taken for a formula by a spreadsheet once it passes through CSV.
_FORMULA = r"'^[=+\-@\t\r\n]'"


def _safe(column: str, kind: str) -> str:
    """SQL of a column whose texts cannot run as a formula: an apostrophe stands in front."""
    if kind != "text":
        return column
    return f"CASE WHEN regexp_matches({column}, {_FORMULA}) THEN '''' || {column} ELSE {column} END"


def _name(label: str) -> str:
    return '"' + export_sheet.guard(label).replace('"', "'") + '"'


def select(headers: Sequence[Header], mark: str, *, texts: bool = False) -> str:
    """SELECT list over the table ``job`` with headers as names, and the watermark as the last column of every row."""
    names: list[str] = []
    parts: list[str] = []
    for number, header in enumerate(headers):  # tens of columns
        label = header.label_zh
        while label in names:  # two columns may have one label: a header stands once
            label += "·"
        names.append(label)
        shown = _safe(f"c{number}", header.kind)
        if texts and header.kind == "instant":
            shown = f"strftime(c{number}, '%Y-%m-%d %H:%M')"
        parts.append(f"{shown} AS {_name(label)}")
    quoted = mark.replace("'", "''")
    return ", ".join([*parts, f"'{quoted}' AS {_name('导出水印')}"])


def _notes(
    con: duckdb.DuckDBPyConnection, lines: list[tuple[str, str]], headers: Sequence[Header], path: Path
) -> None:
    con.execute("CREATE OR REPLACE TEMP TABLE note (n INTEGER, a VARCHAR, b VARCHAR, c VARCHAR)")
    rows = [(name, value, "") for name, value in lines] + [
        ("", "", ""),
        ("列名", "字段", "级别 / 单位 / 方式"),
    ]
    rows += [
        (h.label_zh, h.field, f"{h.level} 级 {h.unit} {'已脱敏' if h.act == 'mask' else ''}") for h in headers
    ]
    listed = (", ".join(literal(export_sheet.guard(cell)) for cell in row) for row in rows)
    con.execute(f"INSERT INTO note VALUES {', '.join(f'({n}, {cells})' for n, cells in enumerate(listed))}")
    bulk.write_sheet(con, 'SELECT a AS "导出说明", b AS "内容", c AS "备注" FROM note ORDER BY n', path)


def write_xlsx(
    con: duckdb.DuckDBPyConnection, path: Path, headers: Sequence[Header], title_zh: str, mark: str, facts: Facts,
    *, rows: int, rows_per_sheet: int = export_sheet.SHEET_ROWS, formatted_rows: int = FORMATTED_ROWS,
) -> tuple[int, int]:  # fmt: skip
    """Write the table ``job`` to a workbook; returns (rows written as counted while writing, data sheets)."""
    if rows <= formatted_rows or not bulk.load(con):
        listed = ", ".join(f"c{n}" for n in range(len(headers)))
        quoted = mark.replace("'", "''")
        cursor = con.execute(f"SELECT {listed}, '{quoted}' FROM job")

        def blocks() -> Iterator[tuple[Any, ...]]:
            while block := cursor.fetchmany(2000):
                yield from block

        marked = [export_sheet.Header(h.field, h.label_zh, h.kind, h.level, h.unit, "") for h in headers]
        marked.append(export_sheet.Header("watermark", "导出水印", "text", 1, "", ""))
        return export_sheet.write_workbook(
            path,
            marked,
            blocks(),
            title_zh=title_zh,
            facts=facts,
            rows_per_sheet=rows_per_sheet,
        )
    listed = select(headers, mark)
    limit = rows_per_sheet - 1
    parts: list[tuple[str, Path]] = []
    written = 0
    for number in range(max(1, -(-rows // limit))):  # a sheet holds a million rows
        part = path.with_name(f"part{number}.xlsx")
        written += bulk.write_sheet(
            con,
            f"SELECT {listed} FROM job WHERE rowid >= {number * limit} AND rowid < {(number + 1) * limit}",
            part,
        )
        parts.append((export_sheet.sheet_name(title_zh, number + 1), part))
    note = path.with_name("note.xlsx")
    _notes(con, facts(written, len(parts)), headers, note)
    bulk.join(path, [("导出说明", note), *parts])
    for _, part in [*parts, ("", note)]:
        part.unlink()
    return written, len(parts)


def write_csv(
    con: duckdb.DuckDBPyConnection, path: Path, headers: Sequence[Header], mark: str, facts: Facts
) -> tuple[int, int]:
    """Write the table ``job`` as UTF-8 with BOM, which Excel needs to read Chinese; facts go into ``.说明.txt``."""
    body = path.with_suffix(".body")
    quoted = str(body).replace("'", "''")
    done = con.execute(
        f"COPY (SELECT {select(headers, mark, texts=True)} FROM job) TO '{quoted}' (FORMAT csv, HEADER true)"
    ).fetchone()
    written = int(done[0]) if done else 0
    lines = "".join(f'"# {name}：{value}"\r\n'.replace("\n\n", "\n") for name, value in facts(written, 1))
    with path.open("wb") as target, body.open("rb") as source:
        target.write("\ufeff".encode())
        while block := source.read(1 << 20):
            target.write(block)
        target.write(lines.encode())  # after the rows: a reader that counts lines knows them by '#'
    body.unlink()
    return written, 1
