"""The catalogue: found in Chinese, by field, by pinyin; one asset's levels as each role sees them, its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import products
from lake.settings import settings
from portal import catalogue
from portal.accounts import demo_person
from tests import products_world as world
from tests.portal_client import client

HTN, PERSON = "gold.htn_management", "silver.person"


@pytest.fixture(scope="module", autouse=True)
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("catalogue") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        yield home
    settings.cache_clear()


def ids(q: str, layer: str = "", level: int = 0) -> list[str]:
    return [a["asset_id"] for a in catalogue.search(q, layer, level)]


@pytest.mark.parametrize(
    ("q", "wanted"),
    [
        ("高血压", [HTN]), ("gaoxueya", [HTN]), ("gxy", [HTN]), ("gxya", [HTN]), ("zaiguanka", [HTN]),
        ("居民主索引", [PERSON]), ("jmzsy", [PERSON]), ("zhusuoyin", [PERSON]),
        ("last_sbp_mmhg", [HTN]), ("LAST_SBP", [HTN]), ("shousuoya", [HTN]), ("ssy", [HTN]), ("xingming", [PERSON]),
        ("公共卫生科", [HTN]), ("高血压 shousuo", [HTN]), ("高血压 xingming", []), ("silver", [PERSON]),
        ("g", [HTN]), ("查无此表", []), ("%", []), ("_", [HTN]), ("'; DROP TABLE gold.catalog_asset --", []),
        ("", [HTN, PERSON]), ("  ", [HTN, PERSON]),
    ],
)  # fmt: skip
def test_what_a_word_finds(q: str, wanted: list[str]) -> None:
    assert ids(q) == wanted


def test_layer_and_level_narrow_it() -> None:
    assert ids("", "silver") == [PERSON] and ids("", "nonsense") == [HTN, PERSON]
    assert ids("", "", 4) == [PERSON] and ids("", "gold", 4) == [] and ids("", "", 9) == [HTN, PERSON]


def test_an_assets_own_name_comes_before_what_mentions_it() -> None:
    assert ids("居民") == [PERSON, HTN]  # by layer and name alone it would be the other way round
    assert ids("residents") == [PERSON]


@pytest.mark.parametrize(
    ("word", "text", "fits"),
    [("xueya", "收缩压与血压", True), ("xieya", "血压", True), ("xuey", "血压", True), ("nv", "女性", True), ("nu", "女性", True),
     ("chongfu", "重复随访", True), ("zhongliang", "体重重量", True), ("zz", "血压", False), ("x", "血压", False),
     ("yx", "血压", False), ("xueyaa", "血压", False), ("x1", "血压", False), ("sbp", "sbp", False)],
)  # fmt: skip
def test_pinyin_full_initials_mixed_and_every_reading(word: str, text: str, fits: bool) -> None:
    assert catalogue.spelled(word, text) is fits


def test_a_role_learns_what_it_may_see_of_each_field() -> None:
    found = catalogue.asset(PERSON)
    assert found is not None
    told = {
        role: catalogue.acts(demo_person(role), found)["name"]
        for role in ("doctor", "executive", "steward", "researcher")
    }
    assert told == {"doctor": "可见", "executive": "不可见", "steward": "遮盖", "researcher": "不可见"}
    assert "不可见" in client("executive").get(f"/catalogue/{PERSON}").text


def test_neighbours_are_links_where_there_is_a_page() -> None:
    page = client("asset_manager").get(f"/catalogue/{PERSON}").text
    assert f'<a href="/catalogue/{HTN}">高血压在管卡与年内管理</a>' in page
    assert "<code>gold.dim_person</code>" in page and 'href="/catalogue/gold.dim_person"' not in page
    assert "源头数据，没有上游" in page and "还没有质量得分" in page


def test_pages_without_an_answer_say_what_to_do() -> None:
    asked = client("researcher")
    nothing = asked.get("/catalogue", params={"q": "<b>查无", "level": "x"})
    assert (
        nothing.status_code == 200 and "没有找到“&lt;b&gt;查无”" in nothing.text and "首字母" in nothing.text
    )
    assert asked.get("/catalogue/silver.nothing").status_code == 404
    assert client("audit_admin").get("/catalogue").status_code == 403
