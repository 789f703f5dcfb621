"""Home and what starts there, in Chromium: a critical value answered in time, break-glass from asking to judgement, the
navigation by keyboard and, without a script, on a phone."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import worklist
from lake.settings import settings
from tests.integration.test_portal_glass import TEXT, residents
from tests.integration.test_portal_server import Portal, start
from worklist import tables
from worklist.store import Item, begin

#: Counts the tones that a page starts; the page's own sound goes on as it is.
_COUNT_TONES = """
window.tones = 0;
const begin = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...given) { window.tones += 1; return begin.apply(this, given); };
"""


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    home = tmp_path_factory.mktemp("home") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        worklist.migrate()
        residents()
        running = start(home)
        yield running
        running.process.terminate()
        running.process.wait()
    settings.cache_clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        allowed = ["--autoplay-policy=no-user-gesture-required"]
        made = play.chromium.launch(executable_path="/usr/bin/chromium", args=allowed)
        yield made
        made.close()


def page_of(browser: Browser, portal: Portal, user: str, width: int = 1366, scripts: bool = True) -> Page:
    words = base64.b64encode(f"{user}:{portal.words[user]}".encode()).decode()
    context = browser.new_context(
        extra_http_headers={"authorization": f"Basic {words}"},
        viewport={"width": width, "height": 768},
        java_script_enabled=scripts,
    )
    page = context.new_page()
    page.add_init_script(_COUNT_TONES)
    return page


def notified() -> Item:
    """A critical value of an inpatient that the laboratory rechecked and told the ward of just now."""
    item = worklist.create(
        "critical_value", org_code="C201", subject="lab_result/C201|R17|3", actor="lis", role="lab_technician",
        request_key="home|R17", payload={"report_id": "R17", "patient_class": "inpatient"},
        occurred_at=datetime.now(UTC),
    )  # fmt: skip
    for action, data in (
        ("confirm", {"recheck": "6.9"}),
        ("notify", {"channel": "电话", "notifier": "检验科"}),
    ):
        worklist.act(item.item_id, action, actor="laboratory", role="lab_technician", data=data)
    return item


def test_a_doctor_answers_a_critical_value_within_its_clock(portal: Portal, browser: Browser) -> None:
    item = notified()
    page = page_of(browser, portal, "doctor")
    page.goto(portal.base)
    call = page.locator("dialog[open]")
    expect(call).to_contain_text("危急值")
    expect(call).to_contain_text(re.compile(r"剩 \d+ 分钟"))
    assert page.evaluate("window.tones") == 2
    expect(page).to_have_title(re.compile(r"^\(1\) 首页"))
    call.get_by_role("link", name="危急值").click()
    expect(page.locator(".due")).to_contain_text("剩")
    page.get_by_label("复述无误").select_option("true")
    page.get_by_role("button", name="接收并复述").click()
    page.get_by_role("button", name="领取").click()
    page.get_by_role("button", name="医生确认").click()
    expect(page.locator("h1")).to_contain_text("医生已确认")
    with begin() as connection:
        mine = tables.item_clock.select().where(tables.item_clock.c.item_id == item.item_id)
        on_time = {row.step: row.is_on_time for row in connection.execute(mine)}
    # answered in time; acting on it goes on
    assert on_time["receive"] is True and on_time["doctor_action"] is None
    # nothing calls any more; once it is acted upon and recorded, nothing waits either
    page.goto(portal.base)
    expect(page).to_have_title(re.compile(r"^\(1\)"))
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert page.evaluate("window.tones") == 0
    page.goto(f"{portal.base}/work/{item.item_id}")
    page.get_by_label("处置措施").fill("停用补钾，静推葡萄糖酸钙")
    page.get_by_label("医嘱号").fill("O99")
    page.get_by_role("button", name="处置", exact=True).click()
    page.get_by_label("处置措施").fill("复查血钾 4.8")
    page.get_by_label("病历文书号").fill("D7")
    page.get_by_role("button", name="记录病程并关闭").click()
    expect(page.locator("h1")).to_contain_text("已关闭")
    page.goto(portal.base)
    expect(page).to_have_title(re.compile("^首页"))
    assert worklist.find(item.item_id)[0].closed_at is not None
    assert "doctor" in {e.actor for e in worklist.log_of(item.item_id) if e.action == "acknowledge"}


def test_a_doctor_opens_a_resident_in_an_emergency_and_it_is_judged(portal: Portal, browser: Browser) -> None:
    doctor = page_of(browser, portal, "doctor", 390)
    doctor.goto(f"{portal.base}/glass")
    doctor.get_by_label("号码", exact=True).fill("429701196001010018")
    doctor.get_by_label("姓名须与证件一致").fill("王小东")
    doctor.locator("select[name=reason]").select_option("emergency")
    doctor.get_by_label("情况说明").fill(TEXT)
    doctor.get_by_role("button", name="开启调阅并通知").click()
    expect(doctor.locator("h1")).to_have_text("王小东")
    expect(doctor.locator("#archive")).to_contain_text("青霉素")
    expect(doctor.get_by_role("status")).to_contain_text("紧急调阅进行中")
    assert doctor.evaluate("document.documentElement.scrollWidth") <= 390
    judge = page_of(browser, portal, "security_admin")
    judge.goto(portal.base)
    expect(judge).to_have_title(re.compile(r"^\(1\)"))
    judge.locator("dialog[open]").get_by_role("link").click()
    expect(judge.locator("main")).to_contain_text(TEXT)
    expect(judge.locator("main")).not_to_contain_text("王小东")
    judge.get_by_label("理由").fill("急诊记录相符")
    judge.get_by_role("button", name="正当", exact=True).click()
    expect(judge.locator("main")).to_contain_text("没有等待复核的紧急调阅")
    doctor.get_by_role("button", name="用完了，立即结束").click()
    expect(doctor.locator(".grants")).to_contain_text("复核：正当")
    expect(doctor.get_by_role("status")).to_have_count(0)


def test_the_bar_opens_and_closes_by_keyboard(portal: Portal, browser: Browser) -> None:
    page = page_of(browser, portal, "steward")
    page.goto(portal.base)
    title = page.locator(".menubar summary", has_text="质量")
    link = page.locator(".menubar").get_by_role("link", name="问题明细")
    title.focus()
    page.keyboard.press("Enter")
    expect(link).to_be_visible()
    page.keyboard.press("Escape")
    expect(link).to_be_hidden()
    expect(title).to_be_focused()
    page.keyboard.press("Enter")
    page.mouse.click(1300, 700)  # beside it
    expect(link).to_be_hidden()
    title.click()
    link.click()
    expect(page).to_have_url(f"{portal.base}/findings")
    expect(title).to_have_class("here")


@pytest.mark.parametrize("role", ["steward", "audit_admin"])
def test_a_phone_has_every_room_two_taps_away_without_a_script(
    portal: Portal, browser: Browser, role: str
) -> None:
    page = page_of(browser, portal, role, 390, scripts=False)
    page.goto(portal.base)
    assert page.locator("body").bounding_box()["width"] <= 390  # type: ignore[index]
    expect(page.locator(".menubar")).to_be_hidden()
    page.locator(".burger summary").click()
    links = page.locator(".burger a")
    assert links.count() >= 3
    for n in range(links.count()):
        expect(links.nth(n)).to_be_visible()
    where = links.last.get_attribute("href")
    links.last.click()
    expect(page).to_have_url(f"{portal.base}{where}")


def test_silent_calls_stay_silent_where_nothing_is_urgent(portal: Portal, browser: Browser) -> None:
    """A referral waits: it is counted, it does not call."""
    worklist.create(
        "referral_down", org_code="C201", subject="referral/1", actor="h", role="referral_center",
        request_key="home|referral", occurred_at=datetime.now(UTC) - timedelta(hours=1),
    )  # fmt: skip
    page = page_of(browser, portal, "doctor")
    page.goto(portal.base)
    expect(page).to_have_title(re.compile(r"^\(1\) 首页"))
    assert page.evaluate("window.tones") == 0
    expect(page.locator("dialog[open]")).to_have_count(0)
