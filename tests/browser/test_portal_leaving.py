"""An officer exports and refills a county workbook, a researcher saves a cohort: in Chromium, against a real server."""

from __future__ import annotations

import base64
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import products
from lake.settings import settings
from tests import fixtures_silver as silver
from tests import products_world as world
from tests import report_book
from tests.integration.test_portal_server import Portal, start

#: Cards in the lake, each of a resident.
ROWS = 300_000


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = tmp_path_factory.mktemp("leaving") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        i = "lpad(i::VARCHAR, 6, '0')"  # a resident each: one half carded in February, the other in March
        carded, seen = (
            "DATE '2026-02-03' + (i % 2)::INTEGER * 28",
            "DATE '2026-02-04' + (i % 2)::INTEGER * 28",
        )
        many: dict[str, dict[str, str]] = {
            "person_identifier": {"empi_id": f"'E' || {i}", "person_token": f"'T' || {i}", "source_system": "'public_health'",
                                  "identifier_type": "'MR'", "identifier_value": f"'AE' || {i}"},
            "person": {"empi_id": f"'E' || {i}", "person_token": f"'T' || {i}", "name": f"'王E' || {i}", "sex_code": "'1'",
                       "birth_date": "DATE '1950-01-01' + (i % 9000)::INTEGER", "id_no": f"'42970119500101' || right({i}, 4)",
                       "phone": f"'13900' || {i}"},
            "htn_card": {"card_id": i, "archive_id": f"'AE' || {i}", "carded_on": carded, "raw_hash": f"md5({i})"},
            "htn_visit": {"visit_id": i, "archive_id": f"'AE' || {i}", "visited_on": seen, "sbp_mmhg": "110 + i % 60"},
        }  # fmt: skip
        rows = {
            name: silver.many(f"silver.{name}", world.DAY_2, ROWS, **given) for name, given in many.items()
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


def sheet_rows(path: Path, member: str) -> int:
    """Rows of a sheet, counted in its XML as it streams: a reader of workbooks would need a minute."""
    found, tail = 0, b""
    with zipfile.ZipFile(path) as book, book.open(member) as file:
        while block := file.read(1 << 22):
            found += (tail + block).count(b"<row ")
            tail = block[-4:]
    return found


def test_an_officer_exports_300_000_rows_with_one_press(
    portal: Portal, browser: Browser, tmp_path: Path
) -> None:
    page = page_of(browser, portal, "officer")
    page.goto(f"{portal.base}/exports")
    page.get_by_text("高血压患者健康管理名册").first.click()
    page.locator("form[action='/exports/run'] button").click()
    line = page.locator("#history tbody tr").first
    under_way = line.get_by_text(re.compile("取数|写文件"))
    under_way.wait_for()  # the page tells the stage by itself, and how many rows it will be
    page.wait_for_function("document.querySelector('#history tbody td.num').innerText === '300,000'")
    line.locator(".pill.good, .pill.bad").wait_for(timeout=0)
    link = line.get_by_role("link", name="下载")
    assert line.locator("td.num").all_inner_texts() == ["300,000", "300,000"]
    with page.expect_download(timeout=0) as saved:
        link.click()
    path = tmp_path / "export.xlsx"
    saved.value.save_as(path)
    # a download that broke off goes on where it stopped
    address, half = f"{portal.base}{link.get_attribute('href')}", path.stat().st_size // 2
    rest = page.request.get(address, headers={"range": f"bytes={half}-"}, timeout=0)
    assert rest.status == 206 and path.read_bytes()[half:] == rest.body()
    book = openpyxl.load_workbook(path, read_only=True)
    told = {row[0]: row[1] for row in book["导出说明"].iter_rows(values_only=True, max_row=20)}
    assert (told["计划行数"], told["实际行数"], told["核对"]) == ("300000", "300000", "计划行数 = 实际行数")
    assert sheet_rows(path, "xl/worksheets/sheet2.xml") == ROWS + 1
    first = next(book.worksheets[1].iter_rows(min_row=2, values_only=True))
    assert first[1].startswith("王E") and len(first[4]) == 18


def test_an_officer_refills_last_months_county_workbook(
    portal: Portal, browser: Browser, tmp_path: Path
) -> None:
    page = page_of(browser, portal, "officer")
    refused: list[str] = []
    page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
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
    for month, held, visits in (("2026-02", 150_000, 150_000), ("2026-03", 300_000, 150_000)):
        page.fill("input[name=month]", month)
        page.get_by_role("button", name="按原版式填报").click()
        page.get_by_role("heading", name=f"{month} 填报结果").wait_for()
        with page.expect_download() as filled:
            page.get_by_role("link", name="下载工作簿").click()
        sheet = openpyxl.load_workbook(BytesIO(Path(filled.value.path()).read_bytes()))["表1 慢病"]
        assert (sheet["C4"].value, sheet["C6"].value, sheet["C7"].value) == (held, visits, "=SUM(C5:C6)")
    page.get_by_role("link", name="查看对象").last.click()
    page.get_by_text(re.compile("^王E[0-9]{6}$")).first.wait_for()
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
