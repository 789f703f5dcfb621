"""My work, over the real worklist: who sees what, a critical value from detection to its doctor, refusals in words."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import worklist
from lake import audit
from portal import accounts
from portal.app import create_app
from worklist.store import Item

_HIDDEN = re.compile(r'name="(csrf|key|version)" value="([^"]*)"')


@pytest.fixture
def value(lake_home: Path) -> Item:
    worklist.migrate()
    return worklist.create(
        "critical_value",
        org_code="C201",
        subject="lab_result/C201|R17|3",
        actor="lis",
        role="lab_technician",
        request_key="critical_value|C201|R17|3",
        payload={"report_id": "R17", "rule_id": "K-HIGH", "patient_class": "inpatient"},
        occurred_at=datetime.now(UTC),
    )


def client(user: str) -> TestClient:
    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    word = json.loads(accounts.ensure().read_text("utf-8"))[user]
    made.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
    return made


def form_of(page: str, action: str) -> dict[str, str]:
    """The hidden fields of an action's form."""
    at = page.index(f'/{action}"')
    return dict(_HIDDEN.findall(page[at : page.index("</form>", at)]))


def do(browser: TestClient, item: Item, action: str, **fields: str) -> tuple[int, str]:
    page = browser.get(f"/work/{item.item_id}").text
    answer = browser.post(f"/work/{item.item_id}/{action}", data=form_of(page, action) | fields)
    return answer.status_code, answer.text


def test_a_critical_value_goes_from_the_laboratory_to_its_doctor(value: Item) -> None:
    laboratory, doctor = client("laboratory"), client("doctor")
    assert value.item_id in laboratory.get("/work").text
    assert do(laboratory, value, "confirm", recheck="6.9 复测一致")[0] == 303
    assert do(laboratory, value, "notify", channel="电话", notifier="检验科")[0] == 303
    called = doctor.get("/api/portal/work/calls").json()
    assert [c["item_id"] for c in called["calls"]] == [value.item_id] and called["waiting"] == 1
    assert do(doctor, value, "receive", readback_ok="true")[0] == 303
    assert do(doctor, value, "take")[0] == 303
    assert doctor.get("/api/portal/work/calls").json()["calls"] == []
    assert do(doctor, value, "acknowledge")[0] == 303
    found, log = worklist.find(value.item_id)
    assert found.state == "doctor_ack"
    assert [e.actor for e in log if e.action == "acknowledge"] == ["doctor"]


def test_a_step_that_lacks_what_it_needs_is_refused_in_words_and_changes_nothing(value: Item) -> None:
    status, text = do(client("laboratory"), value, "confirm", recheck=" ")
    assert status == 409 and "E9" in text and 'role="alert"' in text
    assert worklist.find(value.item_id)[0].state == "detected"


def test_the_same_form_twice_is_one_step(value: Item) -> None:
    laboratory = client("laboratory")
    form = form_of(laboratory.get(f"/work/{value.item_id}").text, "confirm") | {"recheck": "一致"}
    answers = [laboratory.post(f"/work/{value.item_id}/confirm", data=form).status_code for _ in range(2)]
    assert answers == [303, 409]  # the second finds the step done, and says so
    assert [e.action for e in worklist.log_of(value.item_id)].count("confirm") == 1


def test_an_older_page_does_not_undo_a_newer_step(value: Item) -> None:
    laboratory = client("laboratory")
    old = form_of(laboratory.get(f"/work/{value.item_id}").text, "refute") | {
        "recheck": "x",
        "reason": "误报",
    }
    do(laboratory, value, "confirm", recheck="一致")
    answer = laboratory.post(f"/work/{value.item_id}/refute", data=old)
    assert answer.status_code == 409
    assert worklist.find(value.item_id)[0].state == "confirmed"


@pytest.mark.parametrize("user", ["pharmacist", "researcher", "asset_manager", "steward"])
def test_whoever_has_nothing_to_do_with_it_finds_no_such_item(value: Item, user: str) -> None:
    asked = client(user)
    assert value.item_id not in asked.get("/work").text
    assert asked.get(f"/work/{value.item_id}").status_code == 404


def test_a_doctor_of_another_institution_finds_no_such_item(value: Item) -> None:
    other = worklist.create(
        "critical_value",
        org_code="C202",
        subject="lab_result/C202|R1|1",
        actor="lis",
        role="lab_technician",
        request_key="critical_value|C202|R1|1",
        payload={"report_id": "R1"},
    )
    doctor = client("doctor")
    assert doctor.get(f"/work/{other.item_id}").status_code == 404
    assert doctor.post(f"/work/{other.item_id}/acknowledge", data={}).status_code == 419


def test_a_form_without_its_token_is_refused(value: Item) -> None:
    laboratory = client("laboratory")
    answer = laboratory.post(
        f"/work/{value.item_id}/confirm", data={"recheck": "x", "version": "1", "key": "k"}
    )
    assert answer.status_code == 419
    assert worklist.find(value.item_id)[0].state == "detected"


def test_looking_at_an_item_about_a_resident_is_in_the_audit(value: Item) -> None:
    before = audit.verify()
    client("laboratory").get(f"/work/{value.item_id}")
    assert audit.verify() == before + 1


def test_an_empty_list_teaches(lake_home: Path) -> None:
    worklist.migrate()
    assert "现在没有等待您的事项" in client("pharmacist").get("/work").text


def test_every_role_of_the_worklist_is_somebodys_and_every_field_has_a_name() -> None:
    from portal import work
    from worklist.machine import SYSTEM, kinds, roles

    done = {duty for role in accounts.ROLES for duty in work.duties(role)}
    assert set(roles()) - done == {SYSTEM}
    steps = [step for kind in kinds().values() for step in kind.transitions if step.roles != (SYSTEM,)]
    asked = {name for step in steps for name in (*step.requires, *step.requires_any)}
    assert [name for name in sorted(asked) if work.label(name) == name] == []
