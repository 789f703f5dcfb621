"""A ticket's life: asked once, counted, fixed, sent back, closed by the check, reopened, waived by a second person."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import worklist
from lake import runs, tables, work
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from portal import tickets as doors
from quality import tickets
from quality.tickets import history, waiving
from tests.tickets_world import checked, finding
from worklist.store import Item

DAY = date(2026, 11, 18)


def at(day: date, hour: int = 10) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=SHANGHAI).astimezone(UTC)


def after(days: int) -> date:
    return DAY + timedelta(days=days)


def asked(day: date, *found: dict[str, Any]) -> dict[str, Any]:
    """A check, its tickets, and the worklist's turn."""
    checked(day, found)
    told = tickets.ask(day)
    worklist.take_requests(at(day, 12))
    return told


def one() -> Item:
    (item,) = worklist.items(kind="quality_ticket", is_open=None)
    return item


def steps() -> list[str]:
    return [e.action for e in worklist.log_of(one().item_id)]


def test_one_ticket_a_rule_and_institution_with_counts_and_ids(lake_home: Path) -> None:
    told = asked(
        DAY,
        finding("V1"), finding("V2", doctor_id="D2"), finding("V3", org_code="C202"),
        finding("A1", rule_id="ARC-002", severity="warn"), finding("V9", state="closed"),
        finding("V8", rule_id="ARC-002", org_code="C203", state="observing"),
    )  # fmt: skip
    assert (told["pairs"], told["asked"]) == (3, 3)
    rows = {(r["rule_id"], r["org_code"]): r for r in doors.listed()}
    assert {k: (r["findings"], r["severity"]) for k, r in rows.items()} == {
        ("HTN-022", "C201"): (2, "error"),
        ("HTN-022", "C202"): (1, "error"),
        ("ARC-002", "C201"): (1, "warn"),
    }
    (item,) = [i for i in worklist.items(kind="quality_ticket") if i.payload["findings"] == 2]
    assert item.payload["finding_ids"] == ["f-HTN-022-V1", "f-HTN-022-V2"]
    assert item.payload["doctor_ids"] == ["D1", "D2"]


def test_asking_again_asks_nothing(lake_home: Path) -> None:
    asked(DAY, finding("V1"))
    before = steps()
    again = tickets.ask(DAY)
    worklist.take_requests(at(DAY, 13))
    assert (again["asked"], again["recounted"], again["closed"]) == (0, 0, 0)
    assert steps() == before == ["create"]
    checked(
        DAY, [finding("V1")]
    )  # the same check run again writes another version and says nothing new either
    assert tickets.ask(DAY)["recounted"] == 0


def test_counts_follow_and_take_the_ticket_from_nobody(lake_home: Path) -> None:
    asked(DAY, finding("V1"))
    doors.assign(one().item_id, "D7", by="steward")
    assert asked(after(1), finding("V1"), finding("V2"))["recounted"] == 1
    item = one()
    assert (item.payload["findings"], item.state, item.assignee) == (2, "assigned", "D7")


def test_an_escalated_ticket_stays_with_the_lead_when_counts_change(lake_home: Path) -> None:
    asked(DAY, finding("V1", severity="warn"))
    worklist.fire(datetime.now(UTC) + timedelta(days=30))
    assert one().owner_role == "org_qc_lead"
    asked(after(1), finding("V1", severity="warn"), finding("V2", severity="warn"))
    assert (one().owner_role, one().payload["findings"]) == ("org_qc_lead", 2)


def test_closed_by_the_check_and_reopened_on_recurrence(lake_home: Path) -> None:
    asked(DAY, finding("V1"))
    assert asked(after(1))["closed"] == 1
    assert (one().state, one().is_open) == ("auto_closed", False)
    assert asked(after(2))["closed"] == 0
    told = asked(after(3), finding("V4"))
    assert (told["reopened"], told["asked"]) == (1, 0)
    item = one()
    assert (item.state, item.reopened, item.payload["finding_ids"]) == ("open", 1, ["f-HTN-022-V4"])
    ticket = tickets.tickets()[item.request_key]
    assert (ticket.state, ticket.reopened) == (item.state, item.reopened)


def test_said_fixed_is_rechecked_by_a_later_date_only(lake_home: Path) -> None:
    asked(DAY, finding("V1"))
    worklist.act(
        one().item_id, "fix", actor="D1", role="responsible_doctor", data={"reason_code": "entry_error"},
        at=at(after(1)),
    )  # fmt: skip
    assert asked(after(1), finding("V1"))["returned"] == 0, "that day's extract may be older than the repair"
    assert one().state == "fixed"
    assert asked(after(2), finding("V1"))["returned"] == 1
    assert one().state == "assigned"


def test_a_check_of_an_older_date_says_nothing(lake_home: Path) -> None:
    asked(after(3), finding("V1"))
    told = asked(DAY)
    assert told["superseded"] is True
    assert one().state == "open"


def waived(reason: str = "true_exception", **more: Any) -> Item:
    asked(DAY, finding("V1"))
    item = one()
    doors.ask_waiver(item.item_id, reason, by="D3", reason="核实属实", at=at(DAY, 14), **more)
    doors.decide(item.item_id, by="lead", reason="同意", agree=True, at=at(DAY, 15))
    return one()


def test_a_waiver_holds_until_its_day_and_then_the_ticket_is_back(lake_home: Path) -> None:
    assert waived().state == "waived"
    (held,) = tickets.waivers(DAY)
    assert (held.rule_id, held.org_code, held.asked_by, held.approved_by) == ("HTN-022", "C201", "D3", "lead")
    last = DAY + timedelta(days=tickets.parameters(DAY).waiver_days)
    assert (held.valid_from, held.expires_on) == (DAY, last)
    assert (tickets.waivers(last), tickets.waivers(last + timedelta(days=1))) == ([held], [])
    assert tickets.waivers(DAY - timedelta(days=1)) == []
    told = asked(last, finding("V1", state="waived"))
    assert (told["waived"], told["reopened"], one().state) == (1, 0, "waived")
    told = asked(last + timedelta(days=1), finding("V1"))
    assert (told["waived"], told["reopened"], one().state, one().reopened) == (0, 1, "open", 1)
    (kept,) = waiving.every()
    assert kept.ended_on == last + timedelta(days=1)
    assert tickets.waivers(last) == [kept], "what held then holds when that date is checked again"


def test_waivers_are_a_table_for_reports_and_sql_for_the_check(lake_home: Path) -> None:
    import duckdb

    waived()
    asked(after(1), finding("V1", state="waived"))
    at_version = runs.get_run(after(1)).versions["quality/waiver"]
    with duckdb.connect() as connection:
        kept = connection.execute(f"SELECT * FROM {tables.scan_sql('quality/waiver', at_version)}").fetchall()
        sql = f"SELECT rule_id, org_code FROM {tickets.waiver_sql(after(1))}"
        assert connection.execute(sql).fetchall() == [("HTN-022", "C201")]
        assert connection.execute(f"FROM {tickets.waiver_sql(date(2020, 1, 1))}").fetchall() == []
    assert len(kept) == 1


def test_taken_back_a_waiver_ends(lake_home: Path) -> None:
    item = waived()
    worklist.act(item.item_id, "reopen", actor="lead", role="org_qc_lead", reason="不再属实", at=at(after(4)))
    assert len(tickets.waivers(after(3))) == 1
    assert tickets.waivers(after(4)) == []


def test_nobody_waives_what_is_their_own(lake_home: Path) -> None:
    asked(DAY, finding("V1", doctor_id="D9"))
    item = one()
    doors.assign(item.item_id, "D5", by="steward")
    doors.ask_waiver(item.item_id, "source_limit", by="D3", reason="源系统不能改")
    for actor, code in (
        ("D3", "E909"),
        ("D5", "E910"),
        ("D9", "E910"),
    ):  # asked; answers for it; their records
        with pytest.raises(MedlakeError, match=code):
            doors.decide(item.item_id, by=actor, reason="同意", agree=True)
    assert doors.decide(item.item_id, by="lead", reason="同意", agree=True)["state"] == "waived"


def test_whose_records_they_are_follows_each_check(lake_home: Path) -> None:
    asked(DAY, finding("V1", doctor_id="D8"))
    assert asked(after(1), finding("V2", doctor_id="D9"))["recounted"] == 1, "as many, but another doctor's"
    assert one().payload["doctor_ids"] == ["D9"]


def test_no_waiver_is_longer_than_the_limit(lake_home: Path) -> None:
    with pytest.raises(MedlakeError, match="E421"):
        waived(expires_on=DAY + timedelta(days=181))
    with pytest.raises(MedlakeError, match="E421"):
        tickets.expiry(DAY, DAY)
    item = one()  # whoever goes round that door still gets no more than the limit
    given = {"reason_code": "other", "expires_on": "2036-01-01"}
    worklist.act(
        item.item_id, "ask_waiver", actor="D3", role="data_steward", reason="永久", data=given, at=at(DAY)
    )
    doors.decide(item.item_id, by="lead", reason="同意", agree=True, at=at(DAY, 16))
    (held,) = tickets.waivers(DAY)
    assert held.expires_on == DAY + timedelta(days=180)


@pytest.mark.parametrize(
    ("code", "step"), [("typo", "fix"), ("true_exception", "fix"), ("entry_error", "waive"), ("", "fix")]
)
def test_a_reason_is_of_the_taxonomy_and_of_the_step(code: str, step: str) -> None:
    with pytest.raises(MedlakeError, match="E420"):
        tickets.check_reason(code, step)


def test_every_step_has_reasons_in_both_languages() -> None:
    for step in ("fix", "waive"):
        assert len([r for r in tickets.reasons().values() if step in r.steps]) >= 3
    assert all(r.zh and r.en for r in tickets.reasons().values())


def test_the_same_rule_in_three_months_is_a_training_task(lake_home: Path) -> None:
    months = [date(2026, 9, 30), date(2026, 10, 2), DAY]
    told = asked(DAY, *(finding(f"V{n}", first_seen_on=d) for n, d in enumerate(months)),
                 finding("W1", org_code="C202", first_seen_on=months[0]))  # fmt: skip
    assert told["training"] == 1
    (item,) = worklist.items(kind="quality_training")
    assert (item.org_code, item.payload["rule_id"], item.payload["months"]) == ("C201", "HTN-022", 3)
    assert tickets.ask(DAY)["training"] == 0


def test_statistics_by_reason_and_institution(lake_home: Path) -> None:
    asked(DAY, finding("V1"), finding("V2", org_code="C202"))
    for item in worklist.items(kind="quality_ticket", org_codes=["C201"]):
        doors.fix(item.item_id, "entry_error", by="D1")
    asked(after(10), finding("V2", org_code="C202"))
    found = doors.stats()
    by_reason = {r["value"]: r for r in found["reasons"]}
    assert (by_reason["entry_error"]["items"], by_reason["entry_error"]["done"]) == (1, 1)
    assert by_reason["entry_error"]["zh"] == "录入错误"
    assert by_reason[None]["open"] == 1
    by_org = {r["value"]: r for r in found["institutions"]}
    assert by_org["C202"]["mean_hours"] is None
    assert set(by_org) == {"C201", "C202"}
    assert doors.stats("C202")["rules"][0]["items"] == 1


def test_a_city_rule_without_institution_goes_to_the_lead_hospital(lake_home: Path) -> None:
    asked(DAY, finding("B1", org_code=None))
    assert one().org_code == "H001"
    assert [f["record_key"] for f in doors.shown(one().item_id)["findings"]] == ["B1"]


def test_what_a_check_says_is_what_the_worklist_lets_it_do() -> None:
    """The two rooms share no code: what one assumes of the other's states is held here."""
    rule = worklist.kinds()["quality_ticket"]
    assert set(rule.states) == history.OPEN | history.CLOSED
    assert {s for s, v in rule.states.items() if v.terminal} == history.CLOSED
    for action, (sources, target) in history.BY_CHECK.items():
        done = {
            s: t.target
            for t in rule.transitions
            if t.action == action and "system" in t.roles
            for s in t.sources
        }
        assert done == {s: target or s for s in sources}, action


def test_nothing_of_a_resident_is_in_a_request(lake_home: Path) -> None:
    asked(DAY, finding("V1", empi_id="E-secret", observed='{"id_no": "42970119"}', message_zh="张三"))
    shown = (
        str(one().payload)
        + str(doors.shown(one().item_id))
        + str(work.asked("quality_ticket", [one().subject]))
    )
    assert not any(word in shown for word in ("E-secret", "42970119", "张三"))


def test_an_unchecked_date_says_so_and_stops_nothing(lake_home: Path) -> None:
    runs.open_run(DAY)
    with pytest.raises(MedlakeError, match="E423"):
        tickets.ask(DAY)
    assert tickets.ask_after_check(DAY)["error"] == "E423"


def test_an_item_of_another_kind_is_no_ticket(lake_home: Path) -> None:
    item = worklist.create(
        "data_request", org_code="C201", subject="x", actor="a", role="researcher", request_key="k1"
    )
    with pytest.raises(MedlakeError, match="E422"):
        doors.find(item.item_id)
