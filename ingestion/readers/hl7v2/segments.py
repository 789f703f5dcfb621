"""A chunk of messages as columns: one entry a segment, its text in UTF-8 and the usual separators.

Where segments begin is found by numpy over the bytes. Messages that are not plain (other separators, another
character set, lines broken within a segment) are put into the plain form one by one and join the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from ingestion.readers.hl7v2.chunks import Chunk
from ingestion.readers.hl7v2.columns import Flags, Ints, Parts
from ingestion.readers.hl7v2.text import (
    ASSUMED_UTF8,
    CHARSETS,
    USUAL,
    Delimiters,
    codec_of,
    declared,
    usual_text,
)

_USUAL_START = b"MSH|" + USUAL.encode() + b"|"
_USUAL_2_7 = b"MSH|" + USUAL.encode() + b"#|"


def packed(kind: str) -> int:
    """Three letters of a segment as one number."""
    a, b, c = kind.encode()
    return a << 16 | b << 8 | c


_MSH, _FHS, _BHS, _BTS, _FTS = map(packed, ("MSH", "FHS", "BHS", "BTS", "FTS"))


@dataclass(frozen=True)
class Unreadable:
    """A message whose text cannot be recovered; ``org`` is its sender as far as it is ASCII."""

    line: int
    charset: str
    org: str
    raw: str


@dataclass
class Segments:
    """Segments in order of messages. ``message`` numbers messages from 0, ``line`` lines of the file from 1.

    ``original`` has, for messages that were not in the usual separators or had broken lines, their segments as JSON
    (lists of fields) and their text as received.
    ``envelope`` has the batch lines: kind, line, count in field 1 (None: none), messages of the chunk before it.
    """

    text: pa.StringArray
    kind: Ints
    message: Ints
    line: Ints
    count: int
    stray: list[tuple[int, str]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    envelope: list[tuple[str, int, int | None, int]] = field(default_factory=list)
    original: dict[int, tuple[str, str]] = field(default_factory=dict)

    @cached_property
    def first(self) -> Ints:
        """Where each message begins: its MSH."""
        return np.searchsorted(self.message, np.arange(self.count))

    def at(self, kind: str) -> Ints:
        """Positions of segments of one kind."""
        return np.flatnonzero(self.kind == packed(kind))

    def raw(self, message: int) -> str:
        """A message's text, LF between its segments, for the person who must mend it."""
        stop = self.first[message + 1] if message + 1 < self.count else len(self.text)
        start = self.first[message]
        return "\n".join(self.text.slice(start, stop - start).to_pylist())


class _Lines:
    """The lines of a chunk: where they are and what they look like, as arrays over lines."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        buffer = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(buffer == 13)
        if not len(ends) or ends[-1] != len(data) - 1:
            ends = np.append(ends, len(data))
        self.ends = ends
        self.starts = np.concatenate(([0], ends[:-1] + 1))
        length = ends - self.starts
        padded = np.concatenate((buffer, np.zeros(4, np.uint8)))
        a, b, c, d = (np.where(length > n, padded[self.starts + n].astype(np.int64), 0) for n in range(4))
        self.kind = np.where(length >= 3, a << 16 | b << 8 | c, 0)
        alnum = ((d >= 48) & (d <= 57)) | ((d >= 65) & (d <= 90)) | ((d >= 97) & (d <= 122))
        self.begins = np.isin(self.kind, (_MSH, _FHS, _BHS, _BTS, _FTS)) & ~alnum
        self.blank = length == 0
        for n in np.flatnonzero((a <= 32) & ~self.blank).tolist():  # few lines begin with a blank
            self.blank[n] = self[n].isspace()
        upper_a = (a >= 65) & (a <= 90)
        named = upper_a & _upper_or_digit(b) & _upper_or_digit(c)
        self.block = np.cumsum(self.begins)
        heads = np.flatnonzero(self.begins)
        kinds = np.concatenate(([0], self.kind[heads]))
        separators = np.concatenate(([0], d[heads]))
        inside = (kinds[self.block] == _MSH) & ~self.blank
        self.segment = inside & (self.begins | (named & ((d == separators[self.block]) | (length == 3))))
        self.broken = inside & ~self.segment
        self.stray = ~inside & ~self.blank & ~self.begins
        self.heads = heads[self.kind[heads] == _MSH]

    def __getitem__(self, n: int) -> bytes:
        return self.data[self.starts[n] : self.ends[n]]

    def texts(self, wanted: Ints) -> pa.StringArray:
        """Lines as Arrow text, checked to be UTF-8; no Python object a line."""
        compact = self.data.replace(b"\r", b"")
        offsets = np.append(self.starts - np.arange(len(self.starts)), len(compact)).astype(np.int32)
        every = pa.BinaryArray.from_buffers(
            pa.binary(), len(self.starts), [None, pa.py_buffer(offsets), pa.py_buffer(compact)]
        )
        return every.take(pa.array(wanted)).cast(pa.string())


def _upper_or_digit(x: Ints) -> Flags:
    return ((x >= 65) & (x <= 90)) | ((x >= 48) & (x <= 57))


def _not_plain(lines: _Lines) -> set[int]:
    """Blocks of messages that need care."""
    found = set(lines.block[lines.broken].tolist())
    usual = np.array(
        [lines.data.startswith((_USUAL_START, _USUAL_2_7), s) for s in lines.starts[lines.heads]], bool
    )
    found.update(lines.block[lines.heads[~usual]].tolist())
    if lines.data.isascii():
        return found
    some = np.bitwise_or.reduceat(np.frombuffer(lines.data + b"\0", np.uint8), lines.starts) >= 128
    blocks = np.unique(lines.block[some])
    try:
        lines.data.decode("utf-8")
    except UnicodeDecodeError:
        return found.union(blocks.tolist())
    charsets = Parts(lines.texts(lines.heads), "|").part(17).dictionary_encode()
    named = [c.split("~")[0].strip().upper() for c in charsets.dictionary.to_pylist()]
    foreign = pa.array([CHARSETS.get(n, "") not in ASSUMED_UTF8 for n in named], pa.bool_()).take(
        charsets.indices
    )
    heads = lines.heads[np.asarray(foreign.fill_null(False).to_numpy(zero_copy_only=False), bool)]
    return found.union(np.intersect1d(lines.block[heads], blocks).tolist())


@dataclass
class _Plain:
    """A message that was put into the plain form."""

    block: int
    lines: list[int]
    texts: list[str]
    original: tuple[str, str] | None


def _plain(lines: _Lines, block: int, first_line: int) -> _Plain | Unreadable:
    start = int(np.searchsorted(lines.block, block))
    stop = int(np.searchsorted(lines.block, block, "right"))
    raw: list[bytes] = []
    at: list[int] = []
    for n in range(start, stop):
        if lines.segment[n]:
            raw.append(lines[n])
            at.append(n)
        elif not lines.blank[n]:
            raw[-1] += b"\n" + lines[n]
    whole = b"\r".join(raw)
    codec = codec_of(raw[0], whole)
    try:
        texts = whole.decode(codec).split("\r")
    except UnicodeDecodeError:
        shown = whole.decode("ascii", "backslashreplace").split("\r")
        marks = Delimiters(shown[0])
        parts = shown[0].split(marks.field)
        org = marks.component_of(parts[3], 1) if len(parts) > 3 else ""
        return Unreadable(first_line + at[0], declared(raw[0]) or codec, org, "\n".join(shown))
    marks = Delimiters(texts[0])
    own = None
    if not marks.usual or len(at) < np.count_nonzero(~lines.blank[start:stop]):
        fields = [t.split(marks.field) for t in texts]
        own = json.dumps(fields, ensure_ascii=False, separators=(",", ":")), "\n".join(texts)
    rest = texts[0].split(marks.field)[2:]
    head = "|".join(["MSH", USUAL, *(usual_text(f, marks) for f in rest)])
    return _Plain(block, at, [head, *(usual_text(t, marks) for t in texts[1:])], own)


def _envelope(lines: _Lines, first_line: int) -> list[tuple[str, int, int | None, int]]:
    found: list[tuple[str, int, int | None, int]] = []
    for n in np.flatnonzero(lines.begins & (lines.kind != _MSH)).tolist():  # a handful a file
        raw = lines[n]
        parts = raw.split(raw[3:4] or b"|")
        text = parts[1].strip() if len(parts) > 1 else b""
        before = int(np.searchsorted(lines.heads, n))
        found.append((raw[:3].decode(), first_line + n, int(text) if text.isdigit() else None, before))
    return found


def _strays(lines: _Lines, first_line: int) -> list[tuple[int, str]]:
    """Stretches of lines outside of any message."""
    found: list[tuple[int, str]] = []
    previous = None
    for n in np.flatnonzero(lines.stray).tolist():
        text = lines[n].decode("utf-8", "backslashreplace")
        if found and previous is not None and not lines.begins[previous:n].any():
            found[-1] = (found[-1][0], found[-1][1] + "\n" + text)
        else:
            found.append((first_line + n, text))
        previous = n
    return found


def segments(chunk: Chunk) -> Segments:
    """Split a chunk. A line that does not begin like a segment continues the one before."""
    lines = _Lines(chunk.data)
    special = _not_plain(lines)
    heads = lines.block[lines.heads]
    careful = [_plain(lines, block, chunk.line) for block in sorted(special & set(heads.tolist()))]
    unreadable = [c for c in careful if isinstance(c, Unreadable)]
    made = [c for c in careful if isinstance(c, _Plain)]
    lost = sorted(special & set(heads.tolist()) - {c.block for c in made})
    kept = np.setdiff1d(heads, lost)
    simple = np.flatnonzero(
        lines.segment & ~np.isin(lines.block, list(special)) if special else lines.segment
    )
    text, kind, block, line = lines.texts(simple), lines.kind[simple], lines.block[simple], simple
    if made:
        own = [n for c in made for n in c.lines]
        text = pa.concat_arrays([text, pa.array([t for c in made for t in c.texts], pa.string())])
        kind, block = np.append(kind, lines.kind[own]), np.append(block, lines.block[own])
        line = np.append(line, own)
        order = np.argsort(line, kind="stable")
        text, kind, block, line = text.take(pa.array(order)), kind[order], block[order], line[order]
    found = Segments(text, kind, np.searchsorted(kept, block), line + chunk.line, len(kept))
    found.stray, found.unreadable = _strays(lines, chunk.line), unreadable
    found.envelope = _envelope(lines, chunk.line)
    numbers = dict(zip(kept.tolist(), range(len(kept)), strict=True))
    found.original = {numbers[c.block]: c.original for c in made if c.original is not None}
    return found
