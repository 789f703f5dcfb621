"""Two stewards in Chromium, over a checked city: a ticket goes by keys and by mouse, a waiver takes two persons, a rule
is tried, proposed, published and observed; all fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import worklist
from portal import sessions
from quality.rule import rulebook
from tests import steward_world as world
from tests.integration.test_portal_server import Portal, start


@pytest.fixture(scope="module")
def portal(steward_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = world.copied(steward_home, tmp_path_factory.mktemp("stewards"))
    with world.at_home(home):
        running = start(home)
        yield running
        running.process.terminate()
        running.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path="/usr/bin/chromium")
        yield made
        made.close()


def page_of(browser: Browser, portal: Portal, user: str, width: int = 1366, script: bool = True) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 768}, java_script_enabled=script)
    context.add_cookies([{"name": sessions.COOKIE, "value": world.word_of(user), "url": portal.base}])
    return context.new_page()


def state(item_id: str) -> str:
    return worklist.find(item_id)[0].state


def test_a_ticket_goes_by_keys_and_its_waiver_takes_two(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "guan1")
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{portal.base}/tickets?org=C216")
    card = page.locator(".ticket").first
    item = str(card.get_attribute("data-id"))
    card.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".lane.target").get_attribute("data-lane") == "doing"
    page.keyboard.press("Enter")
    page.keyboard.type("D3")
    page.keyboard.press("Enter")
    page.wait_for_url("**org=C216#t-*")
    assert worklist.find(item)[0].assignee == "D3" and state(item) == "assigned"
    assert page.locator(f"[data-lane=doing] #t-{item}").count() == 1, "back on the board, filters kept"
    assert page.evaluate("document.activeElement.dataset.id") == item, "and on the card"
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator("#move form:visible select").select_option("true_exception")
    page.locator("#move form:visible textarea").fill("已电话核实")
    page.get_by_role("button", name="申请豁免").click()
    page.locator(f"[data-lane=waived] #t-{item}").wait_for()
    page.goto(f"{portal.base}/tickets/{item}")
    page.get_by_text("豁免须由另一人批准").wait_for()
    other = page_of(browser, portal, "guan2")
    other.goto(f"{portal.base}/tickets/{item}?do=approve")
    other.locator("#do-approve textarea").fill("同意")
    other.locator("#do-approve button").click()
    other.get_by_text("已豁免").first.wait_for()
    assert state(item) == "waived" and refused == []


def test_a_ticket_goes_by_mouse_and_by_links_without_script(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "guan1")
    page.goto(f"{portal.base}/tickets?org=C207")
    card = page.locator(".ticket").first
    item = str(card.get_attribute("data-id"))
    card.drag_to(page.locator("[data-lane=closed]"))
    assert not page.locator("#move").is_visible(), "only the check closes a ticket"
    card.drag_to(page.locator("[data-lane=fixed]"))
    page.locator("#move form:visible select").select_option("entry_error")
    page.locator("#move").get_by_role("button", name="标记已修复").click()
    page.locator(f"[data-lane=fixed] #t-{item}").wait_for()
    assert state(item) == "fixed"
    plain = page_of(browser, portal, "guan1", script=False)
    plain.goto(f"{portal.base}/tickets?org=C210")
    card = plain.locator(".ticket").first
    item = str(card.get_attribute("data-id"))
    card.get_by_role("link", name="标记已修复").click()
    plain.locator("#do-fix select").select_option("training")
    plain.locator("#do-fix button").click()
    plain.get_by_text("等待下一数据日期的质控复查").wait_for()
    assert state(item) == "fixed"


def test_a_parameter_is_tried_proposed_published_and_observed(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "guan1")
    page.goto(f"{portal.base}/rules?q=HTN-009")
    page.locator("tbody th a").first.click()
    page.get_by_role("link", name="修改").click()
    page.fill("input[name='param.max_days_controlled']", "80")
    page.get_by_role("button", name="试运行", exact=True).first.click()
    page.get_by_text("新增不合规的样例").wait_for()
    page.fill("#tried input[name=note]", "县里要求")
    page.get_by_role("button", name="提交，等待第二人发布").click()
    page.get_by_text("须由另一位数据管家发布").wait_for()
    other = page_of(browser, portal, "guan2")
    other.goto(f"{portal.base}/rules")
    other.get_by_role("button", name="发布", exact=True).click()
    other.get_by_text("观察期内只展示发现的问题").wait_for()
    assert rulebook().rule("HTN-009").version == 2
    page.goto(f"{portal.base}/rules?state=observing&q=HTN-009")
    page.get_by_text("观察至").wait_for()


def test_the_pages_fit_a_phone(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "guan1", 390)
    for path in ("/tickets", "/tickets/stats", "/scores", "/scores/C201", "/scores/leads", "/gates", "/rules",
                 "/rules/HTN-004", "/rules/HTN-004/edit"):  # fmt: skip
        answer = page.goto(portal.base + path)
        assert answer is not None and answer.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
