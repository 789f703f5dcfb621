"""Identity that lasts: merges and undos by people, through the lake and back; decisions for ever; runs that stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import empi
from empi import changes, decisions, redirects
from lake import ledger, ops, tables
from lake.errors import MedlakeError
from lake.settings import settings
from tests.registry_world import (
    archive,
    change_rows,
    day,
    deliver,
    digest,
    his,
    history_rows,
    patient,
    person_of,
    query,
    rows,
    shown,
    visible,
    who,
)

EVENT, REDIRECT = "silver/person_event", "silver/person_redirect"


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Residents 0..4 after a first run: 0 has two registrations, 1 and 2 one each, 3 and 4 one archive each."""
    home = tmp_path_factory.mktemp("registry") / "var"
    before = os.environ.get("MEDLAKE_HOME")
    os.environ["MEDLAKE_HOME"] = str(home)
    settings.cache_clear()
    deliver("patient", [patient("0", **who(0)), patient("0", "H102", **who(0))])
    deliver("patient", [patient("1", **who(1)), patient("2", **who(2))])
    deliver("ph_archive", [archive("A3", **who(3)), archive("A4", **who(4))])
    assert empi.link(day(0))["persons"] == 5
    if before is None:
        del os.environ["MEDLAKE_HOME"]
    else:
        os.environ["MEDLAKE_HOME"] = before
    settings.cache_clear()
    ops._after_fork()  # the engine of that home is nobody's any more
    return home


@pytest.fixture
def town(linked: Path, lake_home: Path) -> Path:
    shutil.copytree(linked, lake_home, dirs_exist_ok=True)
    return lake_home


def merged(kept: str, other: str, **given: Any) -> str:
    done = changes.merge(kept, other, actor="王芳", reason="同一身份证，曾用名", **given)
    assert done["state"] == "applied"
    return str(done["change_id"])


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_merge_goes_into_the_lake_and_its_undo_restores_it_exactly(town: Path, mode: str) -> None:
    before, was, history = person_of(), digest(), history_rows()
    kept, other = before[his("1")], before[his("0")]
    made = merged(kept, other)
    assert person_of() == before, "the lake follows with the next run"

    assert empi.link(day(1), mode=mode)["replayed"] == 1
    assert person_of() == before | {his("0"): kept, his("0", "H102"): kept}
    assert [r.run_id is not None for r in change_rows()] == [True]
    (event,) = [e for e in rows(EVENT) if e["event_type"] == "merge"]
    assert (event["empi_id"], event["other_empi_id"], event["actor"]) == (kept, other, "王芳")
    assert (event["change_id"], event["undoes"]) == (made, None)
    assert '"0"' in event["before"] and event["after"].endswith("[]}")
    (led,) = rows(REDIRECT)
    assert (led["empi_id"], led["current_empi_id"], led["event_id"]) == (other, kept, event["event_id"])
    assert redirects.resolve(other) == kept and redirects.resolve(kept) == kept
    assert digest() != was and history <= history_rows()
    history = history_rows()

    undone = changes.unmerge(made, actor="李敏", reason="母女")
    assert changes.unmerge(made, actor="李敏", reason="母女") == undone, "twice is once"
    assert empi.link(day(2), mode=mode)["replayed"] == 1
    assert person_of() == before and digest() == was
    assert rows(REDIRECT) == [] and redirects.resolve(other) == other
    assert history <= history_rows(), "history only grows"
    (event,) = [e for e in rows(EVENT) if e["undoes"]]
    assert (event["event_type"], event["empi_id"], event["other_empi_id"]) == ("split", other, kept)
    assert event["undoes"] == made and event["actor"] == "李敏"
    assert empi.link(day(3), mode="full")["merged"] == 0 and digest() == was


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_merge_that_a_run_made_is_undone_by_its_event(town: Path, mode: str) -> None:
    before, was = person_of(), digest()
    # somebody types resident 1's id, name and birth date into resident 2's registration: the run joins them
    deliver("patient", [patient("2", **who(1))])
    assert empi.link(day(1), mode=mode)["merged"] == 1
    assert person_of()[his("1")] == person_of()[his("2")]
    (event,) = [e for e in rows(EVENT) if e["event_type"] == "merge"]
    assert event["actor"] is None and event["change_id"] is None
    changes.unmerge(event["event_id"], actor="李敏", reason="录入错误")
    deliver("patient", [patient("2", **who(2))])
    empi.link(day(2), mode=mode)
    assert person_of() == before and digest() == was
    with pytest.raises(MedlakeError, match="E323"):
        changes.unmerge(event["event_id"], actor="李敏", reason="又一次", change_id="another")


def test_a_merge_undone_before_any_run_leaves_no_trace_but_history(town: Path) -> None:
    before, was = person_of(), digest()
    made = merged(before[his("1")], before[his("2")])
    changes.unmerge(made, actor="李敏", reason="手误")
    done = empi.link(day(1), mode="full")
    assert (done["replayed"], done["merged"]) == (2, 0)
    assert person_of() == before and digest() == was and rows(REDIRECT) == []
    assert len([e for e in rows(EVENT) if e["change_id"]]) == 2


def test_merged_again_after_an_undo(town: Path) -> None:
    """People may change their minds: the pairs kept apart by the undo give way."""
    before = person_of()
    kept, other = before[his("0")], before[his("1")]
    changes.unmerge(merged(kept, other), actor="李敏", reason="存疑")
    empi.link(day(1), mode="full")
    merged(kept, other)
    empi.link(day(2), mode="full")
    assert person_of()[his("1")] == kept and redirects.resolve(other) == kept


def test_the_other_registrations_of_two_merged_ids_come_along(town: Path) -> None:
    """Both residents have a trusted id of their own; a third registration of one of them stays with the person."""
    before = person_of()
    kept = before[his("0")]
    merged(kept, before[his("1")])
    deliver("patient", [patient("9", "H103", **who(0)), patient("9", "H104", **who(1))])
    empi.link(day(1), mode="full")
    now = person_of()
    assert {now[k] for k in (his("0"), his("0", "H102"), his("1"), his("9", "H103"), his("9", "H104"))} == {
        kept
    }


def test_a_chain_of_merges_and_its_undo_in_order(town: Path) -> None:
    before = person_of()
    zero, one, two = (before[his(n)] for n in "012")
    inner = merged(one, two)
    outer = merged(zero, one)
    empi.link(day(1), mode="full")
    assert redirects.resolve(two) == redirects.resolve(one) == zero
    with pytest.raises(MedlakeError, match="E323"):  # what it joined has since gone on
        changes.unmerge(inner, actor="李敏", reason="顺序不对")
    changes.unmerge(outer, actor="李敏", reason="误合")
    empi.link(day(2), mode="full")
    assert redirects.resolve(two) == one == redirects.resolve(one), (
        "what was merged into it leads to it again"
    )
    changes.unmerge(inner, actor="李敏", reason="误合")
    empi.link(day(3), mode="full")
    assert person_of() == before and rows(REDIRECT) == []


def test_what_cannot_be_merged_or_undone_is_refused(town: Path) -> None:
    ids = person_of()
    kept, other = ids[his("1")], ids[his("2")]
    cases: list[tuple[str, Any]] = [
        ("E321", lambda: changes.merge(kept, kept, actor="a", reason="r")),
        ("E321", lambda: changes.merge(kept, "E000000000000", actor="a", reason="r")),
        ("E322", lambda: changes.unmerge("V0", actor="a", reason="r")),
        ("E322", lambda: changes.unmerge("nothing", actor="a", reason="r")),
    ]
    made = merged(kept, other)
    undone = changes.unmerge(made, actor="a", reason="r")["change_id"]
    cases += [
        ("E322", lambda: changes.unmerge(undone, actor="a", reason="an undo is no merge")),
        ("E323", lambda: changes.unmerge(made, actor="a", reason="r", change_id="second")),
    ]
    for code, act in cases:
        with pytest.raises(MedlakeError) as caught:
            act()
        assert caught.value.code == code
    assert len(change_rows()) == 2


def test_the_same_change_id_is_the_same_change(town: Path) -> None:
    ids = person_of()
    first = changes.merge(ids[his("1")], ids[his("2")], actor="a", reason="r", change_id="REQ-1")
    assert changes.merge(ids[his("1")], ids[his("2")], actor="a", reason="r", change_id="REQ-1") == first
    assert len(change_rows()) == 1 and len(decisions.active()) == 1


def test_two_active_archives_need_two_people(town: Path) -> None:
    ids = {k.identifier_value: e for k, e in person_of().items()}
    asked = changes.merge(ids["A3"], ids["A4"], actor="王芳", reason="同名同址")
    again = changes.merge(ids["A3"], ids["A4"], actor="王芳", reason="同名同址")
    assert asked["state"] == "review" and asked["request_key"] == again["request_key"]
    assert (
        changes.merge(ids["A3"], ids["A4"], actor="王芳", second_actor="王芳", reason="r")["state"]
        == "review"
    )
    assert change_rows() == [] and decisions.active() == []
    with ops.engine().begin() as connection:
        requests = connection.execute(ops.work_request.select()).all()
    assert [r.request_key for r in requests] == [asked["request_key"]]
    done = changes.merge(ids["A3"], ids["A4"], actor="王芳", second_actor="李敏", reason="同名同址")
    assert done["state"] == "applied" and decisions.active()[0]["second_by"] == "李敏"


def test_no_decision_is_lost_over_ten_runs(town: Path) -> None:
    """Registrations change, vanish and return; a must-link and a cannot-link hold whenever their records are there."""
    decisions.decide(
        his("1"), his("2"), "must_link", reason="公安核实", actor="a", origin="steward", origin_key=""
    )
    decisions.decide(
        his("0"), his("0", "H102"), "cannot_link", reason="冒用", actor="a", origin="steward", origin_key=""
    )
    decisions.decide(
        his("0"), his("1"), "unsure", reason="无法判定", actor="a", origin="steward", origin_key=""
    )
    kept = {d["decision_id"] for d in decisions.active()}
    for number in range(1, 11):
        gone = number % 3 == 0
        deliver(
            "patient",
            [
                patient("2", **who(2 if number % 2 else 5), is_deleted=gone),
                patient("0", "H102", **who(0) | {"phone": f"139072299{number:02d}"}),
                patient(f"N{number}", **who(6 + number % 4)),
            ],
        )
        empi.link(day(number), mode="auto" if number < 8 else "full")
        now = person_of()
        assert now[his("0")] != now[his("0", "H102")] and now[his("0")] != now[his("1")]
        assert (his("2") not in now) if gone else (now[his("1")] == now[his("2")])
        assert {d["decision_id"] for d in decisions.active()} == kept
        assert {r["decision_id"] for r in rows("silver/match_decision")} == kept
    assert query(f"SELECT count(*) FROM {shown('silver/match_candidate')}") == [(0,)]


def test_decisions_against_each_other_stop_the_run_and_are_named(town: Path) -> None:
    before = visible()
    given = {"reason": "r", "actor": "a", "origin": "steward", "origin_key": ""}
    named = [
        decisions.decide(his("0"), his("1"), "must_link", **given),
        decisions.decide(his("1"), his("2"), "must_link", **given),
        decisions.decide(his("0"), his("2"), "cannot_link", **given),
    ]
    other = decisions.decide(his("0"), his("0", "H102"), "cannot_link", **given)
    with pytest.raises(MedlakeError) as caught:
        empi.link(day(1), mode="full")
    assert caught.value.code == "E303"
    assert all(d in caught.value.en for d in named) and other not in caught.value.en
    assert visible() == before
    decisions.withdraw(named[0], actor="a")
    decisions.withdraw(named[0], actor="a")
    assert empi.link(day(1), mode="full")["merged"] == 1


def test_a_run_beyond_the_limits_waits_for_its_own_diff(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from empi import approval

    before = visible()
    monkeypatch.setenv("MEDLAKE_EMPI_FREE_CHANGES", "0")
    monkeypatch.setenv("MEDLAKE_EMPI_MAX_MERGE_SHARE", "0")
    settings.cache_clear()
    deliver("patient", [patient("2", **who(1))])
    now = visible()
    with pytest.raises(MedlakeError) as caught:
        empi.link(day(1), mode="full")
    assert caught.value.code == "E324" and visible() == now and set(now) == set(before)
    (asked,) = approval.listed()
    assert (asked["state"], asked["merges"], asked["splits"], asked["merge_limit"]) == ("asked", 1, 0, 0)
    (path,) = (town / "empi" / "diffs").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    (line,) = approval.diff(asked["approval_id"])
    assert line["event_type"] == "merge" and line["before"].count(":1") == 2
    with pytest.raises(MedlakeError, match="E324"):  # asked once
        empi.link(day(1), mode="full")
    assert len(approval.listed()) == 1
    approval.answer(asked["approval_id"], "refused", actor="主任", reason="来源重发")
    with pytest.raises(MedlakeError, match="E325"):
        empi.link(day(1), mode="full")
    approval.answer(asked["approval_id"], "approved", actor="主任", reason="已核实")
    deliver(
        "patient", [patient("0", "H102", **who(3))]
    )  # another day's data: another diff, which nobody has seen
    with pytest.raises(MedlakeError, match="E324"):
        empi.link(day(1), mode="full")
    deliver("patient", [patient("0", "H102", **who(0))])
    for row in approval.listed():
        approval.answer(row["approval_id"], "approved", actor="主任", reason="已核实")
    with pytest.raises(
        MedlakeError, match="E324"
    ):  # the same persons, but not the same run: its input has moved on
        empi.link(day(1), mode="full")
    newest = approval.listed()[0]["approval_id"]
    approval.answer(newest, "approved", actor="主任", reason="已核实")
    assert empi.link(day(1), mode="full")["merged"] == 1
    with pytest.raises(MedlakeError, match="E326"):
        approval.answer("none", "approved", actor="主任", reason="r")


def test_killed_between_its_tables_and_its_mark_it_tells_nothing_twice(town: Path) -> None:
    before = person_of()
    merged(before[his("0")], before[his("1")])
    code = f"import empi, datetime; empi.link(datetime.date.fromisoformat('{day(1)}'), mode='full')"
    point = os.environ | {"MEDLAKE_KILL_AT": "empi.outputs_recorded"}
    done = subprocess.run([sys.executable, "-c", code], env=point, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [r.run_id for r in change_rows()] == [None]
    seen = {
        n: sorted(map(repr, rows(n))) for n in (EVENT, REDIRECT, "silver/person_identifier", "silver/person")
    }
    empi.link(day(1), mode="full")
    assert [r.run_id is not None for r in change_rows()] == [True]
    assert {n: sorted(map(repr, rows(n))) for n in seen} == seen


def test_every_run_leaves_a_line_about_itself(town: Path) -> None:
    empi.link(day(1), mode="full")
    first, second = sorted(rows("silver/link_run"), key=lambda r: r["data_date"])
    assert (first["data_date"], second["data_date"]) == (day(0), day(1))
    assert (
        second["mode"] == "full" and '"accept"' in second["thresholds"] and '"persons": 5' in second["counts"]
    )
    version = ledger.visible("silver/")["silver/link_run"]
    empi.link(day(1), mode="full")
    assert tables.version("silver/link_run") == version
