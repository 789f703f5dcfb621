"""Two institutions settle an archive, and a steward decides a pair by keys and takes it back: in Chromium, on a real server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from empi import archives
from lake import access_scope
from portal import sessions
from portal.accounts import Person
from tests.integration.test_portal_server import Portal, start
from tests.worklist_world import home

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def running(identity_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("identity_pages") / "var"
    shutil.copytree(identity_home, folder, symlinks=True)
    with home(folder):
        portal = start(folder)
        yield portal
        portal.process.terminate()
        portal.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


def page_of(browser: Browser, portal: Portal, user: str, role: str, org: str, width: int = 1366) -> Page:
    """A page of a person who has logged in completely."""
    word = sessions.begin(Person(user, role, org, user), "full", "127.0.0.1")
    context = browser.new_context(viewport={"width": width, "height": 768})
    context.add_cookies([{"name": sessions.COOKIE, "value": word, "url": portal.base}])
    page = context.new_page()
    page.set_default_timeout(60_000)
    return page


def test_two_institutions_settle_an_archive(running: Portal, browser: Browser) -> None:
    case = next(
        p for p in archives.proposals(state="asked", limit=500)
        if p["from_org_code"] != p["managing_org_code"] and p["action"] == "close"
    )  # fmt: skip
    giver = page_of(browser, running, "qian", "officer", case["from_org_code"])
    giver.goto(f"{running.base}/archives")
    giver.get_by_role("link", name=case["archive_id"], exact=True).first.click()
    expect(giver.locator("main")).to_contain_text("以此为准")
    giver.get_by_role("link", name="办理：放行").click()
    giver.locator("input[name=consent_id]").fill("T2026-1")
    giver.get_by_role("button", name="放行").click()
    expect(giver.get_by_role("status")).to_contain_text("已转交下一方")  # it is the other institution's now
    giver.goto(f"{running.base}/archives/{case['proposal_id']}")
    expect(giver.locator("h1")).to_contain_text("已放行")

    taker = page_of(browser, running, "jie", "officer", case["managing_org_code"], 390)
    taker.goto(f"{running.base}/archives/{case['proposal_id']}")
    taker.get_by_role("link", name="办理：迁入").click()
    taker.locator("input[name=new_archive_id]").fill(case["keeper_archive_id"])
    taker.get_by_role("button", name="迁入").click()
    expect(taker.locator("main")).to_contain_text("已迁入")
    taker.goto(f"{running.base}/archives/{case['proposal_id']}")
    expect(taker.locator("h1")).to_contain_text("已迁入")
    assert taker.evaluate("document.documentElement.scrollWidth") <= 390

    steward = page_of(browser, running, "guan", "steward", access_scope.root())
    steward.goto(f"{running.base}/archives?state=moved")
    expect(steward.locator("tbody")).to_contain_text(case["archive_id"])


def test_a_pair_is_decided_by_keys_and_the_decision_taken_back(running: Portal, browser: Browser) -> None:
    page = page_of(browser, running, "guan", "steward", access_scope.root())
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{running.base}/identity")
    page.locator("tbody th a").first.click()
    page.wait_for_url("**/identity/*")
    one = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != one)
    page.keyboard.press("k")
    page.wait_for_url(one)
    page.keyboard.press("2")  # without a reason it asks for one
    expect(page.locator("input[name=reason]")).to_be_focused()
    page.locator("input[name=reason]").fill("双胞胎或兄弟姐妹")
    page.keyboard.press("Alt+2")
    page.wait_for_url(lambda url: url.split("?")[0] != one)
    page.goto(one)
    expect(page.locator("h1")).to_contain_text("非同人")
    page.locator("input[name=reason]").fill("看错了")
    page.get_by_role("button", name="撤销决定").click()
    page.goto(one)
    expect(page.locator("h1")).to_contain_text("已分派")
    assert refused == []
