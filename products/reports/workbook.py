"""A county's workbook from outside: looked at before it is opened, shown as a grid, filled in the same layout."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from openpyxl import Workbook, load_workbook
from openpyxl.cell.cell import Cell

from lake.errors import MedlakeError

#: Limits of an upload. A county's report is some tens of kilobytes; these leave room and stop bombs.
MAX_BYTES = 10 * 1024 * 1024
_MAX_UNPACKED = 100 * 1024 * 1024
_MAX_RATIO = 200
_MAX_PARTS = 1000
_MAX_ROWS, _MAX_COLUMNS = 2000, 200

_FORBIDDEN = (
    "vbaproject",
    "externallinks/",
    "embeddings/",
    "activex/",
    "xl/connections",
    "customui",
    "querytables/",
)


def _refuse(place: str, detail: str) -> MedlakeError:
    return MedlakeError("E629", place=place, detail=detail)


def inspect(content: bytes, place: str) -> None:
    """Refuse what is no plain workbook: zip and XML bombs, macros, links outside, entities.

    Raises:
        MedlakeError: E629 with the reason.
    """
    if len(content) > MAX_BYTES:
        raise _refuse(place, "文件过大 / too large")
    try:
        archive = zipfile.ZipFile(BytesIO(content))
    except (zipfile.BadZipFile, ValueError, OSError):
        raise _refuse(place, "不是 xlsx 文件 / not an xlsx file") from None
    parts = archive.infolist()
    if len(parts) > _MAX_PARTS or "xl/workbook.xml" not in archive.namelist():
        raise _refuse(place, "不是普通工作簿 / not a plain workbook")
    names = [part.filename.lower() for part in parts]
    if len(set(names)) != len(names):
        raise _refuse(place, "重复的部件 / a part stands twice")
    left = _MAX_UNPACKED
    for part, name in zip(parts, names, strict=True):  # tens of parts, each read within the limit
        if part.flag_bits & 1 or ".." in name or name.startswith("/") or any(f in name for f in _FORBIDDEN):
            raise _refuse(place, "含宏、外部链接、嵌入对象或加密 / macros, links, objects or encryption")
        try:
            with archive.open(part) as stream:
                left -= _read(stream, min(left, max(part.compress_size, 1024) * _MAX_RATIO), name, place)
        except (
            zipfile.BadZipFile,
            zipfile.LargeZipFile,
            NotImplementedError,
            OSError,
            RuntimeError,
            EOFError,
        ):
            raise _refuse(place, "压缩包损坏 / damaged archive") from None
        except Exception as error:
            if isinstance(error, MedlakeError):
                raise
            raise _refuse(place, "压缩包损坏 / damaged archive") from None


def _read(stream: Any, limit: int, name: str, place: str) -> int:
    """Unpack a part within a limit (sizes in headers may lie); entities are looked for on the way."""
    read, tail = 0, b""
    while block := stream.read(1 << 16):
        read += len(block)
        if read > limit:
            raise _refuse(place, "解压后过大（疑似压缩炸弹）/ unpacks to too much")
        # UTF-16 would hide a DOCTYPE from this search, and no spreadsheet program writes it
        seen = tail + block
        if name.endswith((".xml", ".rels", ".vml")) and (
            b"<!DOCTYPE" in seen
            or b"<!ENTITY" in seen
            or (read == len(block) and block[:2] in (b"\xff\xfe", b"\xfe\xff"))
        ):
            raise _refuse(place, "含 XML 实体定义 / XML entities")
        tail = block[-16:]
    return read


def load(content: bytes, place: str) -> Workbook:
    """Open a workbook that :func:`inspect` let pass (raises as it does)."""
    inspect(content, place)
    try:
        book = load_workbook(BytesIO(content), keep_links=False)
    except Exception as error:  # whatever a damaged file makes openpyxl raise
        raise _refuse(place, type(error).__name__) from None
    if (
        any(s.max_row > _MAX_ROWS or s.max_column > _MAX_COLUMNS for s in book.worksheets)
        or not book.worksheets
    ):
        raise _refuse(place, "表过大 / a sheet is too large")
    return book


def preview(content: bytes, place: str) -> list[dict[str, Any]]:
    """Each sheet as a grid for the page: ``name, rows`` of cells ``cell, text, kind, colspan, rowspan``.

    ``kind``: label, formula or blank (which may be bound). Cells inside a merged one are left out.
    """
    sheets = []
    for sheet in load(content, place).worksheets:
        spans = {(m.min_row, m.min_col): m for m in sheet.merged_cells.ranges}
        rows = [
            [_shown(cell, spans.get((cell.row, cell.column))) for cell in row if isinstance(cell, Cell)]
            for row in sheet.iter_rows(max_col=sheet.max_column + 2)  # a blank form ends where its labels end
        ]
        sheets.append({"name": sheet.title, "rows": rows})
    return sheets


def _shown(cell: Cell, span: Any) -> dict[str, Any]:
    value = cell.value
    kind = (
        "formula"
        if cell.data_type == "f"
        else "label"
        if isinstance(value, str) and value.strip()
        else "blank"
    )
    return {
        "cell": cell.coordinate, "kind": kind, "text": "" if value is None else str(value)[:200],
        "colspan": span.max_col - span.min_col + 1 if span else 1,
        "rowspan": span.max_row - span.min_row + 1 if span else 1,
    }  # fmt: skip


def target(book: Workbook, cell: str) -> Cell:
    """The cell ``表1!B5``, if a figure may stand there.

    Raises:
        MedlakeError: E631 no such cell, a formula, a label, or inside a merged cell.
    """
    sheet, _, place = cell.rpartition("!")
    if sheet not in book.sheetnames:
        raise MedlakeError("E631", cell=cell[:60], detail="没有这个工作表 / no such sheet")
    try:
        found = book[sheet][place]
    except (ValueError, KeyError, IndexError):
        raise MedlakeError("E631", cell=cell[:60], detail="没有这个单元格 / no such cell") from None
    if not isinstance(found, Cell):
        raise MedlakeError("E631", cell=cell[:60], detail="在合并单元格内部 / inside a merged cell")
    if found.data_type == "f":
        raise MedlakeError("E631", cell=cell, detail="公式单元格保持不变 / a formula stays as it is")
    if isinstance(found.value, str) and found.value.strip():
        raise MedlakeError("E631", cell=cell, detail="有文字 / it holds a label")
    return found


def save(book: Workbook, path: Path) -> None:
    """Write the filled workbook (0600); formulas are computed anew when it is opened."""
    book.calculation.fullCalcOnLoad = True
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    book.save(draft)
    draft.chmod(0o600)
    draft.replace(path)
