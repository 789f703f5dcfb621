"""Acknowledgements of HL7 v2 (chapter 2.9): which one a message gets, and its text.

Built by ourselves, since the package ``hl7`` parses 1,700 messages a second; tests hold it against that package.
Original mode answers AA, AE or AR; enhanced mode (MSH-15 or MSH-16 valued) answers CA, CE or CR as they ask.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from ingestion.readers.hl7v2.text import Delimiters, codec_of, msh
from lake.local_time import SHANGHAI

#: Table 0357: what ERR-3 says.
CONDITIONS = {
    100: "Segment sequence error",
    101: "Required field missing",
    103: "Table value not found",
    200: "Unsupported message type",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    207: "Application internal error",
}


@dataclass(frozen=True)
class Header:
    """MSH of a message as text; ``codec`` is what its characters are in."""

    parts: list[str]
    marks: Delimiters
    codec: str

    def field(self, number: int) -> str:
        return msh(self.parts, number)

    def first(self, number: int, component: int = 1) -> str:
        return self.marks.component_of(msh(self.parts, number), component)


@dataclass(frozen=True)
class Trouble:
    """Why a message is not taken. ``reject``: sending it again as it is will not help (AR); else AE.

    ``place`` is ERR-2: segment, sequence, field.
    """

    condition: int
    place: str = ""
    reject: bool = False
    detail: str = ""


def header_of(content: bytes) -> Header | None:
    """The MSH of a message; None when it does not begin with a usable one."""
    if content[:3] != b"MSH" or len(content) < 8 or content[3:4].isalnum() or content[3] < 0x20:
        return None
    ends = [at for at in (content.find(b"\r"), content.find(b"\n")) if at >= 0]
    first = content[: min(ends)] if ends else content
    codec = codec_of(first, content)
    try:
        text = first.decode(codec)
    except UnicodeDecodeError:
        codec = "latin-1"  # whatever it is: bytes go back as they came
        text = first.decode(codec)
    return Header(text.split(text[3]), Delimiters(text), codec)


@dataclass(frozen=True)
class Accepted:
    """What a door takes: message types (MSH-9.1), versions (beginnings of MSH-12), processing ids (MSH-11)."""

    types: Collection[str]
    versions: tuple[str, ...]
    processing: Collection[str]


def trouble_of(header: Header, accepted: Accepted) -> Trouble | None:
    """What a header alone shows. An empty MSH-11 or MSH-12 passes: old senders leave them out."""
    if not header.first(9):
        return Trouble(101, "MSH^1^9")
    if not header.first(10):
        return Trouble(101, "MSH^1^10")
    version = header.first(12)
    if version and not version.startswith(accepted.versions):
        return Trouble(203, "MSH^1^12", reject=True)
    processing = header.first(11)
    if processing and processing not in accepted.processing:
        return Trouble(202, "MSH^1^11", reject=True)
    if header.first(9) not in accepted.types:
        return Trouble(200, "MSH^1^9", reject=True)
    return None


def code_of(header: Header | None, trouble: Trouble | None) -> str | None:
    """MSA-1; None when enhanced mode asks for no answer.

    MSH-15 rules the accept acknowledgement (AL always, NE never, ER on errors, SU on success); where it asks for
    none, MSH-16 rules the application's. Ours is one and the same act, so a message gets one answer.
    """
    result = "A" if trouble is None else "R" if trouble.reject else "E"
    if header is None:
        return "A" + result
    accept, application = header.field(15).strip(), header.field(16).strip()
    if not accept and not application:
        return "A" + result
    wanted = {"AL": True, "ER": trouble is not None, "SU": trouble is None}
    if wanted.get(accept, False):
        return "C" + result
    if wanted.get(application, False):
        return "A" + result
    return None


def build(header: Header | None, code: str, trouble: Trouble | None, control_id: str, at: datetime) -> bytes:
    """The acknowledgement in the message's own separators, version and character set, segments ended by CR."""
    if header is None:
        f, s, marks, codec = "|", "^", "^~\\&", "utf-8"
        fields = ["", "", "", "", "", "", "2.5", ""]
    else:
        f, s, codec = header.marks.field, header.marks.component, header.codec
        marks = header.field(2)
        kind = header.first(9, 2)
        fields = [header.field(n) for n in (5, 6, 3, 4)]
        fields += [kind, header.field(11), header.field(12), header.field(18)]
    app, facility, to_app, to_facility, event, processing, version, charset = fields
    kinds = [k for k in ("ACK", event, "ACK" if event else "") if k]
    stamp = at.astimezone(SHANGHAI).strftime("%Y%m%d%H%M%S%z")
    head = ["MSH", marks, app, facility, to_app, to_facility, stamp, "", s.join(kinds), control_id]
    head += [processing or "P", version, "", "", "", "", "", charset]
    answered = header.field(10) if header is not None else ""
    text = CONDITIONS[trouble.condition] if trouble else ""
    lines = [f.join(head).rstrip(f), f.join(["MSA", code, answered, text]).rstrip(f)]
    if trouble:
        place, table = trouble.place.replace("^", s), "HL70357"
        cwe = s.join([str(trouble.condition), text, table])
        if version[:3] in ("2.1", "2.2", "2.3", "2.4"):
            sub = header.marks.subcomponent if header is not None else "&"
            lines.append(f.join(["ERR", s.join([place or s + s, cwe.replace(s, sub)])]))
        else:
            lines.append(f.join(["ERR", "", place, cwe, "E", "", "", trouble.detail]).rstrip(f))
    return ("\r".join(filter(None, lines)) + "\r").encode(codec, "replace")
