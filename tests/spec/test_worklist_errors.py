"""Every number of the worklist and the fast lane has its texts, and every text is given somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import worklist
from lake.errors import MedlakeError, catalogue
from lake.settings import PROJECT_ROOT

PLACES = (Path(worklist.__file__).parent, PROJECT_ROOT / "ingestion" / "fastlane")


def test_numbers_and_texts_match() -> None:
    sources = [p.read_text("utf-8") for folder in PLACES for p in folder.rglob("*.py")]
    used = {code for text in sources for code in re.findall(r"\"(E9\d\d)\"", text)}
    assert used == {code for code in catalogue() if code.startswith("E9") and code < "E940"}


def test_every_text_tells_what_to_do_in_both_languages_and_fills_its_places() -> None:
    for code in sorted(c for c in catalogue() if c.startswith("E9")):
        error = MedlakeError(code, place="x")
        assert re.search("[\u4e00-\u9fff]", error.zh) and re.search(
            "[\u4e00-\u9fff]|medlake", error.remedy_zh
        ), code
        assert re.search("[a-z]{3}", error.en) and re.search("[a-z]{3}", error.remedy_en), code
