"""The node's page in Chromium: cut off, it says so calmly; back again, it says so; the passphrase opens the pack."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from ingestion.edge import pack_build, pki
from tests.edge_city import PASSPHRASE, City
from tests.edge_net import Proxies
from tests.edge_world import silver

expect.set_options(timeout=120_000)


@pytest.fixture
def city(lake_home: Path) -> Iterator[City]:
    """On loopback, since Chromium is not in any namespace."""
    made = City(lake_home, pki.init(), Proxies())
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def page() -> Iterator[Page]:
    executable = shutil.which("chromium")
    assert executable, "chromium is missing: `make test-deps` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1200, "height": 900})
        browser.close()


def test_the_page_of_a_node(city: City, page: Page, tmp_path: Path) -> None:
    silver("ph_archive", [{"archive_id": "A1", "name": "王小明", "id_no": "429701195803121239"}])
    city.add("C201", listens=True)
    city.add("C201S01", "C201")
    pack_build.build(datetime(2026, 11, 18, tzinfo=UTC).date(), ["C201"])
    city.start_centre()
    city.start("C201", "C201S01")
    city.started("C201", "C201S01")
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{city.page_port('C201')}/")
    expect(page.locator("#headline")).to_have_text("一切正常")
    expect(page.locator("#org")).to_have_text("湖滨社区卫生服务中心")
    expect(page.locator("#children")).to_contain_text("C201S01")
    expect(page.locator("#pack-pill")).to_have_text("已锁定")
    page.fill("#passphrase", "falsch")
    page.click("#unlock button")
    expect(page.locator("#unlock-note")).to_contain_text("口令不正确")
    assert page.input_value("#passphrase") == ""
    page.fill("#passphrase", PASSPHRASE)
    page.click("#unlock button")
    expect(page.locator("#pack-pill")).to_have_text("可离线查询")
    expect(page.locator("#residents")).to_have_text("1")
    city.net.cut("C201")
    city.drop("C201", "iot/telemetry_1.ndjson", b'{"device": "D1"}\n' * 1234)
    city.drop("C201", "unheard_of/a.csv", b"1")
    expect(page.locator("#headline")).to_have_text("与上级断开，正在本地保存")
    expect(page.locator("#waiting-records")).to_have_text("1,234")
    expect(page.locator("#notes")).to_contain_text("E295")
    assert "王小明" not in page.content()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size({"width": 1200, "height": 900})
    city.net.restore("C201")
    expect(page.locator("#headline")).to_have_text("一切正常")
    expect(page.locator("#waiting-records")).to_have_text("0")
    assert all(url.startswith("http://127.0.0.1:") for url in asked)
    assert [
        s for s in said if "403" not in s
    ] == []  # the refused passphrase is all that was ever complained of
    city.power_off("C201")
    expect(page.locator("#headline")).to_have_text("节点程序没有运行")
