"""Identity and archives in the portal over a small linked city: two people for a merge, undo, one code, two institutions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import worklist
from empi import archives
from lake import audit, duck, ledger, ops, registry, tables
from lake.settings import settings
from tests import steward_world as world
from tests.worklist_world import home
from worklist.store import Item

_HIDDEN = re.compile(r'name="(csrf|key|version)" value="([^"]*)"')


@pytest.fixture
def city(identity_home: Path, tmp_path: Path) -> Iterator[None]:
    shutil.copytree(identity_home, tmp_path / "var", symlinks=True)
    with home(tmp_path / "var"):
        yield
        ops.engine().dispose()


def _form(client: TestClient, path: str) -> dict[str, str]:
    return dict(_HIDDEN.findall(client.get(path).text.split("<main>")[1]))


def decide(client: TestClient, item: Item, action: str, **more: str) -> Any:
    form = {"csrf": "", "key": "k", "version": "0"} | _form(client, f"/identity/{item.item_id}")
    return client.post(f"/identity/{item.item_id}/{action}", data=form | {"reason": "核对无误"} | more)


def questions() -> list[Item]:
    return worklist.items(kind="empi_review", is_open=None, limit=1000)


def state(item: Item) -> str:
    return worklist.find(item.item_id)[0].state


def clients() -> tuple[TestClient, TestClient]:
    return world.logged_in("guan1"), world.logged_in("guan2")


def test_a_merge_takes_two_people_and_can_be_taken_back(city: None) -> None:
    first, second = clients()
    item = questions()[0]
    assert "主索引审核" in first.get("/identity").text and item.item_id in first.get("/identity").text
    page = first.get(f"/identity/{item.item_id}").text
    assert "合计" in page and "<rect" in page and "旁证" in page and "双胞胎" in page
    assert decide(first, item, "propose_merge").status_code == 303 and state(item) == "second_review"
    assert decide(first, item, "apply_merge").status_code == 409, "the same person again"
    assert "同意合并" not in first.get(f"/identity/{item.item_id}").text
    assert decide(second, item, "apply_merge").status_code == 303 and state(item) == "applied"
    assert decide(first, item, "unmerge").status_code == 303 and state(item) == "unmerged"
    told = [e["action"] for e in audit_entries()]
    assert "empi_review_look" in told


def audit_entries() -> list[dict[str, Any]]:
    import json

    from sqlalchemy import select

    with ops.engine().begin() as con:
        rows = con.execute(select(ops.audit_entry.c.entry).order_by(ops.audit_entry.c.seq)).scalars()
        return [json.loads(r) for r in rows]


def test_what_was_decided_leads_to_the_next_and_is_not_shown_again(city: None) -> None:
    first, _ = clients()
    one, other, *_ = [re.sub(r".*/", "", p) for p in re.findall(r'href="(/identity/[^"?]+)"', first.get("/identity").text)
                      if p != "/identity/person"]  # fmt: skip
    item = worklist.find(one)[0]
    answer = decide(first, item, "not_same", after=other)
    assert answer.headers["location"] == f"/identity/{other}?done={one}"
    assert one not in first.get("/identity").text and one in first.get("/identity?state=not_same").text
    assert decide(first, item, "reopen").status_code == 303 and state(item) == "assigned"


def test_a_stale_form_an_unknown_pair_and_other_roles_are_refused(city: None) -> None:
    first, second = clients()
    item = questions()[0]
    stale = {"reason": "x", "after": ""} | _form(first, f"/identity/{item.item_id}")
    decide(second, item, "not_same")
    assert first.post(f"/identity/{item.item_id}/unsure", data=stale).status_code == 409
    assert first.get("/identity/nothing").status_code == 404
    assert decide(first, item, "drop_table").status_code == 409
    doctor = world.logged_in("doc1", "doctor", "C201")
    assert doctor.get("/identity").status_code == 403 == doctor.get(f"/identity/{item.item_id}").status_code
    outside = world.logged_in("guan9", "steward", "C217")
    assert item.org_code == "C217" or outside.get(f"/identity/{item.item_id}").status_code == 404


def a_merged_person() -> dict[str, Any]:
    """A resident with several records, as the crosswalk has them."""
    at = ledger.visible("silver/")["silver/person_identifier"]
    rows = duck.connect().execute(
        f"""SELECT empi_id, list(identifier_value) FROM {tables.scan_sql("silver/person_identifier", at)}
        WHERE identifier_type = 'MR' AND valid_to IS NULL GROUP BY 1 HAVING count(*) = 2 ORDER BY 1 LIMIT 2"""
    ).fetchall()  # fmt: skip
    return {"ids": [r[0] for r in rows], "numbers": rows[0][1]}


def test_any_number_leads_to_the_resident_and_a_merge_is_undone_from_there(city: None) -> None:
    from empi import changes

    first, _ = clients()
    known = a_merged_person()
    page = first.get("/identity/person", params={"code": known["numbers"][0]}).text
    assert known["ids"][0] in page and known["numbers"][1] in page and "来自登记" in page
    assert "没有这个编号" in first.get("/identity/person?code=nobody").text
    merged = changes.merge(*known["ids"], actor="guan1", reason="试", second_actor="guan2", change_id="C1")
    assert merged["state"] == "applied"
    assert "已并入此号" in first.get(f"/identity/person?code={known['ids'][1]}").text
    form = {"merge_id": "C1", "code": known["ids"][0], "reason": "弄错了"}
    form |= _form(first, "/identity/person?code=nobody") | {"csrf": csrf_of(first)}
    assert first.post("/identity/unmerge", data=form).status_code == 303
    assert "已并入此号" not in first.get(f"/identity/person?code={known['ids'][1]}").text
    assert first.post("/identity/unmerge", data=form | {"merge_id": "V0"}).status_code == 409
    assert any(e["action"] == "empi_lookup" for e in audit_entries())


def csrf_of(client: TestClient) -> str:
    found = re.search(r'name="csrf-token" content="([^"]*)"', client.get("/identity").text)
    return found[1] if found else ""


def test_two_institutions_settle_an_archive(city: None) -> None:
    case = next(
        p for p in archives.proposals(state="asked", limit=500)
        if p["from_org_code"] != p["managing_org_code"] and p["action"] == "close"
    )  # fmt: skip
    giver = world.logged_in("qian1", "officer", case["from_org_code"])
    taker = world.logged_in("jie1", "officer", case["managing_org_code"])
    page = giver.get(f"/archives/{case['proposal_id']}").text
    assert "办理：放行" in page and "以此为准" in page
    item = re.search(r'href="/work/([^"]+)">办理', page)
    assert item
    form = dict(_HIDDEN.findall(giver.get(f"/work/{item[1]}").text.split("<main>")[1]))
    done = giver.post(f"/work/{item[1]}/release", data=form | {"consent_id": "T2026-1"})
    assert done.status_code == 303
    assert "已转交下一方" in giver.get(done.headers["location"]).text, "it is the other institution's now"
    page = taker.get(f"/archives/{case['proposal_id']}").text
    assert "已放行" in page
    form = dict(_HIDDEN.findall(taker.get(f"/work/{item[1]}").text.split("<main>")[1]))
    done = taker.post(f"/work/{item[1]}/take_over", data=form | {"new_archive_id": case["keeper_archive_id"]})
    assert done.status_code == 303
    assert "已迁入" in taker.get(f"/archives/{case['proposal_id']}").text
    steward, _ = clients()
    assert case["proposal_id"] in steward.get("/archives?state=moved").text
    stranger = next(
        o for o in sorted(registry.org_codes())
        if o.startswith("C2") and o not in (case["from_org_code"], case["managing_org_code"])
    )  # fmt: skip
    other = world.logged_in("lu1", "officer", stranger)
    assert other.get(f"/archives/{case['proposal_id']}").status_code == 404
    assert giver.post("/archives/write-back", data={"csrf": csrf_of_page(giver)}).status_code == 409
    told = steward.post("/archives/write-back", data={"csrf": csrf_of(steward)})
    assert told.status_code in (200, 409), "without the sources' files there is no layout to write in (E363)"


def csrf_of_page(client: TestClient) -> str:
    found = re.search(r'name="csrf-token" content="([^"]*)"', client.get("/archives").text)
    return found[1] if found else ""


def test_before_anything_was_linked_the_pages_teach(tmp_path: Path) -> None:
    with home(tmp_path / "var"):
        worklist.migrate()
        first, _ = clients()
        assert "没有待审核的登记对" in first.get("/identity").text
        assert "没有需要协商的档案" in first.get("/archives").text
        assert first.get("/identity/person?code=1").status_code == 409
        assert settings().home == tmp_path / "var" and audit is not None
        ops.engine().dispose()
