"""A file of HL7 v2 messages to rows: chunk by chunk, each mapping over all segments at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.hl7v2 import whole
from ingestion.readers.hl7v2.chunks import CHUNK, Chunk, chunks
from ingestion.readers.hl7v2.columns import Flags
from ingestion.readers.hl7v2.lookup import Reading
from ingestion.readers.hl7v2.mapping import mapping
from ingestion.readers.hl7v2.rows import Found, Orphan, apply, lacking, z_segments
from ingestion.readers.hl7v2.segments import Segments, segments
from lake.contracts import FeedContract, contracts


class _Batch:
    """Counts of the standard's batch envelope: what BTS declares against what came.

    FTS is not compared: it should count batches, and as many senders count messages in it.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.told: list[tuple[int, int]] = []  # declared, found
        self.is_open = False

    def take(self, found: Segments) -> None:
        """Messages that cannot be read count as well: they came."""
        total = found.count + len(found.unreadable)
        seen = 0
        for kind, _, declared, before in found.envelope:
            self.messages += before - seen
            seen = before
            if kind == "BHS":
                self.messages, self.is_open = 0, True
            elif kind == "BTS":
                self.is_open = False
                if declared is not None:
                    self.told.append((declared, self.messages))
        self.messages += total - seen


#: What a result's judgement needs of its report, patient and visit.
_BESIDE = (
    "patient_local_id", "requesting_org_code", "birth_date", "sex_code", "encounter_id", "panel_code", "panel_name",
    "reported_at", "dept_code", "doctor_id",
)  # fmt: skip


def results_with_report(data: bytes) -> list[dict[str, str | None]]:
    """Laboratory results of messages in memory, each with what its report, patient and visit say (the fast lane).

    What cannot be read, or has no order above it, is left out: the batch refuses it with place and reason.
    """
    reading = Reading(segments(Chunk(data.replace(b"\r\n", b"\r").replace(b"\n", b"\r"), 1)))
    if not reading.segments.count:
        return []
    every = np.ones(reading.segments.count, bool)
    report, result = (next(r for r in mapping().rows if r.table == t) for t in ("lab_report", "lab_result"))
    beside = {name: report.fields[name] for name in _BESIDE}
    found, _ = apply(reading, replace(result, fields=beside | dict(result.fields)), every)
    return pa.table(found.columns).to_pylist() if found is not None else []


class _Reader:
    def __init__(self, file: LandedFile, contract: FeedContract, sink: Sink) -> None:
        self.file, self.sink = file, sink
        self.keeps_whole = whole.TABLE in contract.tables
        self.feed = contract.feed
        self.accepted = None if self.keeps_whole else mapping().feeds[contract.feed]
        self.first_table = next(iter(contract.tables))
        self.known = {
            t.name: {f.name for f in t.fields} for c in contracts().values() for t in c.tables.values()
        }
        self.records = 0  # rows and rejects handed over

    def chunk(self, reading: Reading) -> None:
        found = reading.segments
        for line, text in found.stray:
            self._give_up(Reject(self.file, self.first_table, "E213", text, line))
        for bad in found.unreadable:
            context = {"encoding": bad.charset}
            self._give_up(
                Reject(
                    self.file,
                    self.first_table,
                    "E206",
                    bad.raw,
                    bad.line,
                    place="MSH-18",
                    org_code=bad.org,
                    context=context,
                )
            )
        if not found.count:
            return
        allowed = self._allowed(reading)
        tables = [whole.messages(reading)] if self.keeps_whole else []
        orphans: list[Orphan] = []
        for rows in mapping().rows:
            if rows.table in self.known:
                made, lost = apply(reading, rows, allowed)
                orphans += lost
                if made is not None:
                    tables.append(made)
        silent = allowed.copy()
        for made in tables:
            if made.table != whole.TABLE:
                silent[made.message] = False
        self._refuse(reading, silent, orphans)
        extra = {} if self.keeps_whole else z_segments(found)
        for made in tables:
            self._hand(reading, made, extra)

    def _allowed(self, reading: Reading) -> Flags:
        """Which messages this feed takes; the others are refused."""
        if self.accepted is None:
            return np.ones(reading.segments.count, bool)
        good = np.isin(reading.types, sorted(self.accepted))
        for n in np.flatnonzero(~good):
            kind = str(reading.types[n]) or "?"
            self._reject(reading, int(n), "E215", "MSH-9", message_type=kind, feed=self.feed)
        return np.asarray(good)

    def _refuse(self, reading: Reading, silent: Flags, orphans: list[Orphan]) -> None:
        """Segments out of place, and messages that gave no row: what they lack, or that they are not for this feed."""
        told = set()
        for o in orphans:
            message = int(reading.segments.message[o.position])
            told.add(message)
            self._reject(
                reading,
                message,
                "E214",
                "OBX" if o.table == "lab_result" else o.missing,
                at=o.position,
                table=o.table,
                segment=o.missing,
            )
        for message, segment in lacking(reading, mapping().requires):
            if silent[message] and message not in told:
                told.add(message)
                table = mapping().table_for(str(reading.types[message]), self.first_table)
                self._reject(reading, message, "E214", segment, table=table, segment=segment)
        for message in [] if self.keeps_whole else np.flatnonzero(silent).tolist():
            if message not in told:
                kind = f"{reading.types[message]}^{reading.events[message]}"
                self._reject(reading, message, "E215", "MSH-9", message_type=kind, feed=self.feed)

    def _reject(
        self,
        reading: Reading,
        message: int,
        code: str,
        place: str,
        *,
        at: int | None = None,
        table: str = "",
        **context: Any,
    ) -> None:
        found = reading.segments
        line = int(found.line[found.first[message] if at is None else at])
        org = reading.orgs[message].as_py()
        raw = found.raw(message)
        self._give_up(
            Reject(
                self.file,
                table or self.first_table,
                code,
                raw,
                line,
                place=place,
                org_code=org,
                context=context,
            )
        )

    def _hand(self, reading: Reading, made: Found, extra: dict[int, str]) -> None:
        known = self.known[made.table] | {"_op"}
        columns: dict[str, Any] = {k: v for k, v in made.columns.items() if k in known}
        columns["source_line"] = pa.array(reading.segments.line[made.position])
        columns["org_code"] = reading.orgs.take(pa.array(made.message))
        if extra:
            texts: list[str | None] = [None] * len(made.message)
            for n, message in enumerate(made.message.tolist()):
                texts[n] = extra.pop(message, None)
            columns["_extra"] = pa.array(texts, pa.string())
        self.records += len(made.message)
        self.sink.rows(self.file, made.table, pa.table(columns))

    def _give_up(self, reject: Reject) -> None:
        self.records += 1
        self.sink.reject(reject)


def read(file: LandedFile, contract: FeedContract, sink: Sink) -> None:
    """Read one file of messages; which rows come out follows from the feed and from what the messages are."""
    reader = _Reader(file, contract, sink)
    batch = _Batch()
    try:
        for chunk in chunks(file.path, CHUNK):
            found = segments(chunk)
            batch.take(found)
            reader.chunk(Reading(found))
    except (OSError, UnicodeDecodeError) as error:
        return reject_file(sink, file, "E202", detail=why(error))
    sink.places(file, mapping().places())
    for declared, came in batch.told:
        # announcements are of records, trailers of messages: what is missing is missing either way
        sink.announce(file, None, reader.records + declared - came, "BTS")
        if declared != came:
            sink.notice(file, "E223", declared=declared, found=came)
    if batch.is_open:  # cut off in transfer, or a sender without trailers: only the sender can tell
        sink.notice(file, "E223", declared="?", found=batch.messages)
