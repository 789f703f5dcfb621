"""A steward closes a finding through a mended workbook: in Chromium, against a real server, from login to closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests import corrections_world as world
from tests.integration.test_portal_server import Portal, start
from tests.portal_asked import home_of

expect.set_options(timeout=120_000)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("corrections")
    with home_of(folder):
        world.first_day()
        portal = start(folder / "var")
        yield portal
        portal.process.terminate()
        portal.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


def login(browser: Browser, portal: Portal, user: str, width: int = 1366) -> Page:
    """A page of a person who came in by the login form."""
    page = browser.new_context(viewport={"width": width, "height": 768}).new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{portal.base}/login?next=/findings")
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", portal.words[user])
    page.locator("main form button").click()
    return page


def test_a_steward_closes_a_finding_through_a_mended_workbook(
    running: Portal, browser: Browser, tmp_path: Path
) -> None:
    page = login(browser, running, "steward")
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{running.base}/findings?org=C201&state=open")
    expect(page.locator(".findings article").first).to_contain_text("待整改")

    page.goto(f"{running.base}/corrections?org=C201")
    page.get_by_role("button", name="生成").click()
    link = page.locator("tr", has_text="C201").get_by_role("link", name="下载", exact=True)
    link.wait_for()
    with page.expect_download() as saved:
        link.click()
    mended = tmp_path / "改好的.xlsx"
    mended.write_bytes(world.mended(Path(saved.value.path()).read_bytes(), world.swap))
    page.set_input_files("input[name=book]", mended)
    page.get_by_role("button", name="交回").click()
    expect(page.locator("main")).to_contain_text("待源系统更正")  # the page shows it when it is ingested
    assert page.locator("tbody tr").count() == 2
    assert world.pressures()[0] == ("V1", 128.0, 80.0)

    world.check(world.NEXT)
    page.goto(f"{running.base}/findings?org=C201&state=corrected")
    expect(page.locator(".findings article").first).to_contain_text("已更正待源系统")
    page.goto(f"{running.base}/corrections/files")
    page.get_by_role("button", name="生成回写文件").click()
    with page.expect_download() as written:
        page.get_by_role("link", name="下载", exact=True).click()
    text = Path(written.value.path()).read_text("utf-8-sig")
    assert "V1,A1,2026-11-01,1,128,80" in text

    # the source imports it; its own extract of the next day carries the value
    world.deliver(world.THIRD, *text.splitlines()[1:])
    world.check(world.THIRD)
    page.goto(f"{running.base}/corrections/waiting?state=confirmed")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{running.base}/findings?org=C201&state=closed")
    expect(page.locator(".findings article").first).to_contain_text("已关闭")
    page.goto(f"{running.base}/findings?org=C201&state=corrected")
    expect(page.locator("main")).to_contain_text("没有符合条件的问题")
    assert refused == []


def test_every_page_of_it_fits_a_phone(running: Portal, browser: Browser) -> None:
    page = login(browser, running, "steward", 390)
    for path in ("/corrections", "/corrections/waiting", "/corrections/files", "/quarantine", "/codes", "/codes/history",
                 "/codes/coverage", "/ledger", "/ledger/batches"):  # fmt: skip
        page.goto(running.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
