"""The elements of a DICOM header, found by walking its bytes: four times as fast as building a dataset of them.

Only what almost every file is: preamble, little endian, not deflated (DICOM PS3.5 chapter 7, PS3.10 chapter 7).
Whatever else a file is, or whatever does not add up, is ``Unusual``, and pydicom reads it instead.
"""

from __future__ import annotations

from pathlib import Path
from struct import Struct

#: tag (group << 16 | element) -> (value representation or "" where the syntax has none, the value's bytes)
Elements = dict[int, tuple[str, bytes]]

_BLOCK = 64 * 1024
_PIXELS = 0x7FE00008  # float, double and integer pixel data: nothing from here on is header
_TRANSFER_SYNTAX = 0x00020010
_IMPLICIT = "1.2.840.10008.1.2"
_DEFLATED_OR_BIG = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_NAMES = {v: v.decode() for v in _SHORT | _LONG}
_SEQUENCES = frozenset(["SQ", ""])

_explicit = Struct("<HH2sH").unpack_from
_implicit = Struct("<HHL").unpack_from
_length = Struct("<L").unpack_from


class Unusual(Exception):
    """Not for this walker: pydicom decides what the file is."""


def _meta(data: bytes) -> tuple[str, int]:
    """Transfer syntax and where the dataset begins."""
    if data[128:132] != b"DICM" or data[132:138] != b"\x02\x00\x00\x00UL":
        raise Unusual
    end = 144 + int(_length(data, 140)[0])
    if end > len(data):
        raise Unusual
    found, _ = _walk(data, 132, end, explicit=True, whole=True)
    if _TRANSFER_SYNTAX not in found:
        raise Unusual
    return found[_TRANSFER_SYNTAX][1].rstrip(b"\0 ").decode("ascii", "replace"), end


def _walk(data: bytes, at: int, end: int, *, explicit: bool, whole: bool) -> tuple[Elements, bool]:
    """Elements from ``at``; and whether the header ended here. ``whole``: these are all bytes there are."""
    found: Elements = {}
    last = 0
    while at + 8 <= end:
        start = at
        if explicit:
            group, element, kind, length = _explicit(data, at)
            at += 8
            if kind in _LONG:
                if at + 4 > end:
                    at = start
                    break
                length = _length(data, at)[0]
                at += 4
            elif kind not in _SHORT:
                raise Unusual
            representation = _NAMES[kind]
        else:
            group, element, length = _implicit(data, at)
            at += 8
            representation = ""
        tag = group << 16 | element
        if tag >= _PIXELS:
            return found, True
        if tag <= last:
            raise Unusual  # elements stand in ascending order: whatever this is, it is not a dataset
        last = tag
        if length == _UNDEFINED:
            if representation not in ("SQ", "UN", ""):
                raise Unusual
            after = _skip_sequence(data, at, end, explicit and representation == "SQ")
            if after is None:
                if whole:
                    raise Unusual
                return found, False
            at = after
            continue
        if at + length > end:
            if whole:
                raise Unusual  # cut off: pydicom says how much of it is still good
            return found, False
        if representation not in ("SQ",):
            found[tag] = (representation, data[at : at + length])
        at += length
        if at <= start:
            raise Unusual
    if whole and at != end:
        raise Unusual
    return found, whole


def _skip_sequence(data: bytes, at: int, end: int, explicit: bool) -> int | None:
    """Where a sequence of undefined length ends; None when the bytes do not reach so far."""
    while at + 8 <= end:
        group, element, length = _implicit(data, at)
        tag = group << 16 | element
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise Unusual
        if length != _UNDEFINED:
            at += length
            continue
        after = _skip_item(data, at, end, explicit)
        if after is None:
            return None
        at = after
    return None


def _skip_item(data: bytes, at: int, end: int, explicit: bool) -> int | None:
    while at + 8 <= end:
        group, element, kind, length = _explicit(data, at)
        tag = group << 16 | element
        if tag == _ITEM_END:
            return at + 8
        if not explicit:
            kind, length = b"", int(_implicit(data, at)[2])
            at += 8
        elif kind in _LONG:
            if at + 12 > end:
                return None
            length = _length(data, at + 8)[0]
            at += 12
        elif kind in _SHORT:
            at += 8
        else:
            raise Unusual
        if length == _UNDEFINED:
            after = _skip_sequence(data, at, end, explicit and kind == b"SQ")
            if after is None:
                return None
            at = after
        else:
            at += length
    return None


def header(path: Path) -> tuple[Elements, str]:
    """The elements before the pixels, sequences left out, and the transfer syntax.

    Raises:
        Unusual: not a file for this walker.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        data = file.read(_BLOCK)
        whole = len(data) < _BLOCK
        if len(data) < 144:
            raise Unusual
        syntax, start = _meta(data)
        if syntax in _DEFLATED_OR_BIG:
            raise Unusual
        while True:
            found, ended = _walk(data, start, len(data), explicit=syntax != _IMPLICIT, whole=whole)
            if ended:
                return found, syntax
            more = file.read(len(data))
            whole = len(more) < len(data)
            data += more
