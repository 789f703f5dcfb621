"""What calamine does not tell of an .xlsx: the date system, and which cells Excel shows as a percentage.

Only small parts of the archive are read whole. A sheet's XML is scanned, in pieces, only when the workbook has
percent formats at all.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REL = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_PACKAGE = "{http://schemas.openxmlformats.org/package/2006/relationships}"
_BUILT_IN_PERCENT = {9, 10}
_PIECE = 1 << 20
_CELL = re.compile(rb"<c\b[^>]*?>")
_PLACE = re.compile(rb'\br="([A-Z]{1,3})([0-9]+)"')
_STYLE = re.compile(rb'\bs="([0-9]+)"')

#: Days between Excel's two date systems.
DAYS_1904 = 1462


@dataclass(frozen=True)
class Parts:
    """``percent`` holds the indices of cell formats that show percentages, ``sheets`` each sheet's XML by name."""

    path: Path
    date1904: bool = False
    percent: frozenset[int] = frozenset()
    sheets: dict[str, str] = field(default_factory=dict)


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element | None:
    try:
        data = archive.read(name)
    except KeyError:
        return None
    if (
        b"<!DOCTYPE" in data or b"<!ENTITY" in data
    ):  # no workbook has one; entities could expand without bound
        return None
    return ElementTree.fromstring(data)


def _percent(styles: ElementTree.Element | None) -> frozenset[int]:
    if styles is None:
        return frozenset()
    formats = styles.iterfind(f"{_MAIN}numFmts/{_MAIN}numFmt")
    own = {int(f.get("numFmtId", "0")) for f in formats if "%" in f.get("formatCode", "")}
    cells = styles.iterfind(f"{_MAIN}cellXfs/{_MAIN}xf")
    return frozenset(
        i for i, xf in enumerate(cells) if int(xf.get("numFmtId", "0")) in own | _BUILT_IN_PERCENT
    )


def read(path: Path) -> Parts:
    """The parts of a workbook; of another format or a damaged one, what an ordinary workbook has."""
    try:
        with zipfile.ZipFile(path) as archive:
            book = _xml(archive, "xl/workbook.xml")
            relations = _xml(archive, "xl/_rels/workbook.xml.rels")
            if book is None or relations is None:
                return Parts(path)
            targets = {
                r.get("Id"): r.get("Target", "") for r in relations.iterfind(f"{_PACKAGE}Relationship")
            }
            sheets = {
                s.get("name", ""): "xl/" + targets.get(s.get(_REL), "").removeprefix("/xl/")
                for s in book.iterfind(f"{_MAIN}sheets/{_MAIN}sheet")
            }
            options = book.find(f"{_MAIN}workbookPr")
            is_1904 = options is not None and options.get("date1904", "0") in ("1", "true")
            return Parts(path, is_1904, _percent(_xml(archive, "xl/styles.xml")), sheets)
    except (zipfile.BadZipFile, ElementTree.ParseError, OSError, ValueError):
        return Parts(path)


def _cells(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while piece := stream.read(_PIECE):
        data = rest + piece
        last = 0
        for found in _CELL.finditer(data):
            yield found.group()
            last = found.end()
        rest = data[last:][-4096:] if b"<c" in data[last:] else b""


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1


def percent_cells(parts: Parts, sheet: str) -> dict[int, set[int]]:
    """Column -> rows (both 0-based) of cells shown as percentages. The loop is over cells that have such a format."""
    found: dict[int, set[int]] = {}
    if not parts.percent or sheet not in parts.sheets:
        return found
    try:
        with zipfile.ZipFile(parts.path) as archive, archive.open(parts.sheets[sheet]) as stream:
            for tag in _cells(stream):
                style, place = _STYLE.search(tag), _PLACE.search(tag)
                if style and place and int(style.group(1)) in parts.percent:
                    found.setdefault(_column(place.group(1)), set()).add(int(place.group(2)) - 1)
    except (KeyError, OSError, zipfile.BadZipFile):
        return {}
    return found
