"""Every number that ingestion gives has its texts, and every text of its file is given somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import ingestion
from lake.errors import MedlakeError, catalogue

#: The room, and where its numbers are given besides: the door for uploads, the command line.
ROOMS = [Path(ingestion.__file__).parent.parent / name for name in ("ingestion", "portal", "medlake")]


def _used() -> set[str]:
    sources = [p.read_text("utf-8") for room in ROOMS for p in room.rglob("*.py")]
    return {code for text in sources for code in re.findall(r"\bE2\d\d\b", text)}


def test_numbers_and_texts_match() -> None:
    assert _used() == {code for code in catalogue() if code.startswith("E2")}


def test_every_text_tells_what_happened_and_what_to_do_in_both_languages() -> None:
    for code in sorted(c for c in catalogue() if c.startswith("E2")):
        error = MedlakeError(code, place="his/2026-11-18/H101/patient_1.csv:7")
        assert re.search("[\u4e00-\u9fff]", error.zh + error.remedy_zh), code
        assert re.search("[a-z]{3}", error.en), code
        assert re.search("[a-z]{3}", error.remedy_en), code
        assert "patient_1.csv:7" in str(error)
