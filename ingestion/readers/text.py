"""Bytes to UTF-8: what hospitals call "CSV" comes as UTF-8 with or without BOM, GB18030 or UTF-16, also mixed.

UTF-16 is turned into UTF-8 as it is read (``blocks``), so that line breaks are single bytes for everybody else.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True)
class Decoded:
    """UTF-8 bytes with LF line ends. ``bad`` holds lines (0-based, blanked out) that no encoding fits."""

    data: bytes
    encoding: str
    bad: dict[int, bytes] = field(default_factory=dict)


def _fits(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _line_ends(data: bytes) -> bytes:
    if b"\r" not in data:
        return data
    data = data.replace(b"\r\n", b"\n")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def _line_by_line(data: bytes, encoding: str | None) -> Decoded:
    """Neither encoding fits the whole: keep the one that fits more lines, reject the others (rare, so a loop)."""
    lines = data.split(b"\n")
    foreign = [i for i, line in enumerate(lines) if not line.isascii()]
    if encoding is None:
        fit = {e: sum(_fits(lines[i], e) for i in foreign) for e in ("utf-8", "gb18030")}
        encoding = "utf-8" if fit["utf-8"] >= fit["gb18030"] else "gb18030"
        # gb18030 accepts most byte pairs, so a few broken lines of a UTF-8 file would "fit": a tie is not needed
        if encoding == "gb18030" and fit["utf-8"] > 0.5 * len(foreign):
            encoding = "utf-8"
    bad: dict[int, bytes] = {}
    for i in foreign:
        try:
            lines[i] = lines[i].decode(encoding).encode()
        except UnicodeDecodeError:
            bad[i] = lines[i]
            lines[i] = b""
    return Decoded(b"\n".join(lines), encoding, bad)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16's byte order if a text is UTF-16: by its mark, or by the zero bytes of its ASCII letters."""
    for bom, name in _BOMS[1:]:
        if head.startswith(bom):
            return name
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if not head or max(even, odd) * 10 < len(head):  # separators and line breaks alone make more
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The content of a file in pieces; that of a UTF-16 file as UTF-8, what is no UTF-16 as U+FFFD."""
    head = file.read(min(size, 4096))
    wide = wide_encoding(head)
    if wide is None:
        yield head
        while block := file.read(size):
            yield block
        return
    decoder = codecs.getincrementaldecoder(wide)("replace")
    yield decoder.decode(head).removeprefix("\ufeff").encode()
    while block := file.read(size):
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


def decode(data: bytes, encoding: str | None = None) -> Decoded:
    """Decode a file, or a later window of one whose encoding is known.

    A byte order mark decides; else UTF-8 if it fits, else GB18030 if it fits, else line by line.
    """
    if encoding is None:
        for bom, name in _BOMS:
            if data.startswith(bom):
                data, encoding = data[len(bom) :], name
                break
    if encoding in ("utf-16-le", "utf-16-be"):
        return Decoded(_line_ends(data.decode(encoding, "replace").encode()), encoding)
    data = _line_ends(data)
    if data.isascii():
        return Decoded(data, encoding or "utf-8")
    for candidate in (encoding,) if encoding else ("utf-8", "gb18030"):
        if _fits(data, candidate):
            text = data if candidate == "utf-8" else data.decode(candidate).encode()
            return Decoded(text, candidate)
    return _line_by_line(data, encoding)


def shown(data: bytes) -> str:
    """Undecodable bytes as text for the quarantine: what is ASCII stays, the rest becomes ``\\xNN``."""
    return data.decode("ascii", "backslashreplace")
