"""The loops as closed-loops.md tells them, walked by hand: the way, who has the item, and when it is due."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import worklist
from lake.errors import MedlakeError
from tests.worklist_world import NOW, ask, home
from worklist.store import Item


@pytest.fixture(scope="module", autouse=True)
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with home(tmp_path_factory.mktemp("reference") / "var"):
        yield


def walk(item: Item, *steps: tuple[str, str, dict[str, str]], at: datetime = NOW) -> Item:
    """Do steps (action, role, data), each by another person, a minute apart."""
    for number, (action, role, data) in enumerate(steps):
        item = worklist.act(
            item.item_id,
            action,
            actor=f"person {number}",
            role=role,
            data=data,
            reason="理由",
            evidence=["doc/1"],
            at=at + timedelta(minutes=number),
        )
    return item


def due(item: Item) -> timedelta | None:
    """How long after the item's last step it is due."""
    return None if item.due_at is None else item.due_at - item.entered_at


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def test_critical_value() -> None:
    """§1: 10 min to confirm, 5 to notify, 10 to receive and read back, 30 to act, 6 h to record."""
    item = ask("critical_value", "cv", requesting_org_code="C201")
    assert due(item) == minutes(10) and item.owner_role == "lab_technician"
    item = walk(item, ("confirm", "lab_technician", {"recheck": "重测一致"}))
    assert due(item) == minutes(5)
    item = walk(item, ("notify", "lab_technician", {"channel": "phone", "notifier": "张"}))
    assert (due(item), item.org_code, item.owner_role) == (minutes(10), "C201", "ward_nurse")
    with pytest.raises(MedlakeError, match="E911"):  # without read-back it is not received
        walk(item, ("receive", "ward_nurse", {"readback_ok": "false"}))
    item = walk(item, ("receive", "ward_nurse", {"readback_ok": "true"}))
    assert due(item) == minutes(30)
    item = walk(item, ("acknowledge", "attending_doctor", {}))
    assert due(item) == minutes(30)  # one clock for both: the doctor's 30 minutes count from receipt
    with pytest.raises(MedlakeError, match="E906"):  # an order or a reason for none
        walk(item, ("handle", "attending_doctor", {"action_text": "补钾"}))
    item = walk(item, ("handle", "attending_doctor", {"action_text": "补钾", "order_id": "O1"}))
    assert due(item) == timedelta(hours=6)
    item = walk(item, ("close", "attending_doctor", {"emr_doc": "D1"}))
    assert (item.state, item.is_open, item.due_at, item.next_timer_at) == ("closed", False, None, None)


def test_a_critical_value_cannot_close_without_what_was_done() -> None:
    item = ask("critical_value", "cv2", requesting_org_code="C201")
    with pytest.raises(MedlakeError, match="E904"):
        walk(item, ("close", "attending_doctor", {"action_text": "x", "emr_doc": "D1"}))


@pytest.mark.parametrize(("report_class", "hours"), [("2h", 2), ("24h", 24)])
def test_infectious_report_counts_from_diagnosis(report_class: str, hours: int) -> None:
    """§2: 2 h for class A and what is managed as such, else 24 h, from the physician's diagnosis."""
    diagnosed = NOW - timedelta(minutes=30)
    item = ask(
        "infectious_report", f"ir{hours}", report_class=report_class, diagnosed_at=diagnosed.isoformat()
    )
    assert item.due_at == diagnosed + timedelta(hours=hours)
    item = walk(
        item, ("draft", "attending_doctor", {}), ("submit", "attending_doctor", {"disease_code": "0100"})
    )
    assert item.due_at == diagnosed + timedelta(hours=hours)  # the same clock until the network has it
    item = walk(
        item,
        ("audit", "public_health_clerk", {}),
        ("net_report", "public_health_clerk", {"network_receipt_id": "N1"}),
    )
    assert due(item) == timedelta(hours=hours)  # county audit: 2 h or 24 h
    item = walk(item, ("county_approve", "county_cdc", {}), ("close", "county_cdc", {}))
    assert item.state == "closed"
    assert walk(item, ("correct", "county_cdc", {})).state == "card_draft"


def test_a_diagnosis_dated_in_the_future_gives_no_more_time() -> None:
    ahead = (NOW + timedelta(hours=9)).isoformat()
    item = ask("infectious_report", "ahead", report_class="2h", diagnosed_at=ahead)
    assert item.due_at == NOW + timedelta(hours=2)


@pytest.mark.parametrize(
    ("facts", "lacking"),
    [
        ({"occupation_code": "student"}, {"school_name", "class_name"}),
        ({"age_years": "14"}, {"parent_name"}),
        ({"disease_code": "2600"}, {"tb_bacteriology_code"}),
        ({"disease_code": "0602"}, {"confirmation_report_id"}),
    ],
)
def test_a_card_needs_what_the_norm_asks_for(facts: dict[str, str], lacking: set[str]) -> None:
    item = ask("infectious_report", f"card{sorted(facts.items())}", diagnosed_at=NOW.isoformat())
    item = walk(item, ("draft", "attending_doctor", {}))
    with pytest.raises(MedlakeError) as told:
        walk(item, ("submit", "attending_doctor", {"disease_code": "0100"} | facts))
    assert told.value.code == "E906" and all(f in told.value.en for f in lacking)
    given = {"disease_code": "0100"} | facts | dict.fromkeys(lacking, "给定")
    assert walk(item, ("submit", "attending_doctor", given)).state == "submitted"


def test_hiv_screening_is_to_be_confirmed_before_a_card() -> None:
    item = ask("infectious_positive", "hiv", confirmation="due", pathogen="hiv")
    assert item.due_at == NOW + timedelta(hours=12)
    with pytest.raises(MedlakeError, match="E911"):
        walk(item, ("card_now", "attending_doctor", {"card_id": "C1"}))
    item = walk(
        item,
        ("deduplicate", "attending_doctor", {}),
        ("send_to_confirm", "attending_doctor", {"confirmation_order_id": "O1"}),
        ("confirm", "lab_technician", {"confirmation_report_id": "R2"}),
    )
    assert due(item) == timedelta(hours=24)
    item = walk(item, ("card", "attending_doctor", {"card_id": "C1"}), ("audit", "public_health_clerk", {}))
    assert item.state == "closed"


def test_hepatitis_b_unanswered_goes_to_public_health_and_to_the_director() -> None:
    """§2: 12 h unresolved to 公卫科, 20 h to 分管院长."""
    item = ask("infectious_positive", "hbv", confirmation="due", pathogen="hepatitis_b")
    worklist.fire(NOW + timedelta(hours=12))
    assert worklist.find(item.item_id)[0].owner_role == "public_health_clerk"
    worklist.fire(NOW + timedelta(hours=19, minutes=59))
    assert worklist.find(item.item_id)[0].owner_role == "public_health_clerk"
    worklist.fire(NOW + timedelta(hours=20))
    assert worklist.find(item.item_id)[0].owner_role == "deputy_director"


@pytest.mark.parametrize(
    ("urgency", "wait"), [("emergency", minutes(15)), ("urgent", minutes(120)), ("normal", minutes(1440))]
)
def test_referral_up_unanswered_goes_to_the_centre(urgency: str, wait: timedelta) -> None:
    item = ask("referral_up", f"up{urgency}")
    given = {"summary_doc": "S1", "consent_id": "C1", "urgency": urgency, "to_org_code": "H001"}
    item = walk(item, ("submit", "primary_doctor", given))
    assert due(item) == wait
    worklist.fire(NOW + wait - timedelta(seconds=1))
    assert worklist.find(item.item_id)[0].state == "submitted"
    worklist.fire(NOW + wait)
    item, log = worklist.find(item.item_id)
    assert (item.state, item.owner_role) == ("center_assign", "referral_center")
    assert [e.action for e in log[-2:]] == ["escalate", "timeout"]
    at = NOW + wait + minutes(1)
    item = walk(
        item,
        ("accept", "referral_center", {}),
        ("book", "referral_center", {"booking_ref": "B1", "booked_at": "2026-11-20"}),
        ("arrive", "receiving_doctor", {}),
        ("treat", "receiving_doctor", {}),
        ("discharge", "receiving_doctor", {"discharged_at": "2026-11-25"}),
        at=at,
    )
    assert due(item) == timedelta(hours=24)
    item = walk(
        item, ("send_result", "receiving_doctor", {"result_doc": "R1", "from_org_code": "C201"}), at=at
    )
    assert item.org_code == "C201"
    assert walk(item, ("close", "primary_doctor", {}), at=at).state == "closed"


def test_referral_down() -> None:
    item = ask("referral_down", "down", from_org_code="H001")
    given = {"summary_doc": "S1", "consent_id": "C1", "to_org_code": "C201"}
    item = walk(
        item,
        ("offer", "attending_doctor", given),
        ("accept", "primary_doctor", {}),
        ("discharge", "attending_doctor", {"plan_doc": "P1", "discharged_at": "2026-11-18"}),
    )
    assert (due(item), item.org_code) == (timedelta(hours=72), "C201")
    item = walk(item, ("receive", "family_team", {}))
    assert due(item) == timedelta(days=7)
    assert (
        walk(item, ("follow_up", "family_team", {"visit_id": "V1"}), ("close", "family_team", {})).state
        == "closed"
    )


@pytest.mark.parametrize(
    ("trigger", "wait"),
    [
        ("new_hypertension", timedelta(days=30)),
        ("uncontrolled_in_clinic", timedelta(days=14)),
        ("discharge_copd", timedelta(days=7)),
        ("delivery_discharge", timedelta(days=7)),
        ("tb_notice", timedelta(hours=72)),
        ("smi_discharge", timedelta(days=10)),
        ("exam_abnormal", timedelta(days=14)),
        ("death", timedelta(hours=24)),
    ],
)
def test_clinic_tasks_have_their_own_time(trigger: str, wait: timedelta) -> None:
    assert ask("clinic_task", f"ct{trigger}", trigger=trigger).due_at == NOW + wait


def test_a_pregnancy_is_registered_before_week_13_and_a_first_blood_pressure_the_same_day() -> None:
    item = ask("clinic_task", "preg", trigger="pregnancy_positive", due_on="2027-01-05")
    assert item.due_at == datetime(2027, 1, 5, 15, 59, 59, tzinfo=UTC)  # the end of that day in Shanghai
    item = ask("clinic_task", "bp", trigger="first_blood_pressure")
    assert item.due_at == datetime(2026, 11, 18, 15, 59, 59, tzinfo=UTC)


def test_unreachable_needs_three_attempts_within_14_days() -> None:
    item = ask("clinic_task", "tries", trigger="tb_notice")
    item = walk(item, ("assign_team", "public_health_clerk", {"team_id": "T1", "assigned_by_rule": "签约"}))
    way = {"attempt_way": "phone"}
    for days in (0, 20, 25):
        item = walk(item, ("attempt", "family_team", way), at=NOW + timedelta(days=days))
    with pytest.raises(MedlakeError) as told:  # the first one is too old
        walk(item, ("give_up", "family_team", {}), at=NOW + timedelta(days=26))
    assert told.value.code == "E912" and "2" in told.value.en
    item = walk(item, ("attempt", "family_team", way), at=NOW + timedelta(days=27))
    assert walk(item, ("give_up", "family_team", {}), at=NOW + timedelta(days=28)).state == "unreachable"


@pytest.mark.parametrize(("level", "hours"), [("1", 6), ("2", 24), ("3", 72), ("4", 72)])
def test_adverse_events_by_level(level: str, hours: int) -> None:
    item = ask("adverse_event", f"ae{level}", event_level=level, reporting="mandatory")
    assert item.due_at == NOW + timedelta(hours=hours)
    item = walk(
        item,
        ("triage", "safety_officer", {"category_code": "fall"}),
        ("investigate", "department_head", {}),
    )
    if level in ("1", "2"):
        with pytest.raises(MedlakeError, match="E911"):
            walk(item, ("plan_action_directly", "department_head", {"findings": "x"}))
        item = walk(item, ("analyse", "department_head", {"findings": "x"}))
        assert due(item) == timedelta(days=45)
        item = walk(item, ("plan_action", "department_head", {"root_cause": "y"}))
    else:
        item = walk(item, ("plan_action_directly", "department_head", {"findings": "x"}))
    assert item.state == "capa"


def test_a_prescription_is_passed_by_time_only_when_it_warned() -> None:
    """§6: rule engine 2 s, pharmacist 20 s; by time-out only WARN passes, BLOCK never."""
    warn, block, silent = (ask("prescription_review", f"rx{v}", verdict=v) for v in ("warn", "block", ""))
    from worklist import engine, store

    with store.begin() as connection:
        engine.act_as_system(connection, warn, "engine_warn", at=NOW)
        engine.act_as_system(connection, block, "engine_block", at=NOW)
    worklist.fire(NOW + timedelta(seconds=2))
    assert worklist.find(silent.item_id)[0].state == "pharmacist_queue"  # the rules did not answer in 2 s
    worklist.fire(NOW + timedelta(seconds=20))
    worklist.fire(NOW + timedelta(seconds=30))
    states = [worklist.find(i.item_id)[0].state for i in (warn, block, silent)]
    assert states == ["timeout_pass", "blocked", "pharmacist_queue"]
    assert worklist.find(warn.item_id)[0].due_at == NOW + timedelta(seconds=20, hours=24)
    with pytest.raises(MedlakeError, match="E904"):
        walk(worklist.find(block.item_id)[0], ("insist", "prescriber", {}))


def test_quality_tickets_have_working_days() -> None:
    """§8: error 3 workdays, warn 10, info none."""
    ends = {s: ask("quality_ticket", f"qt{s}", severity=s).due_at for s in ("error", "warn", "info")}
    assert ends["error"] == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # Wednesday + 3: Monday 17:30
    assert ends["warn"] == datetime(2026, 12, 2, 9, 30, tzinfo=UTC)
    assert ends["info"] is None


def test_an_identity_of_somebody_in_hospital_is_settled_the_same_day() -> None:
    item = ask("empi_review", "em1", in_hospital=True)
    assert item.due_at == datetime(2026, 11, 18, 15, 59, 59, tzinfo=UTC)
    assert ask("empi_review", "em2").due_at == datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
    item = walk(item, ("assign_review", "empi_steward", {}), ("propose_merge", "empi_steward", {}))
    item = walk(item, ("apply_merge", "empi_steward", {}))  # by another person than the one who proposed
    assert item.state == "applied"
    assert walk(item, ("unmerge", "empi_steward", {})).state == "unmerged"


def test_cold_chain_is_acknowledged_in_ten_minutes() -> None:
    item = ask("cold_chain_alarm", "cc")
    assert item.due_at == NOW + minutes(10)
    item = walk(
        item,
        ("acknowledge", "cold_chain_keeper", {}),
        ("move", "cold_chain_keeper", {"moved_to": "备用冰箱"}),
        ("decide", "vaccine_manager", {"decision_code": "use"}),
        ("close", "vaccine_manager", {}),
    )
    assert item.state == "closed"
