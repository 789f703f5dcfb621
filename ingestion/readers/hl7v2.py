"""HL7 v2 messages to rows: ADT -> ``patient``, ORU -> ``lab_report`` and ``lab_result``, any -> ``hl7v2_message``.

Loops over messages and segments have their reason in ``hl7v2_text.parse``; rows are gathered as columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pyarrow as pa

from ingestion.readers import hl7v2_lab, hl7v2_patient
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, text_array, why
from ingestion.readers.hl7v2_text import Delimiters, Message, msh, parse
from lake.contracts import FeedContract

#: Rows handed over at once.
CHUNK = 200_000


class Columns:
    """Rows of one table, gathered column by column."""

    def __init__(self, table: str, names: tuple[str, ...]) -> None:
        self.table = table
        self.names = names
        self.rows: list[tuple[str | None, ...]] = []
        self.lines: list[int] = []
        self.orgs: list[str] = []

    def add(self, row: tuple[str | None, ...], line: int, org: str) -> None:
        self.rows.append(row)
        self.lines.append(line)
        self.orgs.append(org)

    def flush(self, file: LandedFile, sink: Sink) -> None:
        if not self.rows:
            return
        columns: dict[str, pa.Array] = {}
        for name, values in zip(self.names, zip(*self.rows, strict=True), strict=True):
            columns[name] = text_array(list(values))
        columns["source_line"] = pa.array(self.lines, pa.int64())
        columns["org_code"] = text_array(self.orgs)
        sink.rows(file, self.table, pa.table(columns))
        self.rows, self.lines, self.orgs = [], [], []


def _raw(message: Message) -> str:
    return "\n".join(message.segments)


def sender(header: list[str], marks: Delimiters) -> str:
    """The sending facility, MSH-4.1: the institution of a record whose file names none."""
    return marks.component_of(msh(header, 4), 1)


Handler = Callable[[Message, list[str], Delimiters, str, Callable[..., None]], None]


def read(file: LandedFile, contract: FeedContract, sink: Sink) -> None:
    """Read one file of messages; which rows come out follows from the feed."""
    try:
        parsed = parse(file.path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        return reject_file(sink, file, "E202", detail=why(error))
    first_table = next(iter(contract.tables)) if contract.feed != "his" else "patient"
    for line, text in parsed.stray:
        sink.reject(Reject(file, first_table, "E213", text, line))
    for declared, found in parsed.trailers:
        sink.notice(file, "E223", declared=declared, found=found)
    accepted, columns, handle = _target(contract)
    if contract.feed == "his":
        sink.places(file, hl7v2_patient.PLACES)
    for message in parsed.messages:
        header = message.segments[0].split(message.segments[0][3:4] or "|")
        marks = Delimiters(message.segments[0])
        org = sender(header, marks)

        def refuse(
            code: str,
            place: str,
            *,
            at: int | None = None,
            message: Message = message,
            org: str = org,
            **context: object,
        ) -> None:
            line = at if at is not None else message.line
            reject = Reject(
                file, first_table, code, _raw(message), line, place=place, org_code=org, context=context
            )
            sink.reject(reject)

        if message.error:
            refuse("E206", "MSH-18", encoding=message.error)
            continue
        kind = marks.component_of(msh(header, 9), 1)
        if accepted and kind != accepted:
            refuse("E215", "MSH-9", message_type=kind or "?", feed=contract.feed)
            continue
        handle(message, header, marks, columns, org, refuse)
        if len(columns[-1].rows) > CHUNK:
            for c in columns:
                c.flush(file, sink)
    for c in columns:
        c.flush(file, sink)


def _target(contract: FeedContract) -> tuple[str, list[Columns], Callable[..., None]]:
    """What a feed takes: the message type (empty: any), its columns, and the function that fills them."""
    if contract.feed == "his":
        return "ADT", [Columns("patient", hl7v2_patient.NAMES)], hl7v2_patient.handle
    if contract.feed == "lis":
        both = [Columns("lab_report", hl7v2_lab.REPORT), Columns("lab_result", hl7v2_lab.RESULT)]
        return "ORU", both, hl7v2_lab.handle
    return "", [Columns("hl7v2_message", MESSAGE)], _handle_any


MESSAGE = (
    "message_control_id",
    "message_type",
    "trigger_event",
    "hl7_version",
    "sending_application",
    "sending_facility",
    "message_at",
    "charset",
    "segment_count",
    "segments",
    "content_hash",
)


def _handle_any(
    message: Message,
    header: list[str],
    marks: Delimiters,
    columns: list[Columns],
    org: str,
    refuse: Callable[..., None],
) -> None:
    fields = [s.split(marks.field) for s in message.segments]
    row = (
        msh(header, 10),
        marks.component_of(msh(header, 9), 1),
        marks.component_of(msh(header, 9), 2),
        marks.component_of(msh(header, 12), 1),
        marks.component_of(msh(header, 3), 1),
        org,
        marks.component_of(msh(header, 7), 1),
        msh(header, 18),
        str(len(fields)),
        json.dumps(fields, ensure_ascii=False),
        hashlib.sha256(_raw(message).encode()).hexdigest(),
    )
    columns[0].add(row, message.line, org)
