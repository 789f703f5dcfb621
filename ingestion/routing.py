"""Which reader takes a file, and which table it is of: by its name, its first bytes, and the feed's contract."""

from __future__ import annotations

from pathlib import PurePosixPath

from ingestion.readers.base import LandedFile, Sink, reject_file
from lake.contracts import FeedContract, TableContract, table_contract

_KINDS = {
    ".csv": "delimited",
    ".txt": "delimited",
    ".tsv": "delimited",
    ".xlsx": "workbook",
    ".xlsm": "workbook",
    ".xls": "workbook",
    ".xlsb": "workbook",
    ".ods": "workbook",
    ".hl7": "hl7v2",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "columnar",
    ".dcm": "dicom",
    ".dicom": "dicom",
}
#: What the doors that stay open hand over: envelopes, whatever the feed.
_DOORS = {".http": "upload", ".mqtt": "telemetry"}
_HL7_FEEDS = ("his", "lis", "emr", "hl7v2")

#: What gateways call their files, where that is not the table's name.
ALIASES = {"telemetry": "vital_reading", "binding": "device_binding"}


#: What callers may say besides a feed's name: a format that is routed to the feed of its contracts.
FEED_ALIASES = {"dicom": "pacs", "fhir_r4": "fhir"}


def kind_of(file: LandedFile, feed: str) -> str:
    """The format: feeds of one format have it, HL7 and workbooks show it in their first bytes, else the suffix."""
    if (door := PurePosixPath(file.name).suffix) in _DOORS:
        return _DOORS[door]
    if feed == "pacs":
        return _kind_of_image(file)
    if feed == "fhir":
        return "fhir"
    if feed == "hl7v2":
        return "hl7v2"
    with file.path.open("rb") as opened:
        head = opened.read(512)
    start = head.lstrip(b"\xef\xbb\xbf\x0b \r\n")
    if start[:3] in (b"MSH", b"FHS", b"BHS") and not start[3:4].isalnum():
        return "hl7v2"
    if head[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        return "workbook"
    if feed == "lis" and file.name.lower().endswith(".hl7"):
        return "hl7v2"
    kind = _KINDS.get(PurePosixPath(file.name).suffix.lower(), "unknown")
    return "json_array" if kind == "ndjson" and start[:1] == b"[" else kind


def _kind_of_image(file: LandedFile) -> str:
    """What a PACS delivers: objects (of any name), an archive's answers, or a table of reports by its suffix."""
    kind = _KINDS.get(PurePosixPath(file.name).suffix.lower(), "dicom")
    if kind == "ndjson":
        from ingestion.readers.dicom import answers

        with file.path.open("rb") as opened:
            return "answers" if answers.is_answer(opened.read(512)) else kind
    return kind


def table_of(name: str, contract: FeedContract) -> TableContract | None:
    """The table a file name begins with, up to an underscore; its English name or its Chinese label.

    ``patient_20261118.csv`` and ``prescription_item_2024_01.csv`` are ``patient`` and ``prescription_item``.
    """
    stem = PurePosixPath(name).stem.lower()
    for alias, table in ALIASES.items():
        if table in contract.tables and (stem == alias or stem.startswith(alias + "_")):
            return contract.tables[table]
    for spelled in sorted(contract.tables.values(), key=lambda t: -len(t.name)):
        for word in (spelled.name.lower(), spelled.label_zh.lower()):
            if stem == word or stem.startswith((word + "_", word + "-", word + " ")):
                return spelled
    if len(contract.tables) == 1:
        return next(iter(contract.tables.values()))
    folder = PurePosixPath(name).parent.name.lower()
    return contract.tables.get(folder)


def read_all(files: list[LandedFile], unreadable: dict[int, str], contract: FeedContract, sink: Sink) -> None:
    """Read every file by its reader; the readers are imported on use.

    DICOM files go together, one object each; FHIR files too, since resources refer to each other across files.
    """
    images: list[LandedFile] = []
    resources: list[LandedFile] = []
    for file in files:
        if file.number in unreadable:
            reject_file(sink, file, "E202", detail=unreadable[file.number])
        elif file.bytes == 0:
            reject_file(sink, file, "E203")
        elif (kind := kind_of(file, contract.feed)) == "dicom" and contract.feed == "pacs":
            images.append(file)
        elif kind == "fhir":
            resources.append(file)
        else:
            _read_one(file, contract, sink)
    if images:
        from ingestion.readers import dicom

        dicom.read_many(images, table_contract("imaging_instance"), sink)
    if resources:
        from ingestion.readers import fhir

        fhir.read_many(resources, sink)


def _read_one(file: LandedFile, contract: FeedContract, sink: Sink) -> None:
    kind = kind_of(file, contract.feed)
    if contract.feed == "correction" and kind == "workbook":
        from ingestion.readers import correction

        return correction.read(file, sink)
    if contract.feed == "correction":  # a plain file would pass the workbook's checks by
        kind = "other"
    if kind == "hl7v2" and contract.feed in _HL7_FEEDS:
        from ingestion.readers import hl7v2

        return hl7v2.read(file, contract, sink)
    if kind == "answers":
        from ingestion.readers.dicom import answers

        return answers.read(file, sink)
    if kind == "upload":
        from ingestion.readers import upload

        return upload.read(file, sink)
    if kind == "telemetry":
        from ingestion.readers import telemetry

        return telemetry.read(file, sink)
    if kind not in ("delimited", "workbook", "ndjson", "json_array", "columnar"):
        return reject_file(
            sink, file, "E220", feed=contract.feed, kind=PurePosixPath(file.name).suffix or kind
        )
    table = table_of(file.name, contract)
    if table is None:
        return reject_file(sink, file, "E204", feed=contract.feed, known="、".join(contract.tables))
    if kind == "delimited":
        from ingestion.readers import delimited

        return delimited.read(file, table, sink)
    if kind == "json_array":
        from ingestion.readers import json_array

        return json_array.read(file, table, sink)
    if kind == "columnar":
        from ingestion.readers import columnar

        return columnar.read(file, table, sink)
    if kind == "workbook":
        from ingestion.readers import workbook

        return workbook.read(file, table, sink)
    from ingestion.readers import ndjson

    return ndjson.read(file, table, sink)
