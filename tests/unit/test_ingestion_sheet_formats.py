"""Workbooks of other programs: .xls (Excel 97), .xlsb (binary) and .ods (LibreOffice), with what each tells us."""

from __future__ import annotations

import base64
import struct
import zipfile
import zlib
from pathlib import Path

from ingestion.readers import workbook
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

HTN = contract("public_health").tables["htn_visit"]

#: A sheet with a title, a header of two rows with merged cells, and 档案ID merged over two records; made with xlwt 1.3.
_XLS = (
    "eNrtWE1IVFEU/u597zmj+DNOGmggg5CludEg2uhoVNYisQQLCcyfIUPRGNrUIk0TApGCIEjaCG7aWG36of9di8CoRREEWrRqFVS0"
    "UF/nnHdfjTYLB0wq3ve455577j3fPe/+vZ8Xs4VzU7dK57EC9bCw5GYjK8WmKGX7hQio3nVZ9fMwJTfAP4XsME1kloP7ec9DPIc8"
    "3/PQuGk/JQm8p3QUJ9E8OJCIrSN2SQydimOoI6lwjSz5KJGooiK7RW4QeUNaPhDZIJYJkXXUdk61YzbeXLXTrOIjulzq8sG8d8Tn"
    "rVhqUIxnvIqHLimvrYPG5InO/r+zoszOxTRo3poSA4lkZ/8cimgCp/HVjQFf/J36JBbY19euQPbvy+2hNPbL2gaG4R6TBT6GXHyz"
    "uEYrNIePL6BVjltODtSbyYYL460Xrzwet6E424/dILW7d18vq0TBDSyoHYnKIVGiI7GO8VZa2G01JBpZtNXmMKXs+siyXZ8nuyGX"
    "ZA8KRC+UPRGhc33h+ueXB7pa4h1iGZaT3nsebOZbgItz7EHO+VLjiOSaKvHYJnJEWDeJXiqyiFpSXtFSbJS9o9LmvNRWUD/bBa/i"
    "W1L0raSPfTp4t2zsQ7yS9Jmm+TNFM6/jUyinweohf75GUa2q1eRVxr24nytzdrwTWfLbORLWERO7ax56BVhEjqiFIh/RGEFGhy9L"
    "PFQaDyUeLL2SP55eSYsvs4WpZP1k0iuYuF6bvj1dCSuzaGGxDacWFsfcg5UmIkt4skx7S5h4+h/SmFjCVau5Rd8ETDR2GhZbWMIm"
    "HtvEwxy2cLQLx1nFHB9p/h3KbTMnSqJUchde6Rcs1OsoboupIcWegwABAgQIECBAgABrB34/1fL25b2vO+ZrIGT+6yxSWgp+k/y3"
    "OIRBuk7Rh+keDFCexOmM1s9GOMrnUqv08f8XMg5T70n0oUvi6Mt4/dLXnEq9n1U7RtZuC2Xa/1Imcf7h/n8AVdnfzg=="
)


def read(path: Path, content: bytes | None = None) -> Collected:
    sink = Collected()
    workbook.read(landed(path, content), HTN, sink)
    return sink


def test_xls_with_merged_header_and_body(tmp_path: Path) -> None:
    sink = read(tmp_path / "htn_visit_1.xls", zlib.decompress(base64.b64decode(_XLS)))
    got = [
        (r["source_line"], r["visit_id"], r["archive_id"], r["sbp_mmhg"], r["dbp_mmhg"])
        for r in sink.tables["htn_visit"]
    ]
    assert got == [(4, "V1", "A1", "140", "90.5"), (5, "V2", "A1", "150", "95")]


def _record(number: int, data: bytes = b"") -> bytes:
    """One BIFF12 record: number and length as 7-bit groups."""

    def groups(value: int) -> bytes:
        out = bytearray()
        while True:
            out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
            value >>= 7
            if not value:
                return bytes(out)

    head = bytes([number]) if number < 128 else bytes([number & 0x7F | 0x80, number >> 7])
    return head + groups(len(data)) + data


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def _xlsb(path: Path, rows: list[list[str | float]]) -> Path:
    book = _record(131) + _record(143)
    book += (
        _record(156, struct.pack("<II", 0, 1) + _wide("rId1") + _wide("一月")) + _record(144) + _record(132)
    )
    width = max(len(r) for r in rows)
    sheet = _record(129) + _record(148, struct.pack("<IIII", 0, len(rows) - 1, 0, width - 1)) + _record(145)
    for r, row in enumerate(rows):
        sheet += _record(0, struct.pack("<IIHHBI", r, 0, 300, 0, 0, 0))
        for c, cell in enumerate(row):
            place = struct.pack("<II", c, 0)
            sheet += (
                _record(6, place + _wide(cell))
                if isinstance(cell, str)
                else _record(5, place + struct.pack("<d", cell))
            )
    sheet += _record(146) + _record(130)
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="bin"'
            ' ContentType="application/vnd.ms-excel.sheet.binary.macroEnabled.main"/></Types>',
        )
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            f'<Relationships xmlns="{package}/relationships">'
            f'<Relationship Id="rId1" Type="{relation}/worksheet" Target="worksheets/sheet1.bin"/></Relationships>',
        )
        archive.writestr("xl/workbook.bin", book)
        archive.writestr("xl/worksheets/sheet1.bin", sheet)
    return path


def test_xlsb(tmp_path: Path) -> None:
    rows: list[list[str | float]] = [
        ["高血压随访"],
        ["随访ID", "档案ID", "收缩压"],
        ["V1", "A1", 140.0],
        ["合计", "", 140.0],
    ]
    sink = read(_xlsb(tmp_path / "htn_visit_1.xlsb", rows))
    assert [(r["source_line"], r["visit_id"], r["sbp_mmhg"]) for r in sink.tables["htn_visit"]] == [
        (3, "V1", "140")
    ]


def _ods(path: Path, rows: str) -> Path:
    office = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content xmlns:office="{office}:office:1.0"'
        f' xmlns:table="{office}:table:1.0" xmlns:text="{office}:text:1.0" office:version="1.2"><office:body>'
        f'<office:spreadsheet><table:table table:name="一月">{rows}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{office}:manifest:1.0"/>'
        )
        archive.writestr("content.xml", content)
    return path


def _cell(text: str, more: str = "") -> str:
    return f'<table:table-cell office:value-type="string" {more}><text:p>{text}</text:p></table:table-cell>'


def test_ods_with_a_group_over_two_columns(tmp_path: Path) -> None:
    covered = "<table:covered-table-cell/>"
    number = '<table:table-cell office:value-type="float" office:value="140"><text:p>140</text:p></table:table-cell>'
    day = '<table:table-cell office:value-type="date" office:date-value="2026-01-05"><text:p>5/1/26</text:p></table:table-cell>'
    group = _cell("血压", 'table:number-columns-spanned="2"')
    rows = [
        _cell("随访ID", 'table:number-rows-spanned="2"') + _cell("随访日期") + group + covered,
        covered + "<table:table-cell/>" + _cell("收缩压") + _cell("舒张压"),
        _cell("V1") + day + number + number,
    ]
    sink = read(
        _ods(tmp_path / "htn_visit_1.ods", "".join(f"<table:table-row>{r}</table:table-row>" for r in rows))
    )
    row = sink.tables["htn_visit"][0]
    assert (row["source_line"], row["visit_id"], row["visited_on"]) == (3, "V1", "2026-01-05")
    assert (row["sbp_mmhg"], row["dbp_mmhg"]) == ("140", "140")
