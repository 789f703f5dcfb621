"""DICOM values as text: character sets as declared, repaired where the declaration cannot be true."""

from __future__ import annotations

import re
from functools import lru_cache
from struct import unpack
from typing import Any

from ingestion.readers.names import has_ideographs, joined

#: Character sets that a header may claim while its bytes are GB18030 (feeds.md: "GB18030 mislabelled ISO_IR 100").
_DOUBTFUL = frozenset(["", "ISO_IR 6", "ISO 2022 IR 6", "ISO_IR 100", "ISO 2022 IR 100"])
_HIGH_PAIR = re.compile(rb"[\x81-\xfe][\x30-\xfe]")
_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}


def person_name(text: str) -> str:
    """PN: of the alphabetic, ideographic and phonetic groups the ideographic one (``Wang^XiaoDong=王^小东``)."""
    groups = [joined(g.split("^")[:3]) for g in text.split("=")]
    named = groups[1] if len(groups) > 1 and groups[1] else ""
    return named or next((g for g in groups if has_ideographs(g)), groups[0])


def is_doubtful(charset: str | None) -> bool:
    """Whether text may be in another character set than the header declares."""
    declared = charset or ""
    return "\\" not in declared and declared.strip() in _DOUBTFUL


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def recovered(raw: bytes) -> str | None:
    """Text of bytes whose declared character set cannot hold Chinese: UTF-8 or GB18030, whichever fits.

    Accented Latin letters also decode as GB18030 (``Müller`` gives ``M黮ler``): a high byte followed by an ASCII
    one. Chinese is mostly two high bytes, so those must be in the majority.
    """
    if raw.isascii():
        return None
    codec = "utf-8" if _is_utf8(raw) else "gb18030"
    pairs = _HIGH_PAIR.findall(raw)
    if codec == "gb18030" and 2 * sum(p[1] >= 0x80 for p in pairs) <= len(pairs):
        return None
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        return None
    return text if has_ideographs(text) else None


@lru_cache(maxsize=64)
def _codecs(charset: str) -> list[str]:
    from pydicom.charset import convert_encodings

    return list(convert_encodings(charset.split("\\")))


def _numbers(representation: str, raw: bytes, little: bool) -> str:
    letter = _NUMBERS[representation]
    size = {"H": 2, "h": 2, "L": 4, "l": 4, "f": 4, "d": 8, "Q": 8, "q": 8}[letter]
    count = len(raw) // size
    values = unpack(("<" if little else ">") + letter * count, raw[: count * size])
    if representation == "FL":  # 0.1 as a 32-bit number is not 0.10000000149011612
        return "\\".join(f"{v:.7g}" for v in values)
    return "\\".join(repr(v) for v in values)


def as_text(
    tag: int, representation: str, raw: bytes, charset: str | None, little: bool = True
) -> str | None:
    """One element's value, several joined by a backslash; what breaks its own rules is taken as its bytes are."""
    if not raw:
        return None
    if representation in _NUMBERS:
        return _numbers(representation, raw, little) or None
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip("\0 ") or None
    if is_doubtful(charset) and (text := recovered(raw)) is not None:
        return text.rstrip("\0 ")
    return _declared(tag, representation, raw, charset)


def _declared(tag: int, representation: str, raw: bytes, charset: str | None) -> str:
    """Text with its declared character set, escape sequences included (PS3.5 6.1.2)."""
    from pydicom.charset import decode_bytes
    from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

    delimiters: Any = PN_DELIMS if representation == "PN" else TEXT_VR_DELIMS
    try:
        return decode_bytes(raw, _codecs(charset or ""), delimiters).rstrip("\0 ")
    except Exception:  # an encoding nobody knows, bytes that are none: pydicom raises many kinds
        return raw.decode("ascii", "backslashreplace").rstrip("\0 ")
