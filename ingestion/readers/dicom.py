"""DICOM objects to one row each: the header only, never the pixels.

Files of the real world have no preamble, a wrong character set, values that break their own rules, or end
early. What the header still gives is a row; a file without a header that can be read is rejected.
"""

from __future__ import annotations

import logging
import re
import warnings
from functools import lru_cache
from typing import Any

import pyarrow as pa

from ingestion.readers.base import LandedFile, Sink, reject_file, text_array, why
from ingestion.readers.names import has_ideographs, joined
from lake.contracts import TableContract

#: Contract column -> DICOM keyword, where the value is taken as it stands.
PLAIN = {
    "sop_instance_uid": "SOPInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "accession_no": "AccessionNumber",
    "patient_local_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "sex_code": "PatientSex",
    "birth_date": "PatientBirthDate",
    "modality_code": "Modality",
    "body_part": "BodyPartExamined",
    "study_description": "StudyDescription",
    "series_no": "SeriesNumber",
    "instance_no": "InstanceNumber",
    "institution_name": "InstitutionName",
    "manufacturer": "Manufacturer",
    "station_name": "StationName",
    "sop_class_uid": "SOPClassUID",
}
_OTHERS = ("PatientName", "StudyDate", "StudyTime", "TimezoneOffsetFromUTC", "SpecificCharacterSet")

#: Character sets that a header may claim while its bytes are GB18030 (feeds.md: "GB18030 mislabelled ISO_IR 100").
_DOUBTFUL = frozenset(["", "ISO_IR 6", "ISO 2022 IR 6", "ISO_IR 100", "ISO 2022 IR 100"])

_HIGH_PAIR = re.compile(rb"[\x81-\xfe][\x30-\xfe]")


@lru_cache(maxsize=1)
def _tags() -> list[int]:
    from pydicom.datadict import tag_for_keyword

    tags = [tag_for_keyword(k) for k in (*PLAIN.values(), *_OTHERS)]
    return [t for t in tags if t is not None]


def person_name(text: str) -> str:
    """PN: of the alphabetic, ideographic and phonetic groups the ideographic one (``Wang^XiaoDong=王^小东``)."""
    groups = [joined(g.split("^")[:3]) for g in text.split("=")]
    named = groups[1] if len(groups) > 1 and groups[1] else ""
    return named or next((g for g in groups if has_ideographs(g)), groups[0])


def _recovered(raw: bytes) -> str | None:
    """Text of bytes whose declared character set cannot hold Chinese: UTF-8 or GB18030, whichever fits.

    Accented Latin letters also decode as GB18030 (``Müller`` gives ``M黮ler``): a high byte followed by an ASCII
    one. Chinese is mostly two high bytes, so those must be in the majority.
    """
    if raw.isascii():
        return None
    codec = "utf-8" if _is_utf8(raw) else "gb18030"
    pairs = _HIGH_PAIR.findall(raw)
    if codec == "gb18030" and 2 * sum(p[1] >= 0x80 for p in pairs) <= len(pairs):
        return None
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        return None
    return text if has_ideographs(text) else None


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _value(dataset: Any, keyword: str, doubtful: bool) -> str | None:
    """One element as text, or None; a value that its own rules refuse is taken as bytes are."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    raw = dataset.get_item(tag) if tag is not None and tag in dataset else None
    if raw is None or raw.value is None:
        return None
    data = raw.value
    if isinstance(data, bytes):
        if doubtful and (text := _recovered(data)) is not None:
            return text.rstrip("\0 ")
        if (
            data.isascii()
            and raw.VR not in ("US", "SS", "UL", "SL", "FL", "FD", "AT", "SQ")
            and b"\x1b" not in data
        ):
            return data.decode("ascii").rstrip("\0 ")
    try:
        value = dataset[tag].value
    except Exception:
        return (
            data.decode("ascii", "backslashreplace").rstrip("\0 ") if isinstance(data, bytes) else str(data)
        )
    if value is None:
        return None
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(v) for v in value)
    return str(value)


def _study_at(date: str | None, time: str | None, offset: str | None) -> str | None:
    """StudyDate and StudyTime as one HL7-like instant; local time unless the header gives an offset."""
    if not date:
        return None
    day = date.replace(".", "").replace("-", "")
    clock = (time or "").replace(":", "")
    return f"{day}{clock}{offset or ''}" if clock else day


def _row(file: LandedFile, dataset: Any) -> dict[str, str | None]:
    charset = _value(dataset, "SpecificCharacterSet", False)
    doubtful = (charset or "").split("\\")[0].strip() in _DOUBTFUL and "\\" not in (charset or "")
    row = {name: _value(dataset, keyword, doubtful) for name, keyword in PLAIN.items()}
    name = _value(dataset, "PatientName", doubtful)
    clock = [_value(dataset, k, False) for k in ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC")]
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return row | {
        "name": person_name(name) if name else None,
        "study_at": _study_at(*clock),
        "transfer_syntax_uid": str(syntax) if syntax else None,
        "charset": charset,
        "file_bytes": str(file.bytes),
    }


def read_header(file: LandedFile) -> dict[str, str | None]:
    """The row of one file.

    Raises:
        Exception: whatever pydicom makes of a file that is none; the caller rejects it.
    """
    from pydicom import dcmread
    from pydicom.misc import is_dicom

    dataset = dcmread(file.path, stop_before_pixels=True, specific_tags=_tags(), force=True)
    if not len(dataset) and not is_dicom(file.path):
        raise ValueError("no DICOM elements")
    return _row(file, dataset)


class quiet:
    """pydicom warns about values through ``warnings`` and ``logging``, quoting them: neither may reach a log."""

    def __enter__(self) -> None:
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.getLogger("pydicom").level
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        self._filters.__exit__(None, None, None)
        logging.getLogger("pydicom").setLevel(self._level)


def read_many(files: list[LandedFile], table: TableContract, sink: Sink) -> None:
    """Read many files into one hand-over each file order kept. The loop is over files: each is its own document."""
    rows: list[dict[str, str | None]] = []
    good: list[LandedFile] = []
    with quiet():
        for file in files:
            try:
                rows.append(read_header(file))
                good.append(file)
            except Exception as error:  # pydicom raises many kinds on damaged files; all mean the same here
                reject_file(sink, file, "E218", detail=why(error))
    names = [f.name for f in table.fields]
    for start in range(0, len(rows), 50_000):
        part = rows[start : start + 50_000]
        columns = {n: text_array([r.get(n) for r in part]) for n in names}
        numbers = pa.array([f.number for f in good[start : start + 50_000]], pa.int32())
        sink.rows(good[start], table.name, pa.table(columns | {"file_no": numbers}))
