"""Home: what each role finds there, within its institutions, and that no block takes the page with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lake import audit_search
from lake.errors import MedlakeError
from lake.settings import settings
from portal import access, accounts, home, home_blocks
from portal.accounts import Person, demo_person
from tests import home_world
from tests.portal_client import client

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(made / "var"))
        settings.cache_clear()
        home_world.make(made / "nodes", NOW)
        yield made
    settings.cache_clear()


def found(person: Person) -> dict[str, home.Block]:
    return {b.kind.code: b for b in home.blocks(person, NOW)}


def of(role: str, org: str = "") -> dict[str, home.Block]:
    person = demo_person(role)
    return found(Person(person.user, role, org or person.org_code, person.name))


def test_no_block_of_any_role_fails_and_most_have_something_to_say(world: Path) -> None:
    states = {role: {c: b.state for c, b in of(role).items()} for role in accounts.ROLES}
    assert not [s for blocks in states.values() for s in blocks.values() if s == "failed"]
    empty = {
        (role, code) for role, blocks in states.items() for code, state in blocks.items() if state == "empty"
    }
    assert empty == {
        ("steward", "exports"), ("doctor", "exports"), ("pharmacist", "work"), ("executive", "work"),
        ("researcher", "work"), ("asset_manager", "work"), ("security_admin", "glass"), ("audit_admin", "alerts"),
    }  # fmt: skip


def test_the_numbers_are_those_of_the_persons_institutions(world: Path) -> None:
    all_of, own, other = of("steward"), of("steward", "C201"), of("steward", "C203")
    assert [b["tickets"].data["open"] for b in (all_of, own)] == [2, 1] and other["tickets"].state == "empty"
    assert (all_of["tickets"].data["late"], own["tickets"].data["late"]) == (1, 0)
    assert [b["due"].data["due"] for b in (all_of, own)] == [4, 3] and other["due"].state == "empty"
    assert own["due"].data["late"] == 1
    assert [b["edge"].data["total"] for b in (all_of, own, other)] == [3, 1, 1]
    assert [n["state"] for n in all_of["edge"].data["nodes"]] == ["silent", "new", "ok"]
    assert (all_of["edge"].data["waiting"], own["edge"].data["waiting"]) == (1280, 0)
    assert all_of["work"].data["late"] == 1 and own["work"].data["late"] == 0
    assert all_of["scores"].data["card"] is None and own["scores"].data["card"]["domain"] == "ALL"
    assert own["scores"].data["score"] == own["scores"].data["card"]["score"]
    lowest = [r["shrunk_score"] for r in all_of["scores"].data["lowest"]]
    assert lowest == sorted(lowest) and len(lowest) == home_blocks.LINES


def test_an_institution_outside_the_register_has_nothing(world: Path) -> None:
    states = {c: b.state for c, b in of("steward", "X999").items() if c not in ("exports", "publication")}
    assert set(states.values()) == {"empty"}, states


def test_the_own_exports_cohorts_gaps_and_accounts(world: Path) -> None:
    assert [j["template"] for j in of("officer")["exports"].data["jobs"]] == ["hypertension"]
    assert [c["cohort"] for c in of("researcher")["cohorts"].data["cohorts"]] == ["htn_all"]
    gaps = of("asset_manager")["gaps"].data
    assert gaps["wanting"] == 1 and gaps["rows"][0]["gaps"] == ["有记录未评分"]
    assert [a["user"] for a in of("security_admin")["accounts"].data["waiting"]] == ["zhang"]
    assert [f["value"] for f in of("executive")["city"].data["figures"]] == [900.0, 1700.0]


@pytest.mark.parametrize("role", list(accounts.ROLES))
def test_the_page_of_a_role_names_no_resident_and_leads_only_where_the_role_may_go(
    world: Path, role: str
) -> None:
    asked = client(role)
    page = asked.get("/")
    assert page.status_code == 200 and 'role="alert"' not in page.text
    assert not re.search(r"429701\d{11}|E\d{4,5}|K\d\b|欧阳|王小东", page.text.split("<main>")[1])
    here = {h.split("?")[0].split("#")[0] for h in re.findall(r'href="(/[^"]*)"', page.text)}
    for href in here - {"/"}:
        room = access.room_of(href)
        assert access.is_public(href) or (room is not None and role in room.roles), href
        assert "/work/" not in href or asked.get(href).status_code == 200, href


def test_the_due_list_shows_residents_as_the_purpose_allows_and_tells_the_audit(world: Path) -> None:
    told = {}
    for role in ("doctor", "officer", "steward"):
        page = client(role).get("/due").text
        told[role] = page.count("欧阳娜娜"), page.count("欧***"), page.count("高血压季度随访</th>")
    # E00002 is due at C201; the doctor's institution has three lines, the others all four
    assert told == {"doctor": (1, 0, 3), "officer": (1, 0, 4), "steward": (0, 1, 4)}
    entry = audit_search.search(action="due.list", limit=1)[0]
    assert (entry["actor"], entry["purpose"], entry["rows"], entry["persons_count"]) == (
        "steward",
        "quality",
        4,
        4,
    )
    assert "欧阳" not in str(entry)
    doctor = client("doctor")
    assert doctor.get("/due", params={"within": 30}).text.count("</th>\n") == 4
    assert doctor.get("/due", params={"what": "' OR 1=1 --"}).text.count("高血压季度随访</th>") == 0
    assert doctor.get("/due", params={"page": 99}).status_code == 200
    assert client("executive").get("/due").status_code == 403


@pytest.mark.parametrize("error", [RuntimeError("secret 429701"), MedlakeError("E423"), MedlakeError("E680")])
def test_a_block_that_fails_breaks_no_other(
    world: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    kind = home._KINDS["scores"]
    monkeypatch.setitem(home._KINDS, "scores", type(kind)(**(vars(kind) | {"make": broken})))
    page = client("steward").get("/")
    assert page.status_code == 200 and "同一天重复随访" in page.text and "secret" not in page.text
    nothing_yet = isinstance(error, MedlakeError) and error.code == "E423"
    assert ("这一块暂时取不到" in page.text) is not nothing_yet
    assert (kind.teach_zh in page.text) is nothing_yet


def test_an_empty_lake_teaches(lake_home: Path) -> None:
    for role in accounts.ROLES:
        page = client(role).get("/")
        assert page.status_code == 200 and "还没有发布过数据" in page.text
        assert 'class="teach"' in page.text and 'role="alert"' not in page.text


def test_every_room_is_in_one_group_and_a_click_away(lake_home: Path) -> None:
    for role in accounts.ROLES:
        shown = access.navigation(role)
        rooms = [room.code for _, found_there in shown for room in found_there]
        assert sorted(rooms) == sorted(r.code for r in access.rooms_for(role))
        assert {group for group, _ in shown} <= {"", *access.GROUPS}
        page = client(role).get("/").text
        for _, found_there in shown:
            for room in found_there:  # the bar, the phone's menu and, but for home itself, the row of entries
                assert page.count(f'href="{room.prefixes[0]}"') >= (2 if room.code == "home" else 3), (
                    room.code
                )


def test_a_line_of_scores_fits_its_box_also_when_level_or_single() -> None:
    points = [tuple(map(float, p.split(","))) for p in home_blocks.spark([90, 95, 92.5]).split()]
    assert points == [(0, 44), (120, 4), (240, 24)]
    assert home_blocks.spark([97.0, 97.0]) == "0.0,24.0 240.0,24.0" and home_blocks.spark([1]) == "0.0,24.0"
