"""The demo's wall shows the numbers of the gold tables: open, and with a closed gate."""

from typing import Any

import duckdb
import pytest

from tests.browser.wall_page import WallPage, browser_page


def ask(demo: Any, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(demo.serving_path.resolve()), read_only=True) as con:
        return con.sql(sql).fetchall()


def assert_numbers_are_those_of_gold(wall: WallPage, demo: Any) -> None:
    assert {code: value for code, (value, _) in wall.kpis().items()} == dict(
        ask(demo, "SELECT kpi_code, value FROM gold.wall_kpi")
    )
    for _, shown in wall.kpis().values():
        assert any(digit.isdigit() for digit in shown)
    week = ask(
        demo,
        "SELECT org_code, sum(encounters)::BIGINT AS n FROM gold.daily_encounter"
        " WHERE visit_date > (SELECT max(visit_date) FROM gold.daily_encounter) - 7"
        " GROUP BY 1 ORDER BY n DESC, 1 LIMIT 12",
    )
    assert [(org, value) for org, value, _ in wall.ranking()] == week
    assert [shown for _, _, shown in wall.ranking()] == [f"{value:,}" for _, value in week]
    rates = ask(demo, "SELECT org_code, format('{:.1f}%', 100 * standard_rate) FROM gold.district_map")
    assert wall.districts() == {org: rate or "—" for org, rate in rates}
    published = ask(
        demo,
        "SELECT product, gate, coalesce(strftime(data_date, '%-m月%-d日'), '尚无') FROM ops.publication",
    )
    assert {product: (row["gate"], row["date"]) for product, row in wall.gates().items()} == {
        product: (gate, date) for product, gate, date in published
    }
    (totals,) = ask(demo, "SELECT received, loaded, duplicate, quarantined FROM ops.run_info")
    assert wall.ledger() == dict(zip(("received", "loaded", "duplicate", "quarantined"), totals, strict=True))


def test_wall_shows_the_numbers_of_gold(running_demo: Any) -> None:
    with browser_page() as page:
        wall = WallPage.open(page, running_demo.urls["wall"])
        assert_numbers_are_those_of_gold(wall, running_demo)
        assert wall.closed_banner() == []
        assert not [tile for tile, cut in wall.overflowing() if cut]


def test_wall_asks_nobody_but_this_machine(running_demo: Any) -> None:
    with browser_page() as page:
        wall = WallPage.open(page, running_demo.urls["wall"])
        elsewhere = [
            url for url in wall.requests if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))
        ]
        assert elsewhere == []


def test_closed_gate_is_struck_in_red_and_keeps_the_last_good_numbers(closed_demo: Any) -> None:
    blocked = ask(
        closed_demo,
        "SELECT product, label_zh, reason_zh, strftime(data_date, '%-m月%-d日') FROM ops.publication"
        " WHERE gate = 'closed' ORDER BY product",
    )
    assert blocked, "the bad day closed nothing"
    with browser_page() as page:
        wall = WallPage.open(page, closed_demo.urls["wall"])
        assert_numbers_are_those_of_gold(wall, closed_demo)
        banner = wall.closed_banner()
        assert len(banner) == len(blocked)
        for (product, label, reason, until), text in zip(blocked, banner, strict=True):
            assert label in text and f"数据截至 {until}" in text
            assert wall.gates()[product]["reason"] == reason
        chip = page.locator(".banner-chip")
        assert chip.inner_text() == f"质控门关闭 {len(blocked)} 项"
        red, green, blue = chip.evaluate(
            "e => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number)"
        )[:3]
        assert red > 180 and green < 80 and blue < 110


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (3840, 2160)])
def test_other_screens_see_the_whole_width(running_demo: Any, width: int, height: int) -> None:
    with browser_page(width, height) as page:
        WallPage.open(page, running_demo.urls["wall"])
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Both in the page's own coordinates, which its zoom scales.
        filled = page.eval_on_selector_all(
            ".dashboard-component-chart-holder",
            "tiles => Math.max(...tiles.map(e => e.getBoundingClientRect().right))"
            " / document.documentElement.getBoundingClientRect().right",
        )
        assert 0.97 < filled <= 1
