"""The column-wise HL7 reader against the package ``hl7``: any separators, character sets, line ends, piece sizes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers import hl7v2
from ingestion.readers.hl7v2 import chunks, reader
from ingestion.readers.hl7v2.columns import Fields
from ingestion.readers.hl7v2.lookup import Reading
from ingestion.readers.hl7v2.segments import segments
from ingestion.readers.hl7v2.text import STANDARD
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

_WORDS = st.text(st.sampled_from("abXY09 .,;王小東䶮-"), max_size=6)
_ESCAPED = st.lists(
    st.one_of(_WORDS, st.sampled_from(["\\F\\", "\\S\\", "\\T\\", "\\R\\", "\\E\\"])), max_size=3
)
_SUB = _ESCAPED.map("".join)
_COMPONENT = st.lists(_SUB, min_size=1, max_size=2).map("&".join)
_REPETITION = st.lists(_COMPONENT, min_size=1, max_size=3).map("^".join)
_FIELD = st.lists(_REPETITION, min_size=1, max_size=2).map("~".join)
_SEGMENT = st.tuples(
    st.sampled_from(["PID", "PV1", "OBR", "OBX", "ZXX", "NK1"]), st.lists(_FIELD, min_size=1, max_size=6)
)
_BODY = st.lists(_SEGMENT, min_size=1, max_size=5)
_OTHER = str.maketrans("|^~\\&", "#*!?%")


@dataclass(frozen=True)
class Sent:
    """A message as its sender wrote it: ``text`` in the usual separators, ``bytes`` as they were sent."""

    text: str
    other_separators: bool
    codec: str

    @property
    def bytes(self) -> bytes:
        text = self.text.translate(_OTHER) if self.other_separators else self.text
        return text.encode(self.codec)


@st.composite
def _sent(draw: st.DrawFn) -> Sent:
    codec = draw(st.sampled_from(["utf-8", "gb18030"]))
    declared = "UNICODE UTF-8" if codec == "utf-8" else "GB 18030-2000"
    header = f"MSH|^~\\&|A|B|C|D|20261118||ADT^A04|M1|P|2.5.1||||||{declared}"
    rest = [f"{kind}|{'|'.join(fields)}" for kind, fields in draw(_BODY)]
    return Sent("\r".join([header, *rest]) + "\r", draw(st.booleans()), codec)


@given(
    st.lists(_sent(), min_size=1, max_size=4), st.sampled_from([b"\r", b"\n", b"\r\n"]), st.integers(5, 400)
)
@settings(max_examples=60, deadline=None)
def test_messages_are_kept_as_the_package_splits_them(sent: list[Sent], end: bytes, size: int) -> None:
    sink = Collected()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "CHUNK", size)
        data = b"".join(s.bytes for s in sent).replace(b"\r", end)
        hl7v2.read(landed(Path(folder) / "x.hl7", data), contract("hl7v2"), sink)
    rows = sink.tables["hl7v2_message"]
    assert len(rows) == len(sent)
    line = 1
    for row, message in zip(rows, sent, strict=True):
        mark = "#" if message.other_separators else "|"
        text = message.text.translate(_OTHER) if message.other_separators else message.text
        assert json.loads(row["segments"]) == [s.split(mark) for s in text.split("\r")[:-1]]
        assert len(hl7.parse(message.text)) == int(row["segment_count"])
        assert row["source_line"] == line
        line += text.count("\r")


@given(st.lists(_sent(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_fields_components_and_escapes_are_the_packages(sent: list[Sent]) -> None:
    found = segments(chunks.Chunk(b"".join(s.bytes for s in sent), 1))
    reading = Reading(found)
    for kind in ("PID", "PV1", "OBR", "OBX", "ZXX", "NK1"):
        positions = found.at(kind)
        if not len(positions):
            continue
        fields: Fields = reading.fields(kind)
        oracle = [
            (message, segment, "#*!?%" if s.other_separators else "|^~\\&")
            for s in sent
            for message in [hl7.parse(s.bytes.decode(s.codec))]
            for segment in message
            if str(segment[0]) == kind
        ]
        assert len(oracle) == len(positions)
        for number in range(1, 7):
            for component in (1, 2, 3):
                ours = fields.component(number, component).to_pylist()
                for mine, (message, segment, marks) in zip(ours, oracle, strict=True):
                    theirs = _component(message, segment, marks, number, component)
                    # the package strips a message's last blank, so blanks at the ends are not compared
                    assert (mine or "").strip() == theirs.strip()


def _component(message: hl7.Message, segment: hl7.Segment, marks: str, number: int, component: int) -> str:
    """The first repetition's component, its first subcomponent, as the package splits and unescapes."""
    if len(segment) <= number:
        return ""
    text = str(segment[number]).split(marks[2])[0].split(marks[1])
    part = text[component - 1].split(marks[4])[0] if len(text) >= component else ""
    return str(message.unescape(part))


_CX = st.tuples(
    st.sampled_from(["1", "22", ""]), st.sampled_from(["MR", "PI", "NI", "HC", "PPN", "XX", "", "PT"])
).map(lambda t: f"{t[0]}^^^H001^{t[1]}" if t[1] else t[0])


@given(st.lists(st.lists(_CX, min_size=1, max_size=4).map("~".join), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_local_identifier_is_chosen_by_preference(fields: list[str]) -> None:
    text = "".join(f"MSH|^~\\&|A|B\rPID|1||{field}|\r" for field in fields)
    ours = Reading(segments(chunks.Chunk(text.encode(), 1)))
    from ingestion.readers.hl7v2.datatypes import Identifiers

    got = Identifiers(ours.fields("PID"), 3).local().to_pylist()
    assert [g or "" for g in got] == [_preferred(field) for field in fields]


def _preferred(field: str) -> str:
    found: dict[str, str] = {}
    for repetition in field.split("~"):
        parts = repetition.split("^")
        if parts[0]:
            found.setdefault(parts[4] if len(parts) > 4 else "", STANDARD.unescape(parts[0]))
    for kind in ("MR", "PI", "PT", ""):
        if kind in found:
            return found[kind]
    return next((v for k, v in found.items() if k not in ("NI", "PPN", "HC")), "")
