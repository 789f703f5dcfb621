"""An auditor in Chromium finds what others did, by person and by table, and a forged line with its place."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import update

import products
from lake import audit, ops
from lake.settings import settings
from portal import csrf
from tests import products_world as world
from tests.integration.test_portal_server import Portal, start


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = tmp_path_factory.mktemp("auditor") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        running = start(home)
        yield running
        running.process.terminate()
        running.process.wait()
    settings.cache_clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        made = play.chromium.launch(executable_path="/usr/bin/chromium")
        yield made
        made.close()


def page_of(browser: Browser, portal: Portal, user: str, width: int = 1366) -> Page:
    words = base64.b64encode(f"{user}:{portal.words[user]}".encode()).decode()
    context = browser.new_context(
        extra_http_headers={"authorization": f"Basic {words}"}, viewport={"width": width, "height": 768}
    )
    return context.new_page()


def others_work(portal: Portal) -> None:
    """A researcher saves a cohort and an officer looks at ledger and due list, through the portal; an export, noted with
    its residents as exports do; somebody guesses a password."""
    form = {"cohort": "htn_all", "title_zh": "在管高血压", "htn": "any", "age_min": "35", "act": "save"}
    for user, path, data in (("researcher", "/research", form),):
        given = data | {"csrf": csrf.make(f"basic:{user}")}
        answer = httpx.post(portal.base + path, data=given, auth=(user, portal.words[user]), timeout=60)
        assert answer.status_code == 200, answer.text[-500:]
    audit.record("export", actor="officer", purpose="public_health", tables=["silver/ph_archive"], fields=["name"],
                 rows=3, result="ok", actor_role="officer", org_code="C201", persons=["E00001", "E00002", "E00003"])  # fmt: skip
    audit.record("findings.list", actor="steward", purpose="quality", tables=["quality/finding"], fields=["rule_id"],
                 rows=50, result="ok", actor_role="steward", org_code="H001")  # fmt: skip


def test_an_auditor_finds_all_of_it_and_a_forged_line(portal: Portal, browser: Browser) -> None:
    others_work(portal)
    page = page_of(browser, portal, "audit_admin")
    page.goto(f"{portal.base}/audit")
    expect(page.get_by_text("审计链完整")).to_be_visible()
    page.get_by_label("操作人", exact=True).fill("researcher")
    page.get_by_role("button", name="查询").click()
    rows = page.locator("section", has_text="记录").locator("tbody tr")
    expect(rows.filter(has_text="cohort_save")).to_have_count(1)
    assert all("researcher" in text for text in rows.all_inner_texts())
    page.get_by_label("操作人", exact=True).fill("")
    page.get_by_label("表", exact=True).fill("ph_archive")
    page.get_by_label("表", exact=True).press("Enter")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("officer")
    page.get_by_role("link", name="受影响居民").click()
    page.get_by_label("操作人", exact=True).fill("officer")
    page.get_by_role("button", name="查询").click()
    for resident in ("E00001", "E00002", "E00003"):
        expect(page.get_by_text(resident, exact=True)).to_be_visible()

    forged = 2  # past every rule of the application, in the file of the database itself
    with ops.engine().begin() as connection:
        entry = ops.audit_entry
        connection.execute(update(entry).where(entry.c.seq == forged).values(entry='{"actor": "nobody"}'))
    page.goto(f"{portal.base}/audit")
    told = page.get_by_role("alert")
    expect(told).to_contain_text("E107")
    expect(told).to_contain_text(str(forged))
    expect(page.get_by_text("审计链不完整")).to_be_visible()
    phone = page_of(browser, portal, "audit_admin", 390)
    phone.goto(f"{portal.base}/audit")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
