"""Files to resources: each becomes a row of ``fhir_resource``, and a staged row for the typed tables.

What is no resource (``shape``) is refused with its place: the line, or the number of the Bundle's entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.fhir.shape import PARSE, REFUSED, resource_types
from ingestion.readers.fhir.split import LIMIT, Broken, Bundle, Entries
from ingestion.readers.fhir.staged import Collected
from ingestion.readers.ndjson import lines_of, utf8_lines, windows
from ingestion.readers.text import shown

TABLE = "fhir_resource"

_BUNDLE = r'^\{\s*"resourceType"\s*:\s*"Bundle"'


_COLUMNS = ("resource_type", "resource_id", "version_id", "last_updated_at", "subject_reference", "profile")


class Collector:
    """Reads files one after the other; ``found`` is what they hold."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, sink: Sink, window: int) -> None:
        self.connection = connection
        self.sink = sink
        self.window = window
        self.found = Collected(folder)
        self.aliases: dict[int, dict[str, str]] = {}
        connection.register("types", pa.table({"name": pa.array(sorted(resource_types()), pa.string())}))

    def read(self, file: LandedFile) -> None:
        """One file: a Bundle or a resource as JSON, or NDJSON."""
        before = set(self.found.paths())
        try:
            if is_ndjson(file):
                self._ndjson(file)
            else:
                self._document(file)
        except Broken as error:
            code = "E206" if str(error) == "utf-8" else "E219"
            reject_file(self.sink, file, code, detail=str(error), encoding="utf-8")
        except OSError as error:
            reject_file(self.sink, file, "E202", detail=why(error))
        if file.number in self.aliases:
            new = [p for p in self.found.paths() if p not in before]
            self.found.resolve(self.aliases.pop(file.number), new)

    def _document(self, file: LandedFile) -> None:
        bundle = Bundle(file.path, self.window)
        base = 0
        for entries in bundle.windows():
            lines = pa.array(np.arange(base + 1, base + 1 + len(entries.resource)), pa.int64())
            base += len(lines)
            self._take(file, lines, entries, "Bundle.entry" if bundle.is_bundle else "")

    def _ndjson(self, file: LandedFile) -> None:
        base = 0
        for piece in windows(file.path, self.window):
            data = piece[3:] if base == 0 and piece.startswith(b"\xef\xbb\xbf") else piece
            data, bad = utf8_lines(data)
            for i, raw in bad.items():
                context = {"encoding": "utf-8"}
                self.sink.reject(Reject(file, TABLE, "E206", shown(raw), base + i + 1, context=context))
            text = pc.utf8_trim_whitespace(lines_of(data))
            number = pa.array(np.arange(base + 1, base + 1 + len(text)), pa.int64())
            base += len(text)
            filled = pc.greater(pc.binary_length(text), 0)
            text, number = text.filter(filled), number.filter(filled)
            is_bundle = pc.match_substring_regex(text, _BUNDLE)
            if pc.any(is_bundle).as_py():
                self._bundles(file, number.filter(is_bundle), text.filter(is_bundle))
                text, number = text.filter(pc.invert(is_bundle)), number.filter(pc.invert(is_bundle))
            self._take(file, number, Entries(text, pa.nulls(len(text), pa.string())), "")

    def _bundles(self, file: LandedFile, numbers: pa.Array, texts: pa.Array) -> None:
        """Lines that are Bundles (the ``deleted`` files of an export). The loop is over these lines only."""
        for number, text in zip(numbers.to_pylist(), texts.to_pylist(), strict=True):
            try:
                for entries in Bundle(text.encode(), LIMIT).windows():
                    lines = pa.array([number] * len(entries.resource), pa.int64())
                    self._take(file, lines, entries, "Bundle.entry")
            except Broken:
                self.sink.reject(Reject(file, TABLE, "E216", text, number))

    def _take(self, file: LandedFile, lines: pa.Array, entries: Entries, place: str) -> None:
        if not len(lines):
            return
        pieces = {"line": lines, "content": entries.resource, "envelope": entries.envelope}
        self.connection.register("pieces", pa.table(pieces))
        found = self.connection.execute(PARSE).to_arrow_table()
        self.connection.unregister("pieces")
        is_good = pc.equal(found["state"], "GOOD")
        if pc.any(pc.invert(is_good)).as_py():
            self._refuse(file, found.filter(pc.invert(is_good)), place)
            found = found.filter(is_good)
        self._note_aliases(file, found)
        if found.num_rows:
            self._hand_over(file, found)

    def _refuse(self, file: LandedFile, found: pa.Table, place: str) -> None:
        """Pieces that are no resource. The loop is over refused pieces only."""
        for bad in found.select(["line", "state", "raw", "resource_type"]).to_pylist():
            code, context = REFUSED[bad["state"]]
            if not place and bad["state"] == "OTHER":
                code = "E217"
            raw = "" if code == "E224" else (bad["raw"] or "").rstrip("\r\n")
            where = f"{place}[{bad['line']}]" if place else ""
            self.sink.reject(Reject(file, TABLE, code, raw, bad["line"], place=where, context=context))

    def _note_aliases(self, file: LandedFile, found: pa.Table) -> None:
        urn = pc.starts_with(pc.fill_null(found["full_url"], ""), "urn:")
        if not pc.any(urn).as_py():
            return
        named = found.filter(urn).select(["full_url", "resource_type", "resource_id"])
        differs = pc.not_equal(
            pc.replace_substring_regex(named["full_url"], "^urn:(uuid|oid):", ""), named["resource_id"]
        )
        for row in named.filter(pc.fill_null(differs, False)).to_pylist():
            target = f"{row['resource_type']}/{row['resource_id']}"
            self.aliases.setdefault(file.number, {})[row["full_url"]] = target

    def _hand_over(self, file: LandedFile, found: pa.Table) -> None:
        gone = pc.equal(found["op"], "D")
        tombstone = pc.binary_join_element_wise(
            '{"resourceType":"', found["resource_type"], '","id":"', found["resource_id"], '"}', ""
        )
        columns = {name: found[name] for name in _COLUMNS}
        columns["content"] = pc.if_else(gone, tombstone, found["content"])
        columns["source_line"] = found["line"]
        columns["_op"] = found["op"]
        self.sink.rows(file, TABLE, pa.table(columns))
        counts = self.found.counts.setdefault(file.number, {})
        for row in found.filter(pc.invert(gone))["resource_type"].value_counts().to_pylist():
            counts[row["values"]] = counts.get(row["values"], 0) + row["counts"]
        self.found.stage(file, found.filter(pc.is_valid(found["resource_id"])))


def is_ndjson(file: LandedFile) -> bool:
    """By its name, or by two lines that are each an object."""
    if file.name.lower().endswith((".ndjson", ".jsonl")):
        return True
    return sum(1 for _ in _whole_lines(file.path)) > 1


def _whole_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as opened:
        head = opened.read(256 * 1024).lstrip(b"\xef\xbb\xbf \r\n")
    for line in head.split(b"\n", 2)[:2]:
        try:
            if not isinstance(json.loads(line), dict):
                return
        except (ValueError, RecursionError):
            return
        yield ""
