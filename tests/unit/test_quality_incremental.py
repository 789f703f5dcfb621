"""Which set queries fall apart by person, and which rules a day leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from quality.incremental import apart, plan, signature
from quality.rule import Query, RuleBook, rulebook

DAY = date(2026, 11, 20)

APART = {
    "a join by archive": "select v.rid, max(c.ended_on) from htn_visit v "
    "join htn_card c on c.archive_id = v.archive_id group by v.rid",
    "a window by archive": "select rid, lag(visited_on) over (partition by archive_id order by visited_on) from htn_visit",
    "a group joined back": "with n as (select person_key, count(*) as n from htn_visit group by person_key) "
    "select v.rid, n.n from htn_visit v left join n using (person_key)",
    "a subquery of the same archive": "select v.rid from htn_visit v where exists "
    "(select 1 from htn_card c where c.archive_id = v.archive_id)",
    "a code list": "select v.rid, o.org_name from htn_visit v left join dim_org o on o.org_code = v.org_code",
    "index ids that a join holds together": "with n as (select distinct empi_id from htn_card) "
    "select v.rid, n.empi_id is not null from htn_visit v left join n on n.empi_id = v.empi_id",
}
MIXED = {
    "a join by another column": "select v.rid from htn_visit v join htn_visit w on w.doctor_id = v.doctor_id",
    "a join by one of two": "select v.rid from htn_visit v "
    "join htn_card c on c.archive_id = v.archive_id or c.card_id = v.visit_id",
    "an archive held against a person": "select v.rid from htn_visit v join htn_card c on c.archive_id = v.person_key",
    "all records of the city": "select v.rid, n.n from htn_visit v cross join (select count(*) as n from htn_visit) n",
    "a window over all": "select rid, row_number() over (order by visited_on) from htn_visit",
    "those without an index id in one window": "select rid, count(*) over (partition by empi_id) from htn_visit",
    "groups of nobody after a left join": "with x as (select c.archive_id, v.rid from htn_visit v left join htn_card c "
    "on c.archive_id = v.archive_id) select rid, count(*) over (partition by archive_id) from x",
    "whether a table has rows": "select rid, exists (select 1 from htn_card) from htn_visit",
    "the first of all": "select rid from htn_visit order by visited_on limit 1",
    "a table of no person": "select v.rid from htn_visit v join staff s on s.staff_id = v.doctor_id",
    "no record": "select archive_id, count(*) from htn_visit group by archive_id",
    "another person's column": "select v.rid from htn_visit v where exists "
    "(select 1 from child_card c where c.mother_archive_id = v.archive_id)",
    "records of others by set": "select rid from htn_visit where archive_id in (select archive_id from htn_card)",
    "a text that does not parse": "select from where",
}  # fmt: skip


def query(sql: str) -> Query:
    return Query("q", "htn_visit", ("htn_visit", "htn_card", "staff"), "person", {}, sql)


@pytest.mark.parametrize("sql", APART.values(), ids=APART.keys())
def test_what_holds_a_person_together_falls_apart(sql: str) -> None:
    assert apart.by_person(query(sql))


@pytest.mark.parametrize("sql", MIXED.values(), ids=MIXED.keys())
def test_what_is_not_understood_or_mixes_people_does_not(sql: str) -> None:
    assert not apart.by_person(query(sql))


def test_staff_that_did_not_change_are_the_same_for_everybody() -> None:
    sql = MIXED["a table of no person"]
    assert apart.by_person(query(sql), frozenset({"staff"}))


def book(*rule_ids: str) -> RuleBook:
    return rulebook().only(*rule_ids)


def signatures(of: RuleBook, day: date = DAY) -> dict[tuple[str, str], str]:
    return signature.signatures(of, day, set(of.reads))


def changed_rules(one: dict[tuple[str, str], str], other: dict[tuple[str, str], str]) -> set[str]:
    return {rule for rule, table in one if one[rule, table] != other[rule, table]}


def test_a_signature_changes_with_the_date_only_where_the_rule_looks_at_it() -> None:
    of = book("HTN-009", "HTN-006", "HTN-004")
    assert changed_rules(signatures(of), signatures(of, date(2026, 11, 21))) == {"HTN-006"}


def test_a_signature_changes_with_a_parameter_of_the_rule_and_of_one_that_it_needs() -> None:
    of = book("HTN-004")
    first = next(r for r in of.rules if r.id == "EXM-003")
    param = next(iter(first.params.values()))
    other = replace(param, steps=tuple((since, value + 1) for since, value in param.steps))
    rules = [replace(r, params={**r.params, param.name: other}) if r is first else r for r in of.rules]
    changed = changed_rules(signatures(of), signatures(RuleBook(tuple(rules), of.queries)))
    assert {"EXM-003", "HTN-004"} <= changed


def test_a_rule_that_leaves_observation_is_judged_again() -> None:
    of = book("HTN-029")
    ends = max(r.introduced_on for r in of.rules)
    assert changed_rules(signatures(of, ends), signatures(of, date(2027, 6, 1)))


def sorted_book(
    of: RuleBook, counts: dict[str, int | None], before: dict[tuple[str, str], str] | None = None
) -> plan.Plan:
    now = signatures(of)
    return plan.plan(
        of, now if before is None else before, now, lambda t: counts.get(t, 0), bool(counts.get("ph_archive"))
    )


def test_the_book_is_sorted_by_what_a_day_can_change() -> None:
    of = book("HTN-004", "HTN-022", "ARC-014")
    quiet = sorted_book(of, {})
    assert {r for r, _ in quiet.still} >= {"HTN-022", "ARC-014"}
    day = sorted_book(of, {"htn_visit": 3, "ph_archive": 1})
    assert ("HTN-004", "htn_visit") in day.narrow - day.by_person
    assert ("HTN-022", "htn_visit") in day.by_person
    assert ("ARC-014", "ph_archive") in day.full
    unclear = sorted_book(of, {"htn_visit": None})
    assert ("HTN-004", "htn_visit") in unclear.full
    assert not sorted_book(of, {}, before={}).still
