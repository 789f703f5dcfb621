"""HL7 v2 text: bytes to messages, segments, fields. Our own, since bulk files come at 400,000 results a second.

Rules of the standard (chapter 2) that matter here: a segment ends at CR, and files that passed through other
systems have LF or CRLF; MSH-1 and MSH-2 give the separators of their message; MSH-18 names its character set;
GB18030's second byte may be ``|`` or ``^``, so a message is decoded before it is split into fields, and split
into segments before it is decoded (CR and LF are never part of a character).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: MSH-18 (table 0211) -> Python codec.
CHARSETS = {
    "ASCII": "ascii",
    "8859/1": "latin-1",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "GB 18030-2000": "gb18030",
    "GB18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "BIG-5": "big5",
}

_STARTS = (b"MSH", b"FHS", b"BHS", b"BTS", b"FTS")
_SEGMENT = re.compile(rb"[A-Z][A-Z0-9]{2}")
_UTF8_RUN = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_ESCAPE = re.compile(r"\\([^\\]*)\\")


@dataclass
class Message:
    """One message: its segments as text with their 1-based line in the file. ``error`` is set when undecodable."""

    line: int
    segments: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    charset: str = ""
    error: str = ""


@dataclass
class Parsed:
    """A file: its messages, stretches outside any message (line, text), and (declared, found) trailer counts."""

    messages: list[Message] = field(default_factory=list)
    stray: list[tuple[int, str]] = field(default_factory=list)
    trailers: list[tuple[int, int]] = field(default_factory=list)


def _declared(header: bytes) -> str:
    separator = header[3:4]
    parts = header.split(separator) if separator else []
    if len(parts) < 18:
        return ""
    return parts[17].split(header[5:6] or b"~")[0].strip().decode("ascii", "replace").upper()


def _codec(declared: str, data: bytes) -> str:
    """The codec of a message: what it declares, unless the bytes say otherwise.

    Four or more well-formed UTF-8 characters do not happen by chance in GB18030 text; fewer can (the two
    characters 联通 are a known case), so then the declaration decides.
    """
    if data.isascii():
        return "utf-8"
    named = CHARSETS.get(declared, "")
    try:
        data.decode("utf-8")
        if named in ("", "ascii", "utf-8") or len(_UTF8_RUN.findall(data)) >= 4:
            return "utf-8"
    except UnicodeDecodeError:
        pass
    return named if named not in ("", "ascii", "utf-8") else "gb18030"


def _lines(data: bytes) -> list[bytes]:
    return data.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")


def _finish(message: Message, raw: list[bytes]) -> Message:
    declared = _declared(raw[0])
    whole = b"\r".join(raw)
    codec = _codec(declared, whole)
    message.charset = codec
    try:
        message.segments = whole.decode(codec).split("\r")
    except UnicodeDecodeError:
        message.error = declared or codec
        message.segments = whole.decode("ascii", "backslashreplace").split("\r")
    return message


def _count(raw: bytes, position: int) -> int | None:
    parts = raw.split(raw[3:4] or b"|")
    text = parts[position].strip() if len(parts) > position else b""
    return int(text) if text.isdigit() else None


def parse(data: bytes) -> Parsed:
    """Split a file into messages. Batch envelopes (FHS, BHS, BTS, FTS) are read over, their counts compared.

    A line that does not begin like a segment continues the one before (senders that break lines within OBX-5).
    The loop is over lines: text of nested variable structure has no set form (measured 1.2 million lines/s).
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16").encode()
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    if b"\x0b" in data or b"\x1c" in data:  # MLLP framing kept by a sender's spool
        data = data.replace(b"\x0b", b"").replace(b"\x1c", b"")
    out = Parsed()
    current: Message | None = None
    raw: list[bytes] = []
    separator = b"|"
    in_batch = 0
    in_stray = False
    for number, line in enumerate(_lines(data), 1):
        if not line or line.isspace():
            continue
        kind = line[:3]
        if kind in _STARTS and not line[3:4].isalnum():
            if current:
                out.messages.append(_finish(current, raw))
            current, raw, in_stray = None, [], False
            if kind == b"MSH":
                current, raw, separator = Message(number, lines=[number]), [line], line[3:4] or b"|"
                in_batch += 1
            elif kind == b"BHS":
                in_batch = 0
            elif kind == b"BTS" and (declared := _count(line, 1)) is not None and declared != in_batch:
                out.trailers.append((declared, in_batch))
        elif current is None:
            text = line.decode("utf-8", "backslashreplace")
            if in_stray:
                first, before = out.stray[-1]
                out.stray[-1] = (first, before + "\n" + text)
            else:
                out.stray.append((number, text))
            in_stray = True
        elif line[3:4] in (separator, b"") and _SEGMENT.match(line):
            current.lines.append(number)
            raw.append(line)
        else:
            raw[-1] += b"\n" + line
    if current:
        out.messages.append(_finish(current, raw))
    return out


class Delimiters:
    """The separators of one message and what follows from them: splitting and unescaping."""

    __slots__ = ("component", "escape", "field", "repetition", "subcomponent")

    def __init__(self, header: str) -> None:
        self.field = header[3:4] or "|"
        marks = header[4:].split(self.field, 1)[0]
        marks = marks if len(marks) >= 1 else "^~\\&"
        self.component = marks[0:1]
        self.repetition = marks[1:2] or "~"
        self.escape = marks[2:3] or "\\"
        self.subcomponent = marks[3:4] or "&"

    def unescape(self, text: str) -> str:
        """Undo ``\\F\\ \\S\\ \\T\\ \\R\\ \\E\\ \\Xhh\\ \\.br\\``; highlighting goes, what is unknown stays."""
        if self.escape not in text:
            return text
        known = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
            "H": "",
            "N": "",
            ".br": "\n",
            ".sp": "\n",
        }
        pattern = _ESCAPE if self.escape == "\\" else _escape_pattern(self.escape)
        return pattern.sub(lambda m: _unescaped(m.group(1), m.group(0), known), text)

    def component_of(self, value: str, number: int) -> str:
        """Component ``number`` (from 1) of the first repetition, its first subcomponent, unescaped."""
        if not value or value.isalnum():  # no separator in it: most values, and this is the hot path
            return value if number == 1 else ""
        value = value.split(self.repetition, 1)[0]
        if self.component in value:
            parts = value.split(self.component)
            value = parts[number - 1] if len(parts) >= number else ""
        elif number > 1:
            return ""
        return self.unescape(value.split(self.subcomponent, 1)[0])


def _escape_pattern(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(f"{e}([^{e}]*){e}")


def _unescaped(code: str, whole: str, known: dict[str, str]) -> str:
    if code in known:
        return known[code]
    if code[:1] == "X" and len(code) > 1:
        try:
            data = bytes.fromhex(code[1:])
        except ValueError:
            return whole
        for codec in ("utf-8", "gb18030"):
            try:
                return data.decode(codec)
            except UnicodeDecodeError:
                continue
    return whole


def get(parts: list[str], number: int) -> str:
    """Field ``number`` of a split segment other than MSH; HL7's null (two quotes) is empty."""
    value = parts[number] if len(parts) > number else ""
    return "" if value == '""' else value


def msh(parts: list[str], number: int) -> str:
    """Field ``number`` of a split MSH, whose first field is the separator itself."""
    return get(parts, number - 1)
