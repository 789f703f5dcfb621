"""A large workbook: DuckDB's ``excel`` extension writes the sheets, this file joins them to one package.

XlsxWriter needs over 50 s for 300,000 rows x 40 columns, the extension seconds. It writes one sheet a file, so the
compressed sheets are copied as they are into one workbook, with our styles and the sheet 导出说明 in front.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from importlib import resources
from pathlib import Path
from xml.sax.saxutils import quoteattr

import duckdb

_NS = "http://schemas.openxmlformats.org"
_MAIN, _REL = f"{_NS}/spreadsheetml/2006/main", f"{_NS}/officeDocument/2006/relationships"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_FORMATS = (
    "General",
    "yyyy\\-mm\\-dd",
    "yyyy\\-mm\\-dd\\ hh:mm",
    "hh:mm:ss",
    "yyyy\\-mm\\-dd\\ hh:mm:ss",
    "General",
)


@lru_cache(maxsize=1)
def extension() -> Path | None:
    """The extension's file from its wheel ``duckdb-extension-excel``; None when the wheel is not installed."""
    try:
        root = resources.files("duckdb_extension_excel")
    except ModuleNotFoundError:
        return None
    found = Path(str(root)) / "extensions" / f"v{duckdb.__version__}" / "excel.duckdb_extension"
    return found if found.is_file() else None


def load(con: duckdb.DuckDBPyConnection) -> bool:
    """Load the extension from its wheel, never from the network; False when it is not there."""
    path = extension()
    if path is None:
        return False
    con.execute(f"LOAD '{path!s}'")
    return True


def write_sheet(con: duckdb.DuckDBPyConnection, select: str, path: Path) -> int:
    """Write a query to a workbook of one sheet with a header; returns its rows."""
    quoted = str(path).replace("'", "''")
    done = con.execute(f"COPY ({select}) TO '{quoted}' (FORMAT xlsx, HEADER true)").fetchone()
    return int(done[0]) if done else 0


def _styles() -> str:
    formats = "".join(
        f'<numFmt numFmtId="{164 + n}" formatCode={quoteattr(f)}/>' for n, f in enumerate(_FORMATS)
    )
    cells = "".join(
        f'<xf numFmtId="{164 + n}" xfId="0" applyNumberFormat="1"/>' for n in range(len(_FORMATS))
    )
    return (
        f'{_HEAD}<styleSheet xmlns="{_MAIN}"><numFmts count="{len(_FORMATS)}">{formats}</numFmts>'
        '<fonts count="1"><font><sz val="10"/><name val="微软雅黑"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
        '</fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        f'<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="{len(_FORMATS)}">{cells}</cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
    )


def _package(names: list[str]) -> dict[str, str]:
    """The parts around the sheets."""
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbers = range(1, len(names) + 1)
    overrides = "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{kind}.worksheet+xml"/>'
        for n in numbers
    )
    sheets = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>'
        for n, name in enumerate(names, start=1)
    )
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{_REL}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in numbers
    )
    package = f"{_NS}/package/2006"
    return {
        "[Content_Types].xml": f'{_HEAD}<Types xmlns="{package}/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{kind}.styles+xml"/>{overrides}</Types>',
        "_rels/.rels": f'{_HEAD}<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="rId1" Type="{_REL}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_REL}"><sheets>{sheets}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'{_HEAD}<Relationships xmlns="{package}/relationships">{relations}'
        f'<Relationship Id="rId{len(names) + 1}" Type="{_REL}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": _styles(),
    }


def _copy_member(source: zipfile.ZipFile, name: str, target: zipfile.ZipFile, as_name: str) -> None:
    """Copy a member's compressed bytes: a sheet of 600 MB is not unpacked and packed again."""
    old = source.getinfo(name)
    assert source.fp is not None and target.fp is not None
    source.fp.seek(old.header_offset)
    header = source.fp.read(30)
    skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    source.fp.seek(old.header_offset + 30 + skip)
    new = zipfile.ZipInfo(as_name, (2000, 1, 1, 0, 0, 0))
    new.compress_type, new.CRC = old.compress_type, old.CRC
    new.compress_size, new.file_size = old.compress_size, old.file_size
    new.header_offset = target.fp.tell()
    target.fp.write(new.FileHeader(zip64=None))
    left = old.compress_size
    while left and (block := source.fp.read(min(left, 1 << 20))):
        target.fp.write(block)
        left -= len(block)
    target.filelist.append(new)
    target.NameToInfo[as_name] = new
    target.start_dir = target.fp.tell()  # where the directory of the package begins
    target._didModify = True  # type: ignore[attr-defined]


def join(path: Path, sheets: list[tuple[str, Path]]) -> None:
    """Join workbooks of one sheet each to one: ``sheets`` are (name, file) in order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in _package([name for name, _ in sheets]).items():
            target.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
        for number, (_, part) in enumerate(sheets, start=1):
            with zipfile.ZipFile(part) as source:
                _copy_member(source, "xl/worksheets/sheet1.xml", target, f"xl/worksheets/sheet{number}.xml")
