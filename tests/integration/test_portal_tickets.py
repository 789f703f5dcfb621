"""The board of tickets over a checked city: who sees which, steps with their two persons, filters, refusals in words."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import worklist
from lake.local_time import local_today
from portal import ticket_board
from portal.accounts import demo_person
from tests import steward_world as world
from worklist.store import Item

_HIDDEN = re.compile(r'name="(csrf|key|version)" value="([^"]*)"')


@pytest.fixture(scope="module", autouse=True)
def city(steward_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with world.at_home(world.copied(steward_home, tmp_path_factory.mktemp("tickets"))):
        yield


@pytest.fixture(scope="module")
def first() -> TestClient:
    return world.logged_in("guan1")


@pytest.fixture(scope="module")
def second() -> TestClient:
    return world.logged_in("guan2")


@pytest.fixture(scope="module")
def doctor() -> TestClient:
    return world.logged_in("doc1", "doctor", "C201")


def ticket(number: int, org: str | None = None) -> Item:
    """The nth ticket by number of all institutions, or of one; each test takes its own."""
    found = worklist.items(kind="quality_ticket", org_codes=[org] if org else None, is_open=None, limit=100)
    return sorted(found, key=lambda i: i.item_id)[number]


def act(client: TestClient, item: Item, step: str, **fields: str) -> tuple[int, str]:
    page = client.get(f"/tickets/{item.item_id}").text
    at = page.find(f'/{step}"')
    form = dict(_HIDDEN.findall(page[at : page.index("</form>", at)])) if at >= 0 else csrf_of(page, item)
    answer = client.post(f"/tickets/{item.item_id}/{step}", data=form | fields)
    return answer.status_code, answer.text


def csrf_of(page: str, item: Item) -> dict[str, str]:
    """A form that the page does not show, as somebody would send it all the same."""
    token = re.search(r'name="csrf-token" content="([^"]*)"', page)
    version = str(worklist.find(item.item_id)[0].version)
    return {"csrf": token[1] if token else "", "key": secrets.token_hex(8), "version": version}


def state(item: Item) -> str:
    return worklist.find(item.item_id)[0].state


def until(days: int) -> str:
    return (local_today() + timedelta(days=days)).isoformat()


def test_a_waiver_is_asked_by_one_and_approved_by_another(first: TestClient, second: TestClient) -> None:
    item = ticket(0, "C216")
    asked = {"reason_code": "true_exception", "reason": "已电话核实属实", "expires_on": until(30)}
    assert act(first, item, "waive", **asked)[0] == 303
    page = first.get(f"/tickets/{item.item_id}").text
    assert "豁免须由另一人批准" in page and "/approve" not in page
    status, text = act(first, item, "approve", reason="自己批准")
    assert status == 409 and "E909" in text and 'role="alert"' in text
    assert state(item) == "waiver_asked"
    assert act(second, item, "approve", reason="同意")[0] == 303
    found, log = worklist.find(item.item_id)
    assert found.state == "waived" and found.payload["expires_on"] == until(30)
    assert [(e.action, e.actor) for e in log][-2:] == [("ask_waiver", "guan1"), ("waive", "guan2")]
    assert act(second, item, "reopen", reason="依据已失效")[0] == 303
    assert state(item) == "open" and "重开过 1 次" in first.get(f"/tickets/{item.item_id}").text


def test_a_waiver_that_is_refused_goes_back_with_the_reason(first: TestClient, second: TestClient) -> None:
    item = ticket(1, "C216")
    act(first, item, "waive", reason_code="source_limit", reason="源系统不能改", expires_on=until(9))
    assert act(second, item, "refuse", reason="可以在源系统修改")[0] == 303
    assert state(item) == "assigned"
    assert "可以在源系统修改" in first.get(f"/tickets/{item.item_id}").text


@pytest.mark.parametrize(
    ("step", "fields", "status"),
    [
        ("fix", {"reason_code": "true_exception"}, 422),
        ("fix", {"reason_code": ""}, 422),
        ("waive", {"reason_code": "other", "reason": "x", "expires_on": until(9999)}, 422),
        ("waive", {"reason_code": "other", "reason": "x", "expires_on": "一月"}, 422),
        ("waive", {"reason_code": "other", "reason": " ", "expires_on": until(9)}, 409),
        ("refuse", {"reason": "x"}, 409),
    ],
)
def test_what_a_step_lacks_is_said_and_nothing_changes(
    first: TestClient, step: str, fields: dict[str, str], status: int
) -> None:
    item = ticket(0, "C207")
    answer, text = act(first, item, step, **fields)
    assert answer == status and 'role="alert"' in text
    assert state(item) == "open"


def test_a_doctor_sees_and_mends_the_own_institution_alone(doctor: TestClient) -> None:
    own, other = ticket(0, "C201"), ticket(0, "C204")
    page = doctor.get("/tickets").text
    assert own.item_id in page and other.item_id not in page
    assert doctor.get(f"/tickets/{other.item_id}").status_code == 404
    assert doctor.get("/tickets?org=C204").text.count('class="ticket"') == 0
    assert act(doctor, other, "fix", reason_code="entry_error")[0] == 404
    stats = doctor.get("/tickets/stats").text
    assert "C201" in stats and "C204" not in stats
    assert act(doctor, own, "assign", to="D9")[0] == 409, "a doctor gives nobody work"
    assert act(doctor, own, "take")[0] == 303
    assert worklist.find(own.item_id)[0].assignee == "doc1"
    assert act(doctor, own, "fix", reason_code="entry_error")[0] == 303
    assert (
        state(own) == "fixed" and "等待下一数据日期的质控复查" in doctor.get(f"/tickets/{own.item_id}").text
    )


def test_an_older_page_changes_nothing(first: TestClient, second: TestClient) -> None:
    item = ticket(1, "C213")
    old = dict(_HIDDEN.findall(first.get(f"/tickets/{item.item_id}").text))
    assert act(second, item, "assign", to="D3")[0] == 303
    answer = first.post(f"/tickets/{item.item_id}/assign", data=old | {"to": "D4"})
    assert answer.status_code == 409 and "E913" in answer.text
    assert worklist.find(item.item_id)[0].assignee == "D3"
    assert act(first, item, "assign", to="D4")[0] == 303, "given to another"
    assert worklist.find(item.item_id)[0].owner_id == "D4"


def test_the_board_filters_by_institution_rule_domain_and_mine(first: TestClient) -> None:
    person = demo_person("steward")

    def found(**chosen: str) -> list[Item]:
        lanes = ticket_board.board(person, chosen, limit=100)["lanes"]
        assert all(there == len(cards) for _, there, cards in lanes)
        return [x.item for _, _, cards in lanes for x in cards]

    every = found()
    assert len(every) == len(worklist.items(kind="quality_ticket", is_open=None, limit=100)) > 10
    rule = every[0].payload["rule_id"]
    assert {i.payload["rule_id"] for i in found(rule=rule)} == {rule}
    assert {i.payload["domain"] for i in found(domain="HTN")} == {"HTN"}
    assert {i.org_code for i in found(org="C204")} == {"C204"}
    assert found(mine="1") == [] == found(late="1")
    assert "没有符合条件的工单" in first.get("/tickets?mine=1").text


def test_after_a_step_from_the_board_its_filters_stay_and_lead_nowhere_else(first: TestClient) -> None:
    item = ticket(0, "C210")
    page = first.get(f"/tickets/{item.item_id}").text
    form = csrf_of(page, item) | {"to": "D1"}
    sent = form | {"back": "org=C210&next=//evil.example"}
    answer = first.post(f"/tickets/{item.item_id}/assign", data=sent)
    assert answer.headers["location"] == f"/tickets?org=C210#t-{item.item_id}"


def test_a_page_of_tickets_names_no_resident(first: TestClient) -> None:
    for path in ("/tickets", f"/tickets/{ticket(0, 'C204').item_id}", "/tickets/stats"):
        text = first.get(path).text
        assert not re.search(r"429701\d{11}|王建国|A\d{7}|138\d{8}", text), path


def test_others_are_not_let_in() -> None:
    assert world.logged_in("r", "researcher").get("/tickets").status_code == 403
