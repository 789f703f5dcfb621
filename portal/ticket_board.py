"""Quality tickets as people see them: a board by state, one ticket, what this person may do with it, statistics.

Rows follow the institution tree; a ticket tells counts, places and staff numbers, nothing of a resident. Instants are
UTC, clocks count to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select

import worklist
from lake import access, registry
from lake.errors import MedlakeError
from portal import tickets
from portal import work as my_work
from portal.accounts import Person
from quality.tickets import KIND, counting, reasons
from worklist import store
from worklist.machine import kind
from worklist.store import Event, Item
from worklist.tables import item as table

#: Cards that a column shows at once; the head says how many there are.
LANE_CARDS = 40
#: Places of findings that a ticket's page lists; all are in the findings room.
PLACES = 20

#: Step of the page -> action of the ticket's state machine.
STEPS = {
    "assign": "assign_doctor",
    "fix": "fix",
    "waive": "ask_waiver",
    "approve": "waive",
    "refuse": "refuse_waiver",
    "reopen": "reopen",
}
FILTERS = ("org", "rule", "domain", "late", "mine")


@dataclass(frozen=True)
class Lane:
    """A column of the board. ``by``: the step that brings a ticket here, if a person can do that."""

    code: str
    zh: str
    states: tuple[str, ...]
    by: str = ""


LANES = (
    Lane("todo", "待办", ("open",), "reopen"),
    Lane("doing", "处理中", ("assigned",), "assign"),
    Lane("fixed", "已修复待验证", ("fixed", "recheck"), "fix"),
    Lane("waived", "豁免中", ("waiver_asked", "waived"), "waive"),
    Lane("closed", "已关闭", ("auto_closed",)),
)


@dataclass(frozen=True)
class Card:
    """A ticket on the board. ``minutes`` until its deadline, None without a clock; ``steps``: what this person may do;
    ``moves``: lane -> step that brings it there."""

    item: Item
    title_zh: str
    rule_id: str
    org_name: str
    state_zh: str
    findings: int
    minutes: int | None
    is_mine: bool
    steps: Mapping[str, str]
    moves: Mapping[str, str]


def org_names() -> dict[str, str]:
    orgs = registry.orgs()
    return dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))


def steps(person: Person, item: Item) -> dict[str, str]:
    """Step -> the worklist's role in which the person does it, by state and duties; guards have the last word."""
    mine, found = my_work.duties(person.role), {}
    for transition in kind(KIND).actions(item.state):
        step = next((s for s, action in STEPS.items() if action == transition.action), None)
        role = next((r for r in mine if r in transition.roles), None)
        if step and role:
            found[step] = role
    leads = next((r for r in mine if r in (tickets.STEWARD, tickets.LEAD)), None)
    if leads and item.state == "assigned":
        found["assign"] = leads
    return found


def _card(item: Item, person: Person, now: datetime, names: Mapping[str, str]) -> Card:
    due = item.due_at if item.due_at is None or item.due_at.tzinfo else item.due_at.replace(tzinfo=UTC)
    minutes = None if due is None or not item.is_open else int((due - now).total_seconds() // 60)
    able = steps(person, item)
    here = next((lane.code for lane in LANES if item.state in lane.states), "")
    rule_id = str(item.payload.get("rule_id", ""))
    return Card(
        item=item,
        title_zh=str(item.payload.get("title_zh") or rule_id or item.item_id[:9]),
        rule_id=rule_id,
        org_name=names.get(item.org_code, item.org_code),
        state_zh=kind(KIND).states[item.state].zh,
        findings=int(item.payload.get("findings") or 0),
        minutes=minutes,
        is_mine=person.user in (item.assignee, item.owner_id),
        steps=able,
        moves={lane.code: lane.by for lane in LANES if lane.by in able and lane.code != here},
    )


def _terms(person: Person, chosen: Mapping[str, str], now: datetime) -> list[ColumnElement[bool]]:
    c = table.c
    terms: list[ColumnElement[bool]] = [c.kind == KIND]
    within = access.scope(my_work.caller(person))
    if within is not None:
        terms.append(c.org_code.in_(sorted(within)))
    if chosen.get("org"):
        terms.append(c.org_code == chosen["org"])
    if chosen.get("rule"):
        terms.append(c.subject == f"quality/rule/{chosen['rule']}")
    if chosen.get("domain"):
        terms.append(c.subject.startswith(f"quality/rule/{chosen['domain']}-", autoescape=True))
    if chosen.get("late"):
        terms += [c.is_open.is_(True), c.due_at < now]
    if chosen.get("mine"):
        terms.append((c.assignee == person.user) | (c.owner_id == person.user))
    return terms


def board(
    person: Person, chosen: Mapping[str, str], *, limit: int = LANE_CARDS, at: datetime | None = None
) -> dict[str, Any]:
    """``lanes``: (lane, how many there are, the first ``limit`` cards, due first); ``late``: open past their clock."""
    now, names, c = at or datetime.now(UTC), org_names(), table.c
    terms = _terms(person, chosen, now)
    order = (c.due_at.is_(None), c.due_at, c.created_at.desc(), c.item_id)
    lanes = []
    with store.begin() as connection:
        counted = select(c.state, func.count().label("n")).where(*terms).group_by(c.state)
        counts = {str(row.state): int(row.n) for row in connection.execute(counted)}
        late = select(func.count()).select_from(table).where(*terms, c.is_open.is_(True), c.due_at < now)
        overdue = int(connection.execute(late).scalar() or 0)
        for lane in LANES:  # five queries
            found = select(table).where(*terms, c.state.in_(lane.states)).order_by(*order).limit(limit)
            rows = [store.item_of(row) for row in connection.execute(found)]
            total = sum(counts.get(state, 0) for state in lane.states)
            lanes.append((lane, total, [_card(i, person, now, names) for i in rows]))
    return {"lanes": lanes, "late": overdue, "total": sum(counts.values())}


def find(person: Person, item_id: str) -> Item:
    """A ticket of an institution in reach.

    Raises:
        MedlakeError: E903, there is none; the same for one out of reach or of another kind.
    """
    item, _ = worklist.find(item_id)
    within = access.scope(my_work.caller(person))
    if item.kind != KIND or (within is not None and item.org_code not in within):
        raise MedlakeError("E903", item_id=item_id)
    return item


#: Entries of the log that are no step of the state machine.
_SAID = {"create": "建立", "take": "领取", "assign": "分派给", "remind": "提醒", "escalate": "逾期升级"}


def _told(event: Event) -> dict[str, Any]:
    rule = kind(KIND)
    zh = next(
        (t.zh for t in rule.transitions if t.action == event.action), _SAID.get(event.action, event.action)
    )
    code = event.data.get("reason_code")
    known = reasons() if code else {}
    return {
        "at": event.at,
        "zh": zh,
        "to": event.data.get("assignee", ""),
        "state_zh": rule.states[event.to_state].zh if event.to_state in rule.states else event.to_state,
        "actor": "系统" if event.role == "system" else event.actor,
        "reason": event.reason or "",
        "code_zh": known[code].zh if code in known else "",
        "until": event.data.get("expires_on", ""),
    }


def own_word(person: Person, item: Item, log: list[Event]) -> bool:
    """Whether a decision on the waiver would be this person's own: who asked, who answers for it, whose records."""
    asked = next((e.actor for e in reversed(log) if e.action == "ask_waiver"), None)
    barred = item.payload.get("doctor_ids")
    return person.user in (asked, item.owner_id, item.assignee, *(barred if isinstance(barred, list) else ()))


def shown(person: Person, item_id: str, at: datetime | None = None) -> dict[str, Any]:
    """One ticket: ``card``, ``log``, ``places`` of its findings as of the newest check, ``doctors`` of its records.

    Raises:
        MedlakeError: E903.
    """
    item = find(person, item_id)
    log = worklist.log_of(item.item_id)
    newest = counting.newest()
    rule_id = str(item.payload.get("rule_id", ""))
    places = counting.places(newest, rule_id, item.org_code, PLACES) if newest and rule_id else []
    doctors = item.payload.get("doctor_ids")
    return {
        "card": _card(item, person, at or datetime.now(UTC), org_names()),
        "log": [_told(e) for e in log if e.action != "recount"],
        "places": [{k: v for k, v in p.items() if k != "record_key"} for p in places],
        "doctors": doctors if isinstance(doctors, list) else [],
        "is_own_word": own_word(person, item, log),
        "checked_on": newest.data_date if newest else None,
    }


def stats(person: Person) -> dict[str, Any]:
    """Statistics of the institutions in reach, the most open first, with the institutions' names."""
    made = tickets.stats(access.scope(my_work.caller(person)))
    names, states = org_names(), kind(KIND).states
    for row in made["institutions"]:
        row["zh"] = names.get(row["value"], row["value"])
    for row in made["states"]:
        row["zh"] = states[row["value"]].zh if row["value"] in states else row["value"]
    return {name: sorted(rows, key=lambda r: (-r["open"], -r["items"])) for name, rows in made.items()}
