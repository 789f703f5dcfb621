"""Ranking, cards, leads and gates over a checked city: NA apart from 0, sums that add up, institutions in reach."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from lake import tables
from lake.errors import MedlakeError
from lake.settings import settings
from portal import score_pages
from portal.accounts import Person
from quality import forensics
from quality.forensics.screen import SCHEMA
from tests import steward_world as world
from tests.portal_client import client

LEAD = {"quarter": "2026Q4", "test": "day", "org_code": "C201", "doctor_id": "D77", "n": 60, "statistic": 60.0,
        "p": 1e-6, "q_value": 1e-5, "tested": 9, "note_zh": "单日随访60人次", "screened_on": date(2026, 11, 20)}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def city(steward_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with world.at_home(world.copied(steward_home, tmp_path_factory.mktemp("scores"))):
        rows = [LEAD, LEAD | {"org_code": "C204", "doctor_id": "D88"}]
        tables.overwrite(forensics.TABLE, pa.Table.from_pylist(rows, schema=SCHEMA))
        yield


def person(role: str = "steward", org: str = "H001") -> Person:
    return Person("someone", role, org, "")


def test_the_ranking_shows_intervals_and_keeps_na_apart_from_zero() -> None:
    found = score_pages.ranking(person(), "EXM", 30)
    zero = next(r for r in found["rows"] if r["org_code"] == "C201")
    assert zero["score"] == 0.0 and zero["bar"] is not None
    assert all(r["score"] is None and r["eligible"] == 0 for r in found["without"]) and found["without"]
    for row in found["rows"]:
        left, middle, right = row["bar"]
        assert 0 <= left <= middle <= right <= 200
    page = client("steward").get("/scores?domain=EXM").text
    assert "NA：" in page and "不计 0 分" in page and "0.00" in page
    small = [r for r in score_pages.ranking(person(), "ARC", 30)["rows"] if r["is_small"]]
    assert small and client("steward").get("/scores?domain=ARC").text.count('class="pill warn"') == len(small)


def test_a_card_says_how_its_score_is_made() -> None:
    found = score_pages.card(person(), "C201", "ALL", 30)
    assert found is not None
    assert found["told"]["card"]["score"] == pytest.approx(100 - found["taken"], abs=0.00501)
    page = client("steward").get("/scores/C201").text
    for part in found["told"]["parts"]:
        assert part["rule_id"] in page and f"{part['points']:.2f}" in page
    assert "先验强度" in page and "<svg" in page


def test_a_card_of_an_older_check_that_kept_no_parts_is_there_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def older(*_: str) -> None:
        raise MedlakeError("E453", data_date=date(2026, 11, 20))

    monkeypatch.setattr(score_pages, "_explained", older)
    answer = client("steward").get("/scores/C201?domain=HTN")
    assert answer.status_code == 200 and "没有留下逐条明细" in answer.text
    assert client("steward").get("/scores/C201?domain=NOPE").status_code == 404


@pytest.mark.parametrize(
    ("scores", "dots", "is_single"),
    [
        ([90.0], 1, True),
        ([90.0, 80.0, 85.0], 3, False),
        ([100.0, 100.0], 2, False),
        ([0.0, 0.0], 2, False),
        ([None, 70.0], 1, True),
        ([], 0, None),
        ([None], 0, None),
    ],
)
def test_a_chart_has_a_dot_a_day_with_a_score_within_its_frame(
    scores: list[float | None], dots: int, is_single: bool | None
) -> None:
    drawn = score_pages.chart({"data_date": date(2026, 11, 1 + n), "score": v} for n, v in enumerate(scores))
    if not dots:
        assert drawn is None
        return
    assert drawn is not None and len(drawn["dots"]) == dots and drawn["single"] is is_single
    low, high = drawn["ticks"][0][0], drawn["ticks"][-1][0]
    assert all(0 <= x <= drawn["width"] and high <= y <= low for x, y, *_ in drawn["dots"])


def test_a_doctor_sees_the_own_institution_with_its_place_among_all() -> None:
    found = score_pages.ranking(person("doctor", "C201"), "ALL", 30)
    assert {r["org_code"] for r in [*found["rows"], *found["without"]]} >= {"C201"}
    assert "C204" not in {r["org_code"] for r in found["rows"]}
    assert found["rows"][0]["ranked"] == len(score_pages.ranking(person(), "ALL", 30)["rows"])
    doctor = client("doctor")
    assert doctor.get("/scores/C201").status_code == 200
    assert doctor.get("/scores/C204").status_code == 404
    assert "C204" not in doctor.get("/scores").text
    assert doctor.get("/scores/leads").status_code == 403


def test_leads_are_told_as_leads_and_within_reach() -> None:
    page = client("steward").get("/scores/leads").text
    assert "不是证据，也不是处罚" in page and "D77" in page and "D88" in page
    assert [r["doctor_id"] for r in score_pages.leads(person(org="C201"), "2026Q4")] == ["D77"]
    assert client("steward").get("/scores/leads?quarter=2026Q9").status_code == 404
    assert "没有线索" in client("steward").get("/scores/leads?quarter=2020Q1").text


def test_a_closed_gate_says_what_why_since_when_and_what_opens_it() -> None:
    gates, is_part = score_pages.gates(person())
    closed = [g for g in gates if g["gate"] == "closed"]
    assert closed and not is_part
    page = client("steward").get("/gates").text
    for gate in closed:
        for said in (gate["label_zh"], gate["since"].isoformat(), gate["advice_zh"]):
            assert said in page
    own, is_part = score_pages.gates(person("doctor", "C204"))
    assert is_part and {s["org_code"] for g in own for s in g["steps"]} <= {"C204"}
    assert not any(g["advice_zh"] for g in own), "what others have to mend is not told"


@pytest.mark.parametrize("path", ["/scores/NOPE", "/scores?domain=NOPE", "/scores/C201?domain=NOPE"])
def test_what_there_is_not_is_not_found(path: str) -> None:
    assert client("steward").get(path).status_code == 404


def test_the_pages_name_no_resident() -> None:
    for path in ("/scores", "/scores/C201", "/gates", "/scores/leads"):
        assert not re.search(r"429701\d{11}|王建国|A\d{7}", client("steward").get(path).text), path


def test_before_the_first_check_the_pages_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLAKE_HOME", str(tmp_path / "empty"))
    settings.cache_clear()
    try:
        for path in ("/scores", "/gates", "/scores/C201"):
            answer = client("executive").get(path)
            assert answer.status_code == 200 and "还没有做过质控" in answer.text
    finally:
        settings.cache_clear()
        monkeypatch.undo()
        settings.cache_clear()
