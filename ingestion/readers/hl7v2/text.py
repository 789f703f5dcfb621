"""HL7 v2 text: which characters and which separators a message is in, escapes, fields of one segment.

Rules of the standard (chapter 2) that matter here: a segment ends at CR, and files that passed through other
systems have LF or CRLF; MSH-1 and MSH-2 give the separators of their message; MSH-18 names its character set;
GB18030's second byte may be ``|`` or ``^``, so a message is decoded before it is split into fields, and split
into segments before it is decoded (CR and LF are never part of a character).
"""

from __future__ import annotations

import re
from functools import lru_cache

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
#: Codecs under which well-formed UTF-8 is taken for what it is.
ASSUMED_UTF8 = ("", "ascii", "utf-8")

_UTF8_RUN = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_ESCAPE = re.compile(r"\\([^\\]*)\\")


def declared(header: bytes) -> str:
    """MSH-18 of a header's bytes, its first repetition in capitals."""
    separator = header[3:4]
    parts = header.split(separator) if separator else []
    if len(parts) < 18:
        return ""
    return parts[17].split(header[5:6] or b"~")[0].strip().decode("ascii", "replace").upper()


def codec_of(header: bytes, data: bytes) -> str:
    """The codec of a message: what its header declares, unless the bytes say otherwise.

    Four or more well-formed UTF-8 characters do not happen by chance in GB18030 text; fewer can (the two
    characters 联通 are a known case), so then the declaration decides.
    """
    if data.isascii():
        return "utf-8"
    named = CHARSETS.get(declared(header), "")
    try:
        data.decode("utf-8")
        if named in ASSUMED_UTF8 or len(_UTF8_RUN.findall(data)) >= 4:
            return "utf-8"
    except UnicodeDecodeError:
        pass
    return named if named not in ASSUMED_UTF8 else "gb18030"


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

    @property
    def usual(self) -> bool:
        return self.field + self.component + self.repetition + self.escape + self.subcomponent == "|" + USUAL

    def literal(self, code: str) -> str | None:
        """The character that an escape such as ``S`` stands for."""
        found = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
        }
        return found.get(code)

    def unescape(self, text: str) -> str:
        """Undo ``\\F\\ \\S\\ \\T\\ \\R\\ \\E\\ \\Xhh\\ \\.br\\``; highlighting goes, what is unknown stays."""
        if self.escape not in text:
            return text
        pattern = _ESCAPE if self.escape == "\\" else escapes(self.escape)
        return pattern.sub(lambda m: self._unescaped(m.group(1), m.group(0)), text)

    def _unescaped(self, code: str, whole: str) -> str:
        literal = self.literal(code)
        if literal is not None:
            return literal
        if code in _FORMAT:
            return _FORMAT[code]
        return _hexadecimal(code[1:], whole) if code[:1] == "X" and len(code) > 1 else whole

    def component_of(self, value: str, number: int) -> str:
        """Component ``number`` (from 1) of the first repetition, its first subcomponent, unescaped."""
        if not value or value.isalnum():  # no separator in it
            return value if number == 1 else ""
        value = value.split(self.repetition, 1)[0]
        if self.component in value:
            parts = value.split(self.component)
            value = parts[number - 1] if len(parts) >= number else ""
        elif number > 1:
            return ""
        return self.unescape(value.split(self.subcomponent, 1)[0])


USUAL = "^~\\&"
STANDARD = Delimiters("MSH|" + USUAL + "|")
_FORMAT = {"H": "", "N": "", ".br": "\n", ".sp": "\n"}


@lru_cache(maxsize=64)
def escapes(escape: str) -> re.Pattern[str]:
    """The pattern of an escape sequence, its code as group 1."""
    e = re.escape(escape)
    return re.compile(f"{e}([^{e}]*){e}")


def _hexadecimal(digits: str, whole: str) -> str:
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return whole
    for codec in ("utf-8", "gb18030"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return whole


def usual_text(text: str, marks: Delimiters) -> str:
    """A segment in the usual separators ``|^~\\&``, a line break within it as ``\\.br\\``; means the same."""
    text = text.replace("\n", f"{marks.escape}.br{marks.escape}")
    if marks.usual:
        return text
    usual = {marks.field: "|", marks.component: "^", marks.repetition: "~", marks.subcomponent: "&"}
    taken = {"|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "\\": "\\E\\", "&": "\\T\\"}
    table = str.maketrans({k: v for k, v in {**taken, **usual}.items() if k != marks.escape})
    plain = str.maketrans(taken)
    pieces, at = [], 0
    for found in escapes(marks.escape).finditer(text):
        pieces.append(text[at : found.start()].translate(table))
        literal = marks.literal(found.group(1))
        pieces.append(f"\\{found.group(1)}\\" if literal is None else literal.translate(plain))
        at = found.end()
    return "".join(pieces) + text[at:].translate(table)


def get(parts: list[str], number: int) -> str:
    """Field ``number`` of a split segment other than MSH; HL7's null (two quotes) is empty."""
    value = parts[number] if len(parts) > number else ""
    return "" if value == '""' else value


def msh(parts: list[str], number: int) -> str:
    """Field ``number`` of a split MSH, whose first field is the separator itself."""
    return get(parts, number - 1)
