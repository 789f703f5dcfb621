"""Where the entries of a Bundle lie, found by array operations over the bytes, window by window.

A Bundle of a gigabyte is one JSON document. Nothing parses it whole: quotes, braces and brackets give the depth of
every byte, objects at depth 3 inside ``"entry":[ ]`` are the entries, and the bytes of an entry's ``resource`` are
taken as they stand (FHIR: the decimal 1.10 is not 1.1, so numbers must not pass through a parser).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Bytes read at once; an entry that is longer makes the window grow up to ``LIMIT``.
WINDOW = 16 * 1024 * 1024
LIMIT = 1024 * 1024 * 1024

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_QUOTE, _BACKSLASH = 34, 92
_SPACE, _OPEN, _CLOSE = 1, 2, 3
_CLASS = np.zeros(256, np.uint8)
_CLASS[[9, 10, 13, 32]] = _SPACE
_CLASS[[ord("{"), ord("[")]] = _OPEN
_CLASS[[ord("}"), ord("]")]] = _CLOSE


class Broken(ValueError):
    """The document is no JSON of the expected shape; the text says what is missing, never what is there."""


@dataclass(frozen=True)
class Entries:
    """Entries of one window: ``resource`` as text (null where an entry has none), ``envelope`` is the entry
    without it (``fullUrl``, ``request``, ``response``)."""

    resource: pa.Array
    envelope: pa.Array


def _inside(data: Bytes) -> npt.NDArray[np.bool_]:
    """True where a byte belongs to a string (its opening quote does, its closing quote does not)."""
    is_quote = data == _QUOTE
    slashes = np.flatnonzero(data == _BACKSLASH)
    if len(slashes):  # a run of an odd number of backslashes escapes what follows it
        first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
        length = np.diff(np.append(first, len(slashes)))
        escaped = (slashes[first] + length)[length % 2 == 1]
        is_quote[escaped[escaped < len(data)]] = False
    quotes = np.flatnonzero(is_quote)
    spans = np.diff(np.concatenate(([0], quotes, [len(data)])))
    return np.repeat(np.arange(len(spans)) % 2 == 1, spans)


def compact(data: Bytes) -> tuple[Bytes, Bytes]:
    """The bytes without blanks between tokens, and the class of each byte (0 within strings)."""
    kinds = _CLASS[data]
    kinds[_inside(data)] = 0
    keep = kinds != _SPACE
    return (data, kinds) if keep.all() else (data[keep], kinds[keep])


@dataclass(frozen=True)
class _Structure:
    """Braces and brackets outside strings: where, which, and the depth after each."""

    at: Positions
    byte: Bytes
    depth: Positions

    def where(self, byte: bytes, depth: int) -> Positions:
        return self.at[(self.byte == byte[0]) & (self.depth == depth)]


def _structure(data: Bytes, kinds: Bytes, base: int) -> _Structure:
    at = np.flatnonzero(kinds >= _OPEN)
    step = np.where(kinds[at] == _OPEN, 1, -1)
    return _Structure(at, data[at], base + np.cumsum(step))


def _follows(data: Bytes, at: Positions, key: bytes) -> npt.NDArray[np.bool_]:
    """Whether the value at a position is the value of ``key`` (compact JSON)."""
    found = at >= len(key)
    for i, byte in enumerate(reversed(key), 1):
        found &= data[np.maximum(at - i, 0)] == byte
    return found


def _texts(data: Bytes, *bounds: Positions) -> list[pa.Array]:
    """Texts between consecutive bounds (``bounds[i] <= bounds[i+1] <= next row's bounds[0]``), as Arrow columns.

    One buffer serves all: offsets alternate over the bytes, and ``take`` copies every n-th piece out.
    """
    count, width = len(bounds[0]), len(bounds)
    offsets = np.empty(count * width + 1, np.int32)
    for i, bound in enumerate(bounds):
        offsets[i:-1:width] = bound
    offsets[-1] = bounds[-1][-1]
    text = pa.StringArray.from_buffers(count * width, pa.py_buffer(offsets), pa.py_buffer(data))
    return [text.take(pa.array(np.arange(i, count * width, width))) for i in range(width - 1)]


def _entries(data: Bytes, found: _Structure, start: Positions, end: Positions) -> Entries:
    """Cut the entries ``[start, end)`` into the resource and what surrounds it."""
    opened, closed = found.where(b"{", 4), found.where(b"}", 3)
    opened = opened[opened < end[-1]]
    is_resource = _follows(data, opened, b'"resource":')
    first, last = opened[is_resource], closed[: len(opened)][is_resource] + 1
    home = np.searchsorted(start, first, "right") - 1
    from_, to = end - 1, end - 1
    from_[home], to[home] = first, last
    head, resource, tail = _texts(data, start, from_, to, end)
    has = pc.greater(pc.binary_length(resource), 0)
    null = pc.if_else(has, "null", "")
    envelope = pc.binary_join_element_wise(head, null, tail, "")
    return Entries(pc.if_else(has, resource, pa.scalar(None, pa.string())), envelope)


def _checked(data: bytes) -> Bytes:
    """The bytes, which must be UTF-8 (RFC 8259)."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise Broken("utf-8") from error
    return np.frombuffer(data, np.uint8)


def _utf8_cut(data: bytes) -> int:
    """Length of the longest beginning that ends with a whole character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if width == back else len(data) - back
    return len(data)


class Bundle:
    """One file, or bytes, holding one JSON document. ``head`` is what stands before the entries of a Bundle.

    Raises:
        Broken: no JSON object, cut off, or one entry longer than ``LIMIT``.
    """

    def __init__(self, source: Path | bytes, window: int = WINDOW) -> None:
        self.source = source
        self.window = window
        self.head = b""
        self.is_bundle = False

    def windows(self) -> Iterator[Entries]:
        """The entries of a Bundle, window by window; a document that is no Bundle gives one entry of itself."""
        with BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb") as file:
            rest = b""
            inside_entries = False
            while True:
                block = file.read(max(self.window, len(rest)))
                ended = not block
                if len(rest) + len(block) > LIMIT:
                    raise Broken("entry")
                raw = rest + block
                if raw.startswith(b"\xef\xbb\xbf") and not inside_entries:
                    raw = raw[3:]
                cut = len(raw) if ended else _utf8_cut(raw)
                data, kinds = compact(_checked(raw[:cut]))
                left = raw[cut:]
                if not inside_entries:
                    begin = self._begin(data, kinds, ended)
                    if begin is None and not ended:
                        rest = data.tobytes() + left
                        continue
                    if begin is None:
                        yield self._whole(data, kinds)
                        return
                    self.head, inside_entries = data[:begin].tobytes(), True
                    data, kinds = data[begin:], kinds[begin:]
                found = _structure(data, kinds, 2)
                done, entries = self._take(data, found)
                if entries is not None:
                    yield entries
                if done < 0:
                    return
                if ended:
                    raise Broken("end")
                rest = data[done:].tobytes() + left

    def _begin(self, data: Bytes, kinds: Bytes, ended: bool) -> int | None:
        """Where the first entry of a Bundle begins; None: not seen yet, or no Bundle."""
        found = _structure(data, kinds, 0)
        if len(found.at) and (found.at[0] != 0 or found.byte[0] != ord("{")):
            raise Broken("object")
        at = found.where(b"[", 2)
        at = at[_follows(data, at, b'"entry":')]
        if not len(at):
            return None
        head = data[: at[0]].tobytes()
        if b'"resourceType":' in head and b'"resourceType":"Bundle"' not in head:
            return None  # a List has entries too
        if b'"resourceType":' not in head and not ended:
            tail = data[at[0] : at[0] + 4096].tobytes()
            if b'"resource":{' not in tail and b'"request":{' not in tail:
                return None
        self.is_bundle = True
        return int(at[0]) + 1

    def _whole(self, data: Bytes, kinds: Bytes) -> Entries:
        """A document without entries: one resource, or an empty Bundle."""
        found = _structure(data, kinds, 0)
        if not len(found.at) or found.depth[-1] != 0 or (found.depth[:-1] <= 0).any():
            raise Broken("object")
        text = data.tobytes().decode()
        self.is_bundle = '"resourceType":"Bundle"' in text[:4096] and '"entry":' not in text
        none = pa.array([], pa.string())
        if self.is_bundle:
            self.head = data.tobytes()
            return Entries(none, none)
        return Entries(pa.array([text]), pa.array([None], pa.string()))

    def _take(self, data: Bytes, found: _Structure) -> tuple[int, Entries | None]:
        """Whole entries of this window and where the next begins; -1 when the array of entries has ended."""
        close = found.where(b"]", 1)
        if len(close):
            ended = np.searchsorted(found.at, close[0])
            found = _Structure(found.at[:ended], found.byte[:ended], found.depth[:ended])
        start, end = found.where(b"{", 3), found.where(b"}", 2) + 1
        start = start[: len(end)]
        made = _entries(data, found, start, end) if len(end) else None
        if len(close):
            return -1, made
        return (int(end[-1]) if len(end) else 0), made
