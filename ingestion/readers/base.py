"""What every reader takes and gives.

A reader gets one landed file and a sink. It hands over tables of text: contract columns under their English
names (absent ones may be missing), plus the place columns of ``PLACE``. What it cannot read it hands over as
rejects, each with a number and a place. A *record* is one row or one reject: the ledger counts both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

#: Pseudo table of rejects that belong to a file as a whole.
FILE_TABLE = "file"

#: Place columns that a reader may add to the contract's; the sink adds which file it was.
PLACE = {
    "source_sheet": pa.string(),
    "source_line": pa.int64(),
    "org_code": pa.string(),
    "_extra": pa.string(),
    "_op": pa.string(),  # D: the source deleted the record; else it is there
}

#: Raw text kept with a reject; longer text is cut (the whole is in the landed file anyway).
RAW_LIMIT = 20_000


@dataclass(frozen=True)
class LandedFile:
    """One file in landing. ``org_code`` is empty when neither drop path nor caller named an institution."""

    number: int
    path: Path
    source_file: str  # below the landing folder
    name: str  # as delivered, below the institution's folder
    sha256: str
    bytes: int
    org_code: str
    origin: str


@dataclass(frozen=True)
class Reject:
    """A record that a reader could not turn into a row. ``context`` fills the error's text, never with values."""

    file: LandedFile
    table: str
    code: str
    raw: str = ""
    line: int | None = None
    sheet: str | None = None
    place: str = ""  # finer than the line: a segment, a tag
    org_code: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """Where readers put what they found."""

    def rows(self, file: LandedFile, table: str, data: pa.Table) -> None: ...

    def reject(self, reject: Reject) -> None: ...

    def notice(self, file: LandedFile, code: str, *, sheet: str | None = None, **context: Any) -> None: ...

    def announce(self, file: LandedFile, table: str | None, count: int, what: str) -> None:
        """What the source says it sent in this file: records of a table, or of all tables together (None)."""

    def places(self, file: LandedFile, names: Mapping[str, str]) -> None:
        """Where this file holds the fields, if not where the contract says (ADT has segments, not columns)."""


def reject_file(sink: Sink, file: LandedFile, code: str, *, sheet: str | None = None, **context: Any) -> None:
    """The whole file (or one of its sheets) cannot be used: one received, one quarantined."""
    sink.reject(Reject(file, FILE_TABLE, code, sheet=sheet, context=context))


def why(error: BaseException) -> str:
    """What went wrong, for an error's text: the exception's kind, since its message may quote content."""
    return type(error).__name__


def text_array(values: list[Any]) -> pa.Array:
    """A column of text from Python strings and None."""
    return pa.array(values, pa.string())


def extras_json(names: list[str], columns: list[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """Unknown columns folded into one JSON text per row, empty values left out, null where nothing is left.

    The loop is over rows, and only for files that have unknown columns.
    """
    rows = zip(*(c.to_pylist() for c in columns), strict=True)
    kept = ({n: v for n, v in zip(names, row, strict=True) if v not in (None, "")} for row in rows)
    return text_array([json.dumps(k, ensure_ascii=False) if k else None for k in kept])
