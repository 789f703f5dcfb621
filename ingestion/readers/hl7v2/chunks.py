"""A file of messages in pieces that end where a message begins, so that memory does not follow the file's size."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Read at once; a piece is this or its longest message, whichever is larger.
CHUNK = 8 << 20

_BEGINS = re.compile(rb"[\r\n]MSH[^A-Za-z0-9]")


@dataclass(frozen=True)
class Chunk:
    """Whole messages with CR between segments; ``line`` is the number of its first line in the file, from 1."""

    data: bytes
    line: int


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """The file's bytes; UTF-16 (with its mark) as UTF-8, no byte order mark."""
    with path.open("rb") as file:
        first = file.read(size)
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            decoder = codecs.getincrementaldecoder("utf-16")()
            block = first
            while block:
                yield decoder.decode(block).encode()
                block = file.read(size)
            yield decoder.decode(b"", final=True).encode()
            return
        yield first.removeprefix(codecs.BOM_UTF8)
        while block := file.read(size):
            yield block


def _unframed(block: bytes, at_start: bool) -> bytes:
    """A start of frame that stands where a line begins is nothing; elsewhere (``_ends``) it begins one."""
    if b"\x0b" not in block:
        return block
    block = block.replace(b"\r\x0b", b"\r").replace(b"\n\x0b", b"\n").replace(b"\x0bMSH", b"\rMSH")
    return block.removeprefix(b"\r") if at_start else block


def _last_begin(data: bytearray, since: int) -> int:
    """Where the last message begins at or after ``since``; 0 when none does."""
    at = len(data)
    while at > since:
        at = data.rfind(b"MSH", since, at)
        if at <= 0:
            return 0
        if _BEGINS.match(data, at - 1):
            return at
    return 0


def _ends(data: bytes) -> bytes:
    """CR as the only line end. MLLP's framing bytes, kept by a sender's spool, end a line as well."""
    if b"\x0b" in data or b"\x1c" in data:
        data = data.replace(b"\x1c\r", b"\r").replace(b"\x1c", b"\r").replace(b"\x0b", b"\r")
    return data.replace(b"\r\n", b"\r").replace(b"\n", b"\r")


def chunks(path: Path, size: int = CHUNK) -> Iterator[Chunk]:
    """All of a file, in order.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read; pieces before that were given.
    """
    waiting = bytearray()
    line, since = 1, 0
    for block in _blocks(path, size):
        waiting += _unframed(block, line == 1 and not waiting)
        cut = _last_begin(waiting, since)
        since = max(0, len(waiting) - 4)
        if cut:
            data = _ends(bytes(waiting[:cut]))
            yield Chunk(data, line)
            line += data.count(b"\r")
            del waiting[:cut]
            since = 0
    if waiting:
        yield Chunk(_ends(bytes(waiting)), line)
