"""Readers of delimited text against the module ``csv`` as a simple oracle."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.readers import delimited, records
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

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
