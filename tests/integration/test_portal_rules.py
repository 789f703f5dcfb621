"""The rules on pages: found, read, changed with a dry run, published by a second person, taken back; refusals in words."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from lake import audit
from lake.errors import MedlakeError
from lake.local_time import local_today
from portal import rule_editor, rule_list
from portal.accounts import demo_person
from quality import authoring
from quality.authoring import overlay
from quality.rule import read, rulebook
from tests import steward_world as world


@pytest.fixture(scope="module", autouse=True)
def city(steward_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with world.at_home(world.copied(steward_home, tmp_path_factory.mktemp("rules"))):
        yield


@pytest.fixture(scope="module")
def first() -> TestClient:
    return world.logged_in("guan1")


@pytest.fixture(scope="module")
def second() -> TestClient:
    return world.logged_in("guan2")


def post(client: TestClient, path: str, page: str, **fields: str) -> tuple[int, str, str]:
    token = re.search(r'name="csrf-token" content="([^"]*)"', client.get(page).text)
    assert token is not None
    answer = client.post(path, data={"csrf": token[1], **fields})
    return answer.status_code, answer.text, answer.headers.get("location", "")


def form_of(rule_id: str, **changed: str) -> dict[str, str]:
    rule = rulebook().rule(rule_id)
    return rule_editor.present(rule) | {"action": "change"} | changed


def edited(client: TestClient, rule_id: str, do: str, **changed: str) -> tuple[int, str, str]:
    return post(client, f"/rules/{rule_id}/edit", "/rules", do=do, **form_of(rule_id, **changed))


def test_a_parameter_is_changed_tried_proposed_and_published_by_a_second(
    first: TestClient, second: TestClient
) -> None:
    before = rulebook().rule("HTN-009")
    stricter = {"param.max_days_controlled": "80", "note": "县里要求更严"}
    logged = audit.verify()
    status, text, _ = edited(first, "HTN-009", "try", **stricter)
    draft = rule_editor.as_if_always(rule_editor.draft("HTN-009", form_of("HTN-009", **stricter)))
    real = authoring.dry_run(draft)
    assert status == 200 and f"<b>{real['newly_failing']:,}</b>条新增不合规" in text
    assert real["newly_failing"] > 0 and "样例（个人信息已遮蔽）" in text
    assert audit.verify() == logged + 1, "samples are told to the audit"
    assert not re.search(r"VA\d{7}|429701\d{11}|王建国", text), "no record's key is shown"
    assert rulebook().rule("HTN-009").version == before.version, "nothing was changed"

    status, _, location = edited(first, "HTN-009", "propose", **stricter)
    number = location.partition("#")[2]
    assert (status, location) == (303, f"/rules/HTN-009#{number}")
    page = first.get("/rules/HTN-009").text
    assert "须由另一位数据管家发布" in page and "/publish" not in page
    seen = second.get(f"/rules/proposals/{number}").text
    assert "95（自 2009-10-10）" in seen and f"80（自 {local_today()}）" in seen, "what is changed"
    assert f"<b>{real['newly_failing']:,}</b>条新增不合规" in seen, "and what it would do"
    status, text, _ = post(first, f"/rules/proposals/{number}/publish", "/rules/HTN-009")
    assert status == 409 and "E448" in text and 'role="alert"' in text
    assert post(second, f"/rules/proposals/{number}/publish", "/rules/HTN-009", note="同意")[0] == 303

    after = rulebook().rule("HTN-009")
    assert after.version == before.version + 1 and after.observing(local_today())
    assert after.params["max_days_controlled"].at(local_today()) == 80
    assert after.params["max_days_controlled"].steps[0] == before.params["max_days_controlled"].steps[0]
    assert "已发布" in second.get(f"/rules/proposals/{number}").text
    page = first.get("/rules/HTN-009").text
    assert "观察至" in page and "县里要求更严" in page and "guan2" in page
    assert "HTN-009" in first.get("/rules?state=observing&q=HTN-009").text
    assert post(second, f"/rules/proposals/{number}/publish", "/rules/HTN-009")[0] == 409, "only once"


def test_a_condition_is_changed_and_a_proposal_taken_back(first: TestClient) -> None:
    condition = "age_on(birth_date, carded_on) < :min_age + 5"
    assert "HTN-001" in first.get("/rules/HTN-001/edit").text
    status, text, _ = edited(first, "HTN-001", "try", condition=condition)
    assert status == 422 or "条新增不合规" in text
    status, _, location = edited(first, "HTN-001", "propose", severity="warn", note="试试")
    assert status == 303
    number = location.partition("#")[2]
    assert authoring.get(number).file is not None
    status, text, _ = post(first, f"/rules/proposals/{number}/reject", "/rules/HTN-001", note=" ")
    assert status == 409 and "E448" in text
    assert post(first, f"/rules/proposals/{number}/reject", "/rules/HTN-001", note="改错了")[0] == 303
    assert authoring.get(number).state == "rejected"
    assert rulebook().rule("HTN-001").severity == "error"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, "E447"),
        ({"param.min_age": "很多"}, "E447"),
        ({"param.min_age": "{{7*7}}"}, "E447"),
        ({"tolerance_pct": "%"}, "E447"),
        ({"param.min_age": "36", "on": "2026-02-30"}, "E447"),
        ({"severity": "fatal"}, "E447"),
        ({"condition": "no_such_column > 1"}, "E4"),
        ({"condition": "exists (from '/etc/passwd.csv')"}, "E665"),
        ({"condition": "1; drop table x"}, "E447"),
        ({"action": "file", "yaml": "a: [1"}, "E447"),
        ({"action": "file", "yaml": ""}, "E666"),
        ({"action": "file", "yaml": "x" * 300_000}, "E666"),
    ],
)
def test_a_change_that_does_not_hold_is_refused_in_words_and_keeps_what_was_typed(
    first: TestClient, changed: dict[str, str], code: str
) -> None:
    status, text, _ = edited(first, "HTN-001", "propose", **changed)
    assert status == 422 and f"<small>{code}" in text and 'role="alert"' in text
    kept = html.unescape(text)
    assert all(typed in kept for name, typed in changed.items() if name != "severity")
    assert not [p for p in authoring.proposals("open") if p.rule_id == "HTN-001"]


def test_a_new_rule_comes_as_a_file_and_is_published(first: TestClient, second: TestClient) -> None:
    node = next(n for n in read().values() if n["domain"] == "ARC")
    shipped = next(r for r in node["rules"] if r["id"] == "ARC-001")
    rule = {k: v for k, v in shipped.items() if k != "due"} | {
        "id": "ARC-901",
        "title_zh": "本院身份证号检查",
    }
    text = yaml.safe_dump(rule, allow_unicode=True)
    token = re.search(r'name="csrf-token" content="([^"]*)"', first.get("/rules/new").text)
    assert token is not None
    answer = first.post(
        "/rules/new",
        data={"csrf": token[1], "action": "new", "do": "try", "yaml": ""},
        files={"file": ("rule.yaml", text.encode(), "application/yaml")},
    )
    assert answer.status_code == 200 and "本院身份证号检查" in answer.text and "条新增不合规" in answer.text
    assert post(first, "/rules/new", "/rules/new", action="new", do="propose", yaml=text)[0] == 303
    (waiting,) = [p for p in authoring.proposals("open") if p.rule_id == "ARC-901"]
    assert "ARC-901" in second.get("/rules").text
    assert "本院身份证号检查" in second.get(f"/rules/proposals/{waiting.proposal_id}").text
    assert post(second, f"/rules/proposals/{waiting.proposal_id}/publish", "/rules")[0] == 303
    page = first.get("/rules/ARC-901").text
    assert "本院身份证号检查" in page and "合规" in page and "观察至" in page
    status, _, location = edited(first, "ARC-901", "propose", action="retire", note="不再需要")
    assert status == 303
    number = location.partition("#")[2]
    assert post(second, f"/rules/proposals/{number}/publish", "/rules/ARC-901")[0] == 303
    assert "已停用" in first.get("/rules/ARC-901").text
    assert "ARC-901" in first.get("/rules?state=retired").text
    assert overlay.held()["ARC-901"]["state"] == "retired"


def test_the_list_finds_by_number_title_domain_and_severity(first: TestClient) -> None:
    found = rule_list.listed({"q": "身份证", "domain": "ARC", "severity": "error"})["rows"]
    assert found and all("身份证" in r["title_zh"] and r["domain"] == "ARC" for r in found)
    assert [r["id"] for r in rule_list.listed({"q": "htn-004"})["rows"]] == ["HTN-004"]
    assert "没有符合条件的规则" in first.get("/rules?q=没有这样的").text


def test_a_rule_of_a_set_query_offers_its_own_parameters_alone() -> None:
    rule = rulebook().rule("HTN-003")
    assert set(rule_editor.own_params(rule)) == {"max_gap_days", "min_gap_days"}
    assert not rule_editor.has_condition(rule) and "condition" not in rule_editor.present(rule)


def test_a_rule_page_counts_findings_of_the_institutions_in_reach() -> None:
    steward = demo_person("steward")
    every = rule_list.one(steward, "EXM-003")
    own = rule_list.one(replace(steward, org_code="C201"), "EXM-003")
    assert every is not None and own is not None
    assert every["found"]["findings"] > own["found"]["findings"] > 0 and own["found"]["orgs"] == 1
    assert rule_list.one(steward, "NO-1") is None


@pytest.mark.parametrize(("role", "org"), [("doctor", "C201"), ("officer", ""), ("steward", "C201")])
def test_only_stewards_of_the_group_change_rules(role: str, org: str) -> None:
    other = world.logged_in("someone", role, org)
    page = other.get("/rules/HTN-004")
    assert page.status_code == 200 and "/rules/HTN-004/edit" not in page.text
    assert other.get("/rules/HTN-004/edit").status_code == 403
    assert other.get("/rules/new").status_code == 403
    assert other.get("/rules/proposals/P0123456789").status_code == 403
    assert edited(other, "HTN-004", "propose", severity="info")[0] == 403
    assert post(other, "/rules/proposals/P0123456789/publish", "/rules")[0] == 403


def test_what_there_is_not_is_not_found(first: TestClient) -> None:
    assert first.get("/rules/NO-999").status_code == 404
    assert first.get("/rules/NO-999/edit").status_code == 404
    assert first.get("/rules/proposals/P0123456789").status_code == 404
    assert post(first, "/rules/proposals/P0123456789/publish", "/rules")[0] == 404
    assert world.logged_in("r", "researcher").get("/rules").status_code == 403
    with pytest.raises(MedlakeError, match="E449"):
        rule_editor.draft("NO-999", {})
