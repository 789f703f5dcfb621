"""Scorecards and leads as the lake keeps them: cards, rankings, trends, parts; a screening changes no score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import quality
from lake import runs, tables
from lake.errors import MedlakeError
from lake.settings import settings
from quality import forensics, page, scorecards
from tests import quality_world as world


@pytest.fixture(scope="module", autouse=True)
def checked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small city with faults, checked on two days."""
    home = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.city(200)
        for day in (world.DAY_1, world.DAY_2):
            world.deliver(day)
            quality.check(day)
        yield home
    settings.cache_clear()


def ranked(domain: str = "ALL") -> list[dict[str, Any]]:
    return [r for r in scorecards.ranking(domain) if r["score"] is not None]


def test_the_ranking_has_every_institution_once_and_those_without_records_last() -> None:
    rows = scorecards.ranking("HTN")
    assert len({r["org_code"] for r in rows}) == len(rows)
    scores = [r["shrunk_score"] for r in rows if r["score"] is not None]
    assert scores == sorted(scores, reverse=True)
    assert scores
    without = rows[len(scores) :]
    assert without
    assert all(r["score"] is None and r["eligible"] == 0 and not r["is_tied"] for r in without)


def test_the_explained_parts_add_up_to_the_score() -> None:
    for org in [r["org_code"] for r in ranked()][:3]:
        for card in scorecards.card(org)["domains"]:
            if card["score"] is None:
                continue
            told = scorecards.explain(org, card["domain"])
            assert len(told["parts"]) == card["rules"]
            points = sum(p["points"] for p in told["parts"])
            assert card["score"] == pytest.approx(max(0, 100 - points), abs=0.00501)


def test_the_trend_has_a_point_a_day_and_the_city_lies_between_its_institutions() -> None:
    best = ranked()[0]["org_code"]
    own = scorecards.trend(best)
    assert [t["data_date"] for t in own] == [world.DAY_1, world.DAY_2]
    assert [t["data_date"] for t in scorecards.trend(best, days=1)] == [world.DAY_2]
    city = scorecards.trend(None)[-1]["score"]
    scores = [r["score"] for r in ranked()]
    assert min(scores) <= city <= max(scores)


def test_a_screening_moves_no_score_and_no_gate() -> None:
    run = runs.latest_run()
    assert run is not None
    quarter = "2024Q2"  # the town's second round of follow-ups
    before = {n: v for n, v in run.versions.items() if n.startswith("quality/")}
    cards = tables.read("quality/scorecard").to_table().to_pylist()
    made = forensics.build(quarter)
    assert made["visits"] > 0
    assert len(forensics.leads(quarter)) == made["leads"] == sum(made["by_test"].values())
    again = runs.get_run(run.data_date).versions
    assert {n: v for n, v in again.items() if n in before and n != forensics.TABLE} == before
    quality.check(run.data_date)
    assert sorted(map(str, tables.read("quality/scorecard").to_table().to_pylist())) == sorted(
        map(str, cards)
    )
    assert forensics.build(quarter)["leads"] == made["leads"]


def test_the_page_shows_ranking_card_and_formula() -> None:
    page.render()
    folder = page.page_dir()
    scores = (folder / "scores.html").read_text("utf-8")
    assert "高血压" in scores
    assert "得分 = 100 − Σ(权重 × 违规率%) ÷ 判定的规则数" in scores
    best = ranked()[0]
    own = (folder / f"org-{best['org_code']}.html").read_text("utf-8")
    assert f"{best['score']:.1f}" in own
    assert "<polyline" in own  # two days make a curve
    assert "None" not in scores + own


@pytest.mark.parametrize(
    ("code", "ask"),
    [
        ("E451", lambda: scorecards.card("C999")),
        ("E452", lambda: scorecards.ranking("XXX")),
        ("E452", lambda: scorecards.explain("C201", "' OR 1=1")),
        ("E455", lambda: forensics.build("2099Q1")),
    ],
)
def test_what_is_not_there_is_refused(code: str, ask: Any) -> None:
    with pytest.raises(MedlakeError) as error:
        ask()
    assert error.value.code == code
