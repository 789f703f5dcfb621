"""Numbered errors, logs without patient data, SM3."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from lake import crypto
from lake.errors import MedlakeError, catalogue
from lake.log import logger
from lake.settings import Settings


def test_every_error_has_four_texts_and_a_number_of_its_room() -> None:
    rooms = {
        "1": "lake",
        "2": "ingestion",
        "3": "empi",
        "4": "quality",
        "5": "build",
        "6": "products",
        "7": "operations",
        "8": "simulator",
        "9": "worklist",
    }
    folder = Path(__file__).parents[2] / "lake" / "errors"
    texts = {path.stem: "\n" + path.read_text("utf-8") for path in folder.glob("*.yaml")}
    for code, text in catalogue().items():
        assert text.zh and text.en and text.remedy_zh and text.remedy_en, code
        assert any("\u4e00" <= c <= "\u9fff" for c in text.zh + text.remedy_zh), code
        (home,) = (stem for stem, told in texts.items() if f"\n{code}:" in told)
        in_area = code[1] in "2346" and home not in rooms.values()  # these rooms have areas
        assert home == rooms[code[1]] or in_area, code


def test_an_error_says_where_and_what_to_do_and_crosses_processes() -> None:
    error = MedlakeError("E102", place="x", feed="abc", known="his, lis")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert "abc" in error.zh and "his, lis" in error.remedy_en and error.code in str(error)


def test_a_missing_placeholder_does_not_hide_the_error() -> None:
    assert "?" in MedlakeError("E105").zh


def test_log_drops_what_is_not_allowed(lake_home: Path) -> None:
    logger("test").info("row_seen", feed="his", name="王小东", id_no="110101199001011234", rows=3)
    line = json.loads((lake_home / "logs" / "medlake.jsonl").read_text("utf-8").splitlines()[-1])
    assert line["feed"] == "his" and line["rows"] == 3 and line["dropped_keys"] == 2
    assert "王小东" not in json.dumps(line, ensure_ascii=False)


def test_sm3_vector_of_the_standard() -> None:
    assert crypto.sm3_hex(b"abc") == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_tokens_are_stable_per_domain_and_installation(lake_home: Path) -> None:
    column = crypto.token_column("person", pa.array(["a", None, "b", "a"]))
    assert column.to_pylist() == [
        crypto.token("person", "a"),
        None,
        crypto.token("person", "b"),
        crypto.token("person", "a"),
    ]
    assert crypto.token("person", "a") != crypto.token("cohort", "a")
    assert (lake_home / "secrets" / "token.key").stat().st_mode & 0o077 == 0


def test_every_setting_is_documented() -> None:
    undocumented = [n for n, f in Settings.model_fields.items() if not f.description]
    assert undocumented == []


def test_unknown_error_number_is_a_bug() -> None:
    with pytest.raises(KeyError):
        MedlakeError("E000")
