"""The whole loop on a simulated city: a run is unsure, people are asked and decide, the next run does what they said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

import empi
import worklist
from bench import empi_city
from empi import model, state
from empi.review import ask, ask_after_link, drift, evidence, learn, pairs, queue, records
from empi.review.compare import compare
from empi.review.pairs import RecordKey
from lake import audit, duck, ledger, ops, tables
from lake.contracts import table_contract
from lake.errors import MedlakeError
from lake.settings import settings
from medlake.commands.empi import app
from tests.review_world import candidates, show_candidates
from tests.worklist_world import home
from worklist.store import Item

DAY = date(2026, 11, 18)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linked city of 2,000 residents and the pairs its run was unsure of; tests work on copies."""
    folder = tmp_path_factory.mktemp("review") / "var"
    with home(folder):
        empi_city.prepare(str(folder), 2000, 11)
        empi.link(DAY)
        ops.engine().dispose()
    return folder


@pytest.fixture
def town(city: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(city, tmp_path / "var")
    with home(tmp_path / "var"):
        yield tmp_path / "var"
        ops.engine().dispose()


def questions() -> list[Item]:
    worklist.take_requests()
    return worklist.items(kind="empi_review", is_open=None, limit=1000)


def item_now(item: Item) -> Item:
    return worklist.find(item.item_id)[0]


def persons(item: Item) -> tuple[str, str]:
    """Who the two registrations belong to now."""
    both = pairs.of_payload(item.payload)
    assert both is not None
    rows = tables.read("silver/person_identifier", ledger.visible("silver/")["silver/person_identifier"])
    found = {
        (r["source_system"], r["org_code"], r["identifier_value"]): str(r["empi_id"])
        for r in rows.to_table().to_pylist()
        if r["identifier_type"] == "MR" and r["valid_to"] is None
    }
    return found[both[0]], found[both[1]]


def settled_keys() -> set[str]:
    with ops.engine().begin() as connection:
        query = select(ops.work_request.c.subject).where(ops.work_request.c.request_key.endswith("|settle"))
        return {row.subject for row in connection.execute(query)}


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["review", *words])
    return done.exit_code, done.output


def told(*words: str) -> dict[str, Any]:
    code, out = run(*words, "--json")
    assert code == 0, out
    return dict(json.loads(out.strip().splitlines()[-1]))


def test_from_an_uncertain_pair_to_one_person_and_back(town: Path) -> None:
    asked = ask(DAY)
    assert asked["asked"] > 5 and asked["candidates"] >= asked["asked"]
    assert ask(DAY)["asked"] == 0
    open_items = questions()
    assert len(open_items) == asked["asked"]
    merged, apart, open_end = open_items[:3]
    assert len({*persons(merged)}) == 2

    assert told("propose", merged.item_id, "--by", "王", "--reason", "证件相同")["state"] == "second_review"
    code, out = run("same", merged.item_id, "--by", "王")
    assert code == 1 and "E909" in out
    assert told("same", merged.item_id[:10], "--by", "李")["state"] == "applied"
    assert told("not-same", apart.item_id, "--by", "王", "--reason", "母女")["state"] == "not_same"
    assert told("unsure", open_end.item_id, "--by", "王", "--reason", "联系不上")["state"] == "unsure"

    empi.link(DAY + timedelta(days=1))
    assert len({*persons(merged)}) == 1 and len({*persons(apart)}) == 2
    ask(DAY + timedelta(days=1))
    again = {i.item_id: i.state for i in questions()}
    assert again[merged.item_id] == "applied" and again[apart.item_id] == "not_same"
    assert again[open_end.item_id] == "unsure"

    assert told("undo", merged.item_id, "--by", "李", "--reason", "看错了")["state"] == "unmerged"
    empi.link(DAY + timedelta(days=2))
    assert len({*persons(merged)}) == 2
    for later in (2, 3):
        ask(DAY + timedelta(days=later))
    decided = {frozenset(persons(i)) for i in (merged, apart, open_end)}
    shown = [i for i in questions() if i.is_open]
    assert not decided & {frozenset(persons(i)) for i in shown}, "what people decided is never shown again"
    assert {item_now(i).state for i in (merged, apart, open_end)} == {"unmerged", "not_same", "unsure"}
    assert audit.verify() > 0


def test_what_a_later_run_settles_is_withdrawn_and_can_come_back(town: Path) -> None:
    ask(DAY)
    first, *others = questions()
    told("claim", first.item_id, "--by", "王")
    left, right = persons(first)
    rows = candidates()
    show_candidates([r for r in rows if {r["empi_id_l"], r["empi_id_r"]} != {left, right}], "run2")
    assert ask(DAY + timedelta(days=1))["settled"] == 1
    worklist.take_requests()
    gone, log = worklist.find(first.item_id)
    assert gone.state == "settled" and "不再疑似" in str(log[-1].reason)
    assert all(item_now(i).is_open for i in others)
    show_candidates(rows, "run3")
    counts = ask(DAY + timedelta(days=2))
    assert (counts["asked_again"], counts["asked"], counts["settled"]) == (1, 0, 0)
    worklist.take_requests()
    assert item_now(first).state == "candidate"


def test_another_pair_of_the_same_two_persons_is_the_same_question(town: Path) -> None:
    ask(DAY)
    before = questions()
    show_candidates([r | {"identifier_value_l": r["identifier_value_l"] + "x"} for r in candidates()], "run2")
    counts = ask(DAY + timedelta(days=1))
    assert (counts["asked"], counts["settled"]) == (0, 0)
    assert {i.item_id for i in questions()} == {i.item_id for i in before}


def test_nobody_is_flooded(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = queue.limits(DAY) | {"max_per_day": 4, "max_per_institution": 1, "max_waiting": 1}
    monkeypatch.setattr(queue, "limits", lambda _: small)
    told_ = ask(DAY)
    assert told_["asked"] == 4 and told_["held_back"] >= 1
    assert ask(DAY)["asked"] == 0, "the same day asks no more"
    made = questions()
    assert len({i.org_code for i in made}) == 4
    by_rank = sorted(made, key=lambda i: -float(i.payload["rank_value"]))
    assert [i.priority for i in by_rank] == [3, 4, 5, 6]
    ask(DAY + timedelta(days=1))
    later = [i for i in questions() if i.item_id not in {m.item_id for m in made}]
    assert not {i.org_code for i in later} & {i.org_code for i in made}, "who has not answered is not asked"
    assert ask(DAY + timedelta(days=30), limit=0)["asked"] == 0


def test_what_people_have_answered_often_is_asked_later(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = queue.limits(DAY) | {"max_per_day": 6, "max_per_institution": 6, "max_waiting": 90}
    monkeypatch.setattr(queue, "limits", lambda _: small)
    held = [r | {"guard": "twin", "value": 2.0} for r in candidates()]
    other = [r | {"guard": "two_ids", "value": 1.9} for r in held[:3]]
    show_candidates([*held[3:], *other], "run2")
    assert len(held) > 12
    ask(DAY)
    first = questions()
    for item in first:
        told("not-same", item.item_id, "--by", "王", "--reason", "x")
    known = [i.payload["guard"] for i in first]
    ask(DAY + timedelta(days=1))
    later = [i.payload["guard"] for i in questions() if i.item_id not in {f.item_id for f in first}]
    assert known.count("twin") > known.count("two_ids") and later.count("two_ids") == 3 - known.count(
        "two_ids"
    )


def deliver(name: str, rows: list[dict[str, Any]]) -> None:
    contract = table_contract(name)
    schema = contract.silver_schema()
    full = [dict.fromkeys(schema.names) | r for r in rows]
    tables.merge(f"silver/{name}", pa.Table.from_pylist(full, schema=schema), key=contract.full_key)
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, f"silver/{name}", tables.version(f"silver/{name}"), None)


def registration(key: RecordKey) -> dict[str, Any]:
    name, column = {"his": ("patient", "patient_local_id"), "public_health": ("ph_archive", "archive_id")}[
        key.source_system
    ]
    rows = tables.read(f"silver/{name}", ledger.visible("silver/")[f"silver/{name}"]).to_table().to_pylist()
    (row,) = [r for r in rows if (r["org_code"], r[column]) == (key.org_code, key.identifier_value)]
    return dict(row)


def test_a_decision_is_asked_again_only_when_its_own_ground_changed(town: Path) -> None:
    ask(DAY)
    item = next(
        i
        for i in questions()
        if i.payload["guard"] == "borrowed_id" and i.payload["source_system_l"] in ("his", "public_health")
    )
    told("not-same", item.item_id, "--by", "王", "--reason", "借用")
    both = pairs.of_payload(item.payload)
    assert both is not None and queue.evidence_of(*both) == item.payload["evidence_sha256"]

    changed = registration(both[0])
    table = "patient" if both[0].source_system == "his" else "ph_archive"
    newcomer = {
        "org_code": "H101",
        "patient_local_id": "newcomer",
        "phone": changed["phone"],
        "name": "新来人",
    }
    deliver("patient", [newcomer])  # somebody else now has that telephone: no ground of this decision
    assert ask(DAY + timedelta(days=1))["asked_again"] == 0
    deliver(table, [changed | {"blood_abo_code": "1"}])  # nothing that identifies
    assert ask(DAY + timedelta(days=2))["asked_again"] == 0

    other = registration(both[1]) if both[1].source_system != "lis" else changed
    deliver(table, [changed | {"name": other["name"], "birth_date": other["birth_date"]}])
    assert queue.evidence_of(*both) != item.payload["evidence_sha256"]
    assert ask(DAY + timedelta(days=3))["asked_again"] == 1
    empi.link(DAY + timedelta(days=4))
    counts = ask(DAY + timedelta(days=4))
    assert (counts["asked_again"], item.request_key in settled_keys()) == (0, False)
    worklist.take_requests()
    assert item_now(item).state == "candidate"
    told("not-same", item.item_id, "--by", "王", "--reason", "仍是两人")
    assert ask(DAY + timedelta(days=5))["asked_again"] == 0, "the new decision rests on what is there now"


def test_the_explanation_is_the_runs_own_score(town: Path) -> None:
    connection = duck.connect()
    connection.execute(f"ATTACH '{state.path()}' AS kept (READ_ONLY)")
    gammas = ", ".join(f"p.gamma_{n}" for n in model.LEVELS)
    rows = connection.execute(
        f"""SELECT l.source_system, l.org_code, l.identifier_value, r.source_system, r.org_code, r.identifier_value,
               p.match_weight, p.guard, {gammas}
        FROM kept.pair p JOIN kept.record l ON l.rec_id = p.id_l JOIN kept.record r ON r.rec_id = p.id_r
        ORDER BY hash(p.id_l, p.id_r) LIMIT 300"""
    ).fetchall()
    connection.close()
    both = [(RecordKey(*r[:3]), RecordKey(*r[3:6])) for r in rows]
    with records.bench() as on:
        records.load(on, {k for p in both for k in p})
        assert on.is_informed
        found = compare(on, both)
    assert len(found) == len(rows) > 100
    for place, row in enumerate(rows):
        assert found[place].weight == pytest.approx(row[6], abs=1e-6)
        assert found[place].guard == row[7]
        assert tuple(found[place].gammas.values()) == row[8:]


def test_a_look_is_audited_and_a_list_names_nobody(town: Path) -> None:
    ask(DAY)
    item = questions()[0]
    both = pairs.of_payload(item.payload)
    assert both is not None
    code, listing = run("list")
    assert code == 0 and item.item_id[:10] in listing
    name = registration(both[0])["name"] if both[0].source_system in ("his", "public_health") else None
    before = audit.verify()
    code, out = run("show", item.item_id, "--by", "王管理员", "--purpose", "季度抽查")
    assert code == 0 and "受限数据" in out and "先验" in out and "█" in out
    if name:
        assert name in out and name not in listing
    assert audit.verify() == before + 1
    with ops.engine().begin() as connection:
        entry = connection.execute(
            select(ops.audit_entry.c.entry).order_by(ops.audit_entry.c.seq.desc())
        ).first()
    assert entry is not None and "王管理员" in entry.entry and "季度抽查" in entry.entry
    assert not any(value in entry.entry for value in (both[0].identifier_value, both[1].identifier_value))
    shown = told("show", item.item_id, "--by", "王")
    assert shown["explanation"]["weight"] == pytest.approx(float(item.payload["match_weight"]), abs=1e-6)


def test_while_a_run_is_at_work_a_pair_is_still_shown(town: Path) -> None:
    ask(DAY)
    item = questions()[0]
    state.path().rename(state.path().with_suffix(".away"))
    shown = told("show", item.item_id, "--by", "王")["explanation"]
    assert shown["evidence"]["phones"] is None and shown["bars"][0]["comparison"] == "prior"
    assert "暂不可查" in run("show", item.item_id, "--by", "王")[1]


def test_evidence_beside_the_fields(town: Path) -> None:
    ask(DAY, limit=30)
    item = next(
        i
        for i in questions()
        if {i.payload["source_system_l"], i.payload["source_system_r"]} == {"his", "public_health"}
    )
    both = pairs.of_payload(item.payload)
    assert both is not None
    his = next(k for k in both if k.source_system == "his")
    archive = next(k for k in both if k.source_system == "public_health")
    assert item.org_code == archive.org_code, "the archive's institution acts"
    admitted = {
        "org_code": his.org_code,
        "inpatient_id": "I1",
        "patient_local_id": his.identifier_value,
        "admitted_at": datetime(2026, 11, 1, tzinfo=UTC),
    }
    deliver("inpatient_encounter", [admitted])
    visit = {"org_code": archive.org_code, "visit_id": "V1", "archive_id": archive.identifier_value}
    deliver("htn_visit", [visit | {"visited_on": date(2026, 11, 1)}])
    shown = told("show", item.item_id, "--by", "王")["explanation"]["evidence"]
    assert [(v["kind"], v["times"], v["first_on"]) for v in shown["visits"]] == [
        ("inpatient_encounter", 1, "2026-11-01")
    ]
    assert [(s["kind"], s["org_code"]) for s in shown["services"]] == [("htn_visit", archive.org_code)]
    assert shown["same_days"] == 1 and shown["archives"][0]["is_active"]
    assert {p["whose"] for p in shown["phones"]} <= {"phone", "contact"} and shown["homes"] is not None
    with records.bench() as on:
        flags = evidence.flags(on, persons(item), 180)
        forgotten = evidence.flags(on, persons(item), 10)
    assert sum(f.in_hospital for f in flags.values()) == 1
    assert not any(f.in_hospital for f in forgotten.values())
    assert sum(f.active_archives for f in flags.values()) >= 1


def test_two_archives_in_use_and_a_patient_in_bed_are_marked(town: Path) -> None:
    row = next(
        r for r in candidates() if {r["source_system_l"], r["source_system_r"]} == {"public_health", "his"}
    )
    his = "l" if row["source_system_l"] == "his" else "r"
    day = datetime(2026, 11, 17, tzinfo=UTC)
    bed = {"org_code": row[f"org_code_{his}"], "patient_local_id": row[f"identifier_value_{his}"]}
    deliver("inpatient_encounter", [bed | {"inpatient_id": "I1", "admitted_at": day}])
    ask(DAY)
    found = questions()
    lying = [i for i in found if i.payload["in_hospital"] == "true"]
    assert lying and {row["empi_id_l"], row["empi_id_r"]} & {e for i in lying for e in persons(i)}
    assert all(i.due_at < j.due_at for i in lying for j in found if j not in lying and i.due_at and j.due_at)
    two = [i for i in found if i.payload["two_active_archives"] == "true"]
    both_archives = [
        i for i in found if i.payload["source_system_l"] == i.payload["source_system_r"] == "public_health"
    ]
    assert both_archives and {i.item_id for i in both_archives} <= {i.item_id for i in two}


def test_wrong_items_and_wrong_moments_are_told(town: Path) -> None:
    ask(DAY)
    item = questions()[0]
    assert "E354" in run("undo", item.item_id, "--by", "王", "--reason", "x")[1]
    from tests.worklist_world import ask as place_item

    other = place_item("critical_value", "k1")
    assert "E352" in run("claim", other.item_id, "--by", "王")[1]
    bare = place_item("empi_review", "k2")
    assert "E353" in run("show", bare.item_id, "--by", "王")[1]
    assert "E907" in run("not-same", item.item_id, "--by", "王")[1], "a decision needs a reason"
    told("propose", item.item_id, "--by", "王", "--reason", "像")
    assert told("undo", item.item_id, "--by", "王", "--reason", "再想想")["state"] == "assigned"
    both = pairs.of_payload(item.payload)
    assert both is not None
    missing = RecordKey("his", "H101", "nobody")
    from empi.review import explain_pair

    with pytest.raises(MedlakeError, match="E351"):
        explain_pair(both[0], missing, actor="王", purpose="x")


def test_before_anything_was_linked(lake_home: Path) -> None:
    with pytest.raises(MedlakeError, match="E350"):
        ask(DAY)
    assert settings().home == lake_home
    assert ask_after_link(DAY)["error"] == "E350", "asking never stops the chain"


def test_what_answers_teach_and_what_they_would_bear(town: Path) -> None:
    ask(DAY)
    for item in questions()[:6]:
        told("not-same", item.item_id, "--by", "王", "--reason", "x")
    found = learn(DAY)
    rows = [*found["bands"], *found["guards"]]
    assert (
        found["decided"] == 6 and sum(r["decided"] for r in rows) == 6 and all(r["same"] == 0 for r in rows)
    )
    assert found["proposals"] == []
    assert told("learn")["decided"] == 6


def test_drift_is_noted_once_a_run(town: Path) -> None:
    ask(DAY)
    assert drift.note() is False and len(drift.kept()) == 1
    (line,) = drift.kept()
    assert (
        sum(line["match_key"].values()) == sum(line["weight"].values()) == sum(line["guard"].values()) > 1000
    )
    empi.link(DAY + timedelta(days=1))
    (row, *_) = drift.report()
    assert row["match_key_moved"] == 0 and row["pairs"] == sum(line["match_key"].values())
    assert told("drift")["rules"][0]["now"] > 0
