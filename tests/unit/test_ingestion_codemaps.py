"""Code maps: scopes, days, the overlay, and what may be accepted."""

from __future__ import annotations

import csv
import stat
from datetime import date
from pathlib import Path

import pytest

from ingestion import codemaps, codes, reviewed
from lake import audit
from lake.errors import MedlakeError

DAY = date(2026, 11, 18)
BY = {"reviewer": "王审核", "reviewed_on": DAY}


def test_every_row_has_its_reviewer_and_all_columns() -> None:
    for path in sorted(Path(codemaps.__file__).parent.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows and set(rows[0]) == set(reviewed.CODE_MAP) - {"code_system"}, path.name
        assert all(r["reviewer"] and r["reviewed_on"] for r in rows), path.name


def test_an_institutions_own_map_beats_the_feeds_and_that_the_general_one(lake_home: Path) -> None:
    codes.accept("blood_rh", "1", "2", feed="public_health", **BY)
    codes.accept("blood_rh", "1", "1", feed="public_health", org_code="C201", **BY)
    codes.accept("blood_rh", "+阳", "2", **BY)
    assert codemaps.code_map("blood_rh")["1"] == "1"
    assert codemaps.code_map("blood_rh", feed="public_health", org_code="C202")["1"] == "2"
    assert codemaps.code_map("blood_rh", feed="public_health", org_code="C201")["1"] == "1"
    assert codemaps.code_map("blood_rh", feed="his", org_code="C201")["1"] == "1"
    assert codemaps.code_map("blood_rh")["+阳"] == "2"
    assert codemaps.scopes("blood_rh", "public_health") == [
        ("public_health", True),
        ("public_health", False),
        ("", False),
    ]
    assert codemaps.scopes("blood_rh", "his") == [("", False)]


def test_a_map_holds_within_its_days_and_a_later_one_takes_over(lake_home: Path) -> None:
    codes.accept("sex", "甲", "1", valid_from=date(2026, 1, 1), valid_to=date(2026, 6, 30), **BY)
    codes.accept("sex", "甲", "2", valid_from=date(2026, 4, 1), **BY)
    found = {
        d: codemaps.code_map("sex", on=d).get("甲")
        for d in (date(2025, 12, 31), date(2026, 3, 31), date(2026, 4, 1))
    }
    assert list(found.values()) == [None, "1", "2"]
    assert codemaps.code_map("sex")["甲"] == "2"
    table = codemaps.as_table(["sex"], date(2026, 3, 1)).to_pylist()
    assert [r["code"] for r in table if r["source_key"] == "甲"] == ["1"]
    every = [r for r in codemaps.as_table(["sex"], every=True).to_pylist() if r["source_key"] == "甲"]
    assert sorted((r["valid_from"], r["valid_to"], r["code"]) for r in every) == [
        (date(2026, 1, 1), date(2026, 3, 31), "1"),
        (date(2026, 4, 1), date(9999, 12, 31), "2"),
    ]


@pytest.mark.parametrize(("source", "code"), [("甲", "7"), ("1", "2"), ("甲", "")])
def test_what_may_not_be_accepted(lake_home: Path, source: str, code: str) -> None:
    with pytest.raises(MedlakeError) as refused:
        codes.accept("sex", source, code, **BY)
    assert refused.value.code == "E260"
    assert not reviewed.overlay("code_map")


def test_nobody_accepts_without_a_name(lake_home: Path) -> None:
    with pytest.raises(MedlakeError) as refused:
        codes.accept("sex", "甲", "1", reviewer=" ", reviewed_on=DAY)
    assert refused.value.code == "E229"


def test_the_overlay_is_private_and_audited(lake_home: Path) -> None:
    codes.accept("sex", "男,士", "1", note='说"明"', **BY)
    codes.accept_header("public_health", "htn_visit", "高血压（上）", "sbp_mmhg", **BY)
    path = reviewed.overlay_path("code_map")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert codemaps.code_map("sex")["男,士"] == "1"
    assert audit.verify() == 2


def test_a_broken_overlay_is_told_not_ignored(lake_home: Path) -> None:
    codes.accept("sex", "甲", "1", **BY)
    path = reviewed.overlay_path("code_map")
    path.write_text(path.read_text("utf-8").replace("王审核", ""), "utf-8")
    with pytest.raises(MedlakeError) as refused:
        codemaps.code_map("sex")
    assert (refused.value.code, refused.value.place) == ("E229", "code_map.csv:2")


def test_units_headers_and_zones_are_checked(lake_home: Path) -> None:
    for call in (
        lambda: codes.accept("ucum", "糖单位", "nonsense", **BY),
        lambda: codes.accept_header("public_health", "htn_visit", "甲", "nonsense", **BY),
        lambda: codes.accept_zone("public_health", "Mars/Base", **BY),
        lambda: codes.accept("sex", "甲", "1", feed="nonsense", **BY),
    ):
        with pytest.raises(MedlakeError):
            call()
