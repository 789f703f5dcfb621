"""Sample files as tables of text: all of their records, under the names that the source gives its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from ingestion.readers.base import text_array
from ingestion.readers.workbook import cell_text
from lake.errors import MedlakeError

#: A header lies within the first rows; titles and notes come before it.
_HEADER_ROWS = 20

#: A sample is looked at as a whole, in memory.
_LARGEST = 256 * 1024 * 1024

_ENCODINGS = ("utf-8-sig", "gb18030", "utf-16")


@dataclass(frozen=True)
class Sample:
    """One kind of record: ``headers`` as written, ``data`` with columns ``c0``, ``c1`` … of text, empty as NULL.

    ``is_grid``: rows and columns, whose readers match headers without the unit in brackets.
    """

    name: str
    headers: list[str]
    data: pa.Table
    is_grid: bool = True


def _table(columns: list[list[str]]) -> pa.Table:
    texts = [[v.strip() or None for v in column] for column in columns]
    return pa.table({f"c{n}": text_array(t) for n, t in enumerate(texts)})


def _header_row(rows: Sequence[Sequence[str]]) -> int:
    """The first row of words alone that names (nearly) as many columns as any other."""

    def named(row: Sequence[str]) -> int:
        words = [c.strip() for c in row if c.strip()]
        is_name = [w for w in words if not w.replace(".", "").replace("-", "").isdigit()]
        return len(set(is_name)) if len(is_name) == len(words) else 0

    found = [named(r) for r in rows[:_HEADER_ROWS]]
    return next(n for n, count in enumerate(found) if count >= 0.8 * max(found))


def _of_rows(name: str, path: Path, rows: list[list[str]]) -> Sample:
    rows = [r for r in rows if any(c.strip() for c in r)]
    if len(rows) < 2:
        raise MedlakeError("E233", place=path.name, detail="records")
    at = _header_row(rows)
    above = rows[at - 1] if at else []
    heads = [c.strip() or (above[n].strip() if n < len(above) else "") for n, c in enumerate(rows[at])]
    wanted = [n for n, h in enumerate(heads) if h]
    body = [r for r in rows[at + 1 :] if sum(1 for c in r if c.strip()) > 1 or len(wanted) == 1]
    if not wanted or not body:
        raise MedlakeError("E233", place=path.name, detail="header or records")
    columns = [[r[n] if n < len(r) else "" for r in body] for n in wanted]
    return Sample(name, [heads[n] for n in wanted], _table(columns))


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    for encoding in ("utf-16", *_ENCODINGS) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else _ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise MedlakeError("E233", place=path.name, detail="encoding")


def _delimited(name: str, path: Path) -> Sample:
    text = _decoded(path)
    first = text.split("\n", 1)[0]
    delimiter = max(",\t;|", key=first.count)
    return _of_rows(name, path, list(csv.reader(io.StringIO(text), delimiter=delimiter)))


def _workbook(name: str, path: Path) -> Sample:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            for sheet in book.sheet_names:
                rows = [[cell_text(c) for c in r] for r in book.get_sheet_by_name(sheet).iter_rows()]
                if sum(1 for r in rows if any(r)) > 1:
                    return _of_rows(name, path, rows)
    except (CalamineError, OSError, ValueError) as error:
        raise MedlakeError("E233", place=path.name, detail=type(error).__name__) from error
    raise MedlakeError("E233", place=path.name, detail="sheets")


def _objects(name: str, path: Path) -> Sample:
    """JSON objects, a line each or as one array; what is nested stays JSON text."""
    with duckdb.connect() as con:
        try:
            relation = con.read_json(str(path), sample_size=-1)
            kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
            texts = [
                f'CAST({"to_json" if "(" in k or k.endswith("[]") else ""}("{n}") AS VARCHAR) AS "{n}"'
                for n, k in kinds.items()
            ]
            found = relation.project(", ".join(texts)).to_arrow_table()
        except duckdb.Error as error:
            raise MedlakeError("E233", place=path.name, detail=type(error).__name__) from error
    if not found.num_rows:
        raise MedlakeError("E233", place=path.name, detail="records")
    heads = list(kinds)
    return Sample(name, heads, found.rename_columns([f"c{n}" for n in range(len(heads))]), is_grid=False)


_READERS = {
    ".csv": _delimited,
    ".txt": _delimited,
    ".tsv": _delimited,
    ".xlsx": _workbook,
    ".xlsm": _workbook,
    ".xls": _workbook,
    ".ods": _workbook,
    ".json": _objects,
    ".ndjson": _objects,
    ".jsonl": _objects,
}


def read(path: Path) -> Sample:
    """All records of one sample file; its name without dates names the sample.

    Raises:
        MedlakeError: E233, it has another format, no named columns or no record.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise MedlakeError("E233", place=path.name, detail=path.suffix or "no such file")
    if path.stat().st_size > _LARGEST:
        raise MedlakeError("E233", place=path.name, detail=f"> {_LARGEST >> 20} MB")
    return reader(path.stem.rstrip("0123456789_- ") or path.stem, path)
