"""What an archive answered: rows of studies and series, texts repaired, broken lines told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingestion.readers.dicom import answers
from tests.ingestion_world import Collected, landed


@pytest.fixture(autouse=True)
def _home(lake_home: Path) -> None:
    """A deleted study is looked for in silver: an empty lake."""


def study(**more: dict[str, Any]) -> dict[str, Any]:
    answer = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00080020": {"vr": "DA", "Value": ["20261118"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00201206": {"vr": "IS", "Value": [2]},
        "00201208": {"vr": "IS", "Value": ["120"]},
    }
    return {"level": "study", "op": "U", "answer": answer | {k.removeprefix("t"): v for k, v in more.items()}}


def read(tmp_path: Path, *lines: dict[str, Any] | str, **head: Any) -> Collected:
    first = {
        "medlake": "pacs-answers",
        "asked_at": "2026-11-18T09:00:00+00:00",
        "studies": 1,
        "series": 0,
    } | head
    text = "\n".join(
        x if isinstance(x, str) else json.dumps(x, separators=(",", ":")) for x in (first, *lines)
    )
    sink = Collected()
    answers.read(landed(tmp_path / "qido_a.json", text.encode()), sink)
    return sink


def only(sink: Collected) -> dict[str, Any]:
    (row,) = sink.tables["imaging_study"]
    return row


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}, "王小东"),
        ({"Ideographic": "王^小东"}, "王小东"),
        ({"Alphabetic": "王^小东".encode("gb18030").decode("latin-1")}, "王小东"),  # taken for ISO_IR 100
        ({"Alphabetic": "Müller^Jörg"}, "Müller Jörg"),
    ],
)
def test_names_and_descriptions_whatever_the_archive_took_them_for(
    tmp_path: Path, value: dict[str, str], name: str
) -> None:
    mangled = "胸部平扫".encode("gb18030").decode("latin-1")
    row = only(
        read(
            tmp_path,
            study(t00100010={"vr": "PN", "Value": [value]}, t00081030={"vr": "LO", "Value": [mangled]}),
        )
    )
    assert (row["name"], row["study_description"]) == (name, "胸部平扫")


def test_counts_modalities_and_the_instant_of_asking(tmp_path: Path) -> None:
    sink = read(tmp_path, study())
    row = only(sink)
    assert (row["series_count"], row["instance_count"], row["modalities"]) == ("2", "120", "CT\\SR")
    assert (row["study_at"], row["source_updated_at"]) == ("20261118", "2026-11-18T09:00:00+00:00")
    assert ("imaging_study", 1, "study answers") in sink.announced


@pytest.mark.parametrize(
    ("clock", "offset", "expected"),
    [
        (["081500"], None, "20261118081500"),
        (["08:15:00"], None, "20261118081500"),
        (["081500.123"], ["+0900"], "20261118081500.123+0900"),
        (None, ["+0900"], "20261118"),  # a day has no offset
    ],
)
def test_the_instant_of_a_study(
    tmp_path: Path, clock: list[str] | None, offset: list[str] | None, expected: str
) -> None:
    more = {
        t: {"vr": "TM", "Value": v} for t, v in (("t00080030", clock), ("t00080201", offset)) if v is not None
    }
    assert only(read(tmp_path, study(**more)))["study_at"] == expected


def test_a_line_that_is_cut_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    sink = read(tmp_path, study(), '{"level":"study","op":"U","answer":{"0020')
    assert len(sink.tables["imaging_study"]) == 1
    assert [(r.code, r.line) for r in sink.rejects] == [("E216", 3)]


def test_a_file_that_only_looks_like_answers_is_refused(tmp_path: Path) -> None:
    for first in ('{"medlake":"pacs-answers"', '{"medlake":"pacs-answers"}'):
        sink = Collected()
        answers.read(landed(tmp_path / "a.json", first.encode()), sink)
        assert [(r.code, r.table) for r in sink.rejects] == [("E219", "file")]
