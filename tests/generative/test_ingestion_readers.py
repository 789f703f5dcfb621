"""Readers against simple oracles: the package ``hl7`` for messages, the module ``csv`` for delimited text."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import hl7
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers import delimited, records
from ingestion.readers.hl7v2_text import Delimiters, get, parse
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
_MESSAGE = st.lists(_SEGMENT, min_size=1, max_size=5)


@given(st.lists(_MESSAGE, min_size=1, max_size=3), st.sampled_from(["\r", "\n", "\r\n"]))
@settings(max_examples=120, deadline=None)
def test_messages_split_like_the_package_hl7(messages: list[list[tuple[str, list[str]]]], end: str) -> None:
    texts = []
    for number, segments in enumerate(messages):
        header = f"MSH|^~\\&|A|B|C|D|20261118||ADT^A04|M{number}|P|2.5.1||||||UNICODE UTF-8"
        texts.append("\r".join([header, *(f"{kind}|{'|'.join(fields)}" for kind, fields in segments)]) + "\r")
    ours = parse("".join(texts).replace("\r", end).encode()).messages
    assert len(ours) == len(texts)
    for mine, text in zip(ours, texts, strict=True):
        oracle = hl7.parse(text)
        marks = Delimiters(mine.segments[0])
        assert len(mine.segments) == len(oracle)
        for segment, theirs in zip(mine.segments[1:], oracle[1:], strict=True):
            parts = segment.split(marks.field)
            assert len(parts) == len(theirs)
            for position in range(1, len(parts)):
                # the package strips a message's last blank, so blanks at the ends are left out of the comparison
                assert get(parts, position).strip() == str(theirs[position]).strip()
                first = theirs[position][0] if len(theirs[position]) else ""
                expected = oracle.unescape(_first_component(first))
                assert marks.component_of(parts[position], 1).strip() == expected.strip()


def _first_component(node: object) -> str:
    """The first component's first subcomponent, in whatever nesting the oracle keeps it."""
    while not isinstance(node, str):
        node = node[0] if len(node) else ""  # type: ignore[index,arg-type]
    return node.split("^", 1)[0].split("&", 1)[0]


_CELL = st.text(st.sampled_from('ab王,"\n ;'), max_size=5)


@given(st.lists(st.lists(_CELL, min_size=4, max_size=4), max_size=12))
@settings(max_examples=150, deadline=None)
def test_wellformed_csv_reads_like_the_module_csv(rows: list[list[str]]) -> None:
    head = ["PATIENT_LOCAL_ID", "NAME", "SEX_CODE", "ADDR_DETAIL"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    kept, lines = [], []
    for row in rows:
        lines.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
        if not any(row):
            lines.pop()
        else:
            kept.append(row)
    sink = Collected()
    with tempfile.TemporaryDirectory() as folder:
        file = landed(Path(folder) / "patient_1.csv", out.getvalue().encode())
        delimited.read(file, contract("his").tables["patient"], sink)
    got = sink.tables.get("patient", [])
    assert not sink.rejects
    names = ("patient_local_id", "name", "sex_code", "addr_detail")
    assert [[r[n] for n in names] for r in got] == kept
    assert [r["source_line"] for r in got] == lines


@given(st.text(st.sampled_from('a王,"\n'), max_size=60), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_records_cover_every_byte_that_is_no_line_break(text: str, expected: int) -> None:
    data = text.encode()
    found = records.find(data, ",", expected)
    covered = bytearray(len(data))
    for start, end in zip(found.start.tolist(), found.end.tolist(), strict=True):
        assert 0 <= start < end <= len(data)
        for i in range(start, end):
            assert not covered[i], "two records share a byte"
            covered[i] = 1
    missed = bytes(b for b, c in zip(data, covered, strict=True) if not c)
    assert set(missed) <= {10}
    begins = [data[:s].count(b"\n") for s in found.start.tolist()]
    assert found.line.tolist() == begins
