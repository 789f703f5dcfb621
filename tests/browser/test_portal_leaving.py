"""An officer exports and refills a county workbook, a researcher saves a cohort: in Chromium, against a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import products
from lake.settings import settings
from tests import fixtures_silver as silver
from tests import products_world as world
from tests import report_book
from tests.integration.test_portal_server import Portal, start


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = tmp_path_factory.mktemp("leaving") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        keys = [f"E{n:04d}" for n in range(12)]
        rows: dict[str, list[dict[str, Any]]] = {
            "person_identifier": [silver.link(k, "public_health", "C201", f"A{k}") for k in keys],
            "person": [silver.resident(k, name=f"王{k}") for k in keys],
            "htn_card": [{"card_id": k, "archive_id": f"A{k}", "carded_on": date(2026, 2, 3)} for k in keys],
            "htn_visit": [
                {"visit_id": k, "archive_id": f"A{k}", "visited_on": date(2026, 2, 4)} for k in keys
            ],
        }
        silver.write(world.DAY_2, rows)
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


def test_an_officer_exports_and_refills_the_county_workbook(
    portal: Portal, browser: Browser, tmp_path: Path
) -> None:
    page = page_of(browser, portal, "officer")
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{portal.base}/exports")
    page.get_by_text("高血压患者健康管理名册").first.click()
    page.locator("form[action='/exports/run'] button").click()
    link = page.get_by_role("link", name="下载").first
    link.wait_for()
    with page.expect_download() as saved:
        link.click()
    assert (
        len(
            list(
                openpyxl.load_workbook(BytesIO(Path(saved.value.path()).read_bytes()))
                .worksheets[0]
                .iter_rows()
            )
        )
        == 13
    )
    blank = tmp_path / "县报表.xlsx"
    blank.write_bytes(report_book.blank())
    page.goto(f"{portal.base}/reports")
    page.set_input_files("input[name=book]", blank)
    page.get_by_role("button", name="上传并绑定").click()
    for cell, code in (("C4", "PH12N"), ("C6", "M103")):
        page.locator(f"td[data-cell={cell}]").first.click()
        page.select_option("#indicator", code)
        page.click("#add")
    page.fill("input[name=title_zh]", "慢病月报")
    page.get_by_role("button", name="保存绑定").click()
    page.fill("input[name=month]", "2026-02")
    page.get_by_role("button", name="按原版式填报").click()
    with page.expect_download() as filled:
        page.get_by_role("link", name="下载工作簿").click()
    sheet = openpyxl.load_workbook(BytesIO(Path(filled.value.path()).read_bytes()))["表1 慢病"]
    assert (sheet["C4"].value, sheet["C6"].value, sheet["C7"].value) == (12, 12, "=SUM(C5:C6)")
    page.get_by_role("link", name="查看对象").last.click()
    page.get_by_text("王E0003").wait_for()
    assert refused == []


def test_a_researcher_saves_a_cohort_also_on_a_phone(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "researcher", 390)
    page.goto(f"{portal.base}/research")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.fill("input[name=cohort]", "htn_all")
    page.fill("input[name=title_zh]", "在管高血压")
    page.select_option("select[name=htn]", "any")
    page.get_by_role("button", name="统计并保存").click()
    page.get_by_text("已保存 htn_all 第 1 版").wait_for()
    assert "高血压在管" in page.locator("#result").inner_text()
