"""Headers to rows: each object, and once per delivery the series and studies that the objects belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from ingestion.readers.base import LandedFile, Sink, reject_file, text_array, why
from ingestion.readers.dicom import header
from ingestion.readers.dicom.fields import ACQUIRED, ANNOUNCED, CHARSET, INSTANTS, NAMES, OFFSET, PLAIN
from ingestion.readers.dicom.header import Header
from ingestion.readers.dicom.text import person_name
from lake.contracts import TableContract, table_contract

Row = dict[str, Any]

#: Rows handed over at once.
_ROWS = 50_000

#: Objects whose content matters: dose reports and electrocardiograms (PS3.4 annex B, SOP class UIDs).
_CONTENT = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.9.1.")


def _instant(day: str | None, clock: str | None, offset: str | None) -> str | None:
    """Date and time as one HL7-like instant; local time unless the header gives an offset."""
    if not day:
        return None
    digits = day.replace(".", "").replace("-", "")
    time = (clock or "").replace(":", "")
    return f"{digits}{time}{offset or ''}" if time else digits


def row_of(found: Header) -> Row:
    """All columns that a header fills, whichever table they are of."""
    row: Row = {name: found.text(keyword) for name, keyword in PLAIN.items()}
    for name, keyword in NAMES.items():
        given = found.text(keyword)
        row[name] = person_name(given) if given else None
    offset = found.text(OFFSET)
    for name, (day, clock) in INSTANTS.items():
        row[name] = _instant(found.text(day), found.text(clock), offset)
    for name, keyword in ANNOUNCED.items():
        row[name] = found.text(keyword)
    row["acquired_at"] = row["acquired_at"] or found.text(ACQUIRED)
    row["charset"] = found.charset or found.text(CHARSET)
    row["transfer_syntax_uid"] = found.syntax
    return row


def read_header(file: LandedFile) -> Row:
    """The row of one file; ``content`` holds what a dose report or an electrocardiogram says.

    Raises:
        Exception: whatever pydicom makes of a file that is none; the caller rejects it.
    """
    found = header.read(file.path)
    row = row_of(found)
    row["file_bytes"] = str(file.bytes)
    row["_extra"] = found.private()
    if (row["sop_class_uid"] or "").startswith(_CONTENT):
        from ingestion.readers.dicom import content

        row["content"] = content.read(file.path, row["sop_class_uid"])
        row |= row["content"].dose
    return row


def _table(name: str) -> TableContract | None:
    try:
        return table_contract(name)
    except KeyError:
        return None


def _arrow(table: TableContract, rows: list[Row]) -> pa.Table:
    names = [f.name for f in table.fields] + ["_extra"]
    columns = {n: text_array([r.get(n) for r in rows]) for n in names}
    return pa.table(columns | {"file_no": pa.array([r["file_no"] for r in rows], pa.int32())})


def _hand_over(file: LandedFile, table: TableContract, rows: list[Row], sink: Sink) -> None:
    for start in range(0, len(rows), _ROWS):
        sink.rows(file, table.name, _arrow(table, rows[start : start + _ROWS]))


def _once(rows: Iterable[Row], *key: str) -> list[Row]:
    """Per institution and key the row of its least object: the same one in whatever order the files come."""
    least: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if all(row[k] for k in key):
            at = (row["org_code"], *(row[k] for k in key))
            known = least.get(at)
            if known is None or (row["sop_instance_uid"] or "") < (known["sop_instance_uid"] or ""):
                least[at] = row
    return list(least.values())


_DOSES = ("ctdi_vol_mgy", "dlp_mgycm", "dose_area_product_dgycm2", "dose_area_product_gym2")


def _study(row: Row) -> Row:
    """A study row of a header: without what is its series' or its object's own, dated by the study itself."""
    return row | {"_extra": None, "source_updated_at": row["study_at"], "body_part": None, "charset": None}


def _series(row: Row) -> Row:
    """A series row of a header; a dose is the series' own in a dose report, in an image it is the image's."""
    own = {} if "content" in row else dict.fromkeys(_DOSES)
    return row | {"_extra": None, "source_updated_at": row["study_at"], "instance_count": None} | own


def _ecg(row: Row, file: LandedFile) -> Row:
    """An examination of its own: the accession number names it, else the object's UID."""
    found = row | row["content"].ecg
    return found | {
        "exam_no": row["accession_no"] or row["sop_instance_uid"],
        "device_id": row["device_serial_no"] or row["station_name"],
        "acquired_at": row["acquired_at"] or row["study_at"],
        "format_code": "dicom",
        "waveform_uri": file.source_file,
        "source_updated_at": row["study_at"],
    }


def read_many(files: list[LandedFile], table: TableContract, sink: Sink) -> None:
    """Read DICOM files together. The loop is over files: each is a document of its own.

    Args:
        table: ``imaging_instance``; the others are found by their names.
    """
    rows: list[Row] = []
    by_number = {f.number: f for f in files}
    with header.quiet():
        for file in files:
            try:
                row = read_header(file)
            except Exception as error:  # pydicom raises many kinds on damaged files; all mean the same here
                reject_file(sink, file, "E218", detail=why(error))
                continue
            rows.append(row | {"file_no": file.number, "org_code": file.org_code})
    if not rows:
        return
    first = by_number[rows[0]["file_no"]]
    _hand_over(first, _table("imaging_instance") or table, rows, sink)
    for name, made in (
        ("imaging_series", [_series(r) for r in _once(rows, "study_instance_uid", "series_instance_uid")]),
        ("imaging_study", [_study(r) for r in _once(rows, "study_instance_uid")]),
        ("ecg_exam", [_ecg(r, by_number[r["file_no"]]) for r in rows if "content" in r and r["content"].ecg]),
    ):
        wanted = _table(name)
        if wanted is not None and made:
            _hand_over(first, wanted, made, sink)
