"""What waits for a person: items of the worklist that their role may see or move, and what each step asks for.

A role of the portal does several of the worklist's roles (``work.yaml``); rows follow the institution tree, and what an
item tells follows the policy of ``lake.access`` at the item's own level. Instants are UTC, clocks count to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

import worklist
from lake import access, audit
from lake.access import Caller
from lake.errors import MedlakeError
from portal.accounts import Person
from worklist.machine import Kind, Transition, kind, roles
from worklist.store import Item

#: Items of a list that are drawn at once; more are counted, never silently left out.
LIST_ROWS = 200


@lru_cache(maxsize=1)
def _settings() -> dict[str, Any]:
    return dict(yaml.safe_load(Path(__file__).with_name("work.yaml").read_text("utf-8")))


def duties(role: str) -> tuple[str, ...]:
    """The worklist's roles that a role of the portal does."""
    return tuple(_settings()["roles"].get(role, {}).get("as", ()))


def label(name: str) -> str:
    """What a field of a step is called."""
    return str(_settings()["fields"].get(name, name))


def is_urgent(item: Item) -> bool:
    return item.kind in _settings()["urgent"]


def caller(person: Person) -> Caller:
    """The person with the purpose that this work has."""
    purpose = _settings()["roles"].get(person.role, {}).get("purpose", "")
    return Caller(person.user, person.role, person.org_code, purpose)


@dataclass(frozen=True)
class Step:
    """Something that this person can do now. ``fields``: (name, label, is required, the values to choose from)."""

    action: str
    zh: str
    role: str
    needs_reason: bool
    fields: tuple[tuple[str, str, bool, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Line:
    """An item in a list. ``minutes``: until its deadline, negative once it is over; None without a clock."""

    item: Item
    kind_zh: str
    about: str  # in words, where the item has any that are not about a resident
    state_zh: str
    owner_zh: str
    minutes: int | None
    is_urgent: bool
    is_mine: bool


def _line(item: Item, person: Person, now: datetime) -> Line:
    rule = kind(item.kind)
    due = item.due_at
    if due is not None and due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    minutes = None if due is None else int((due - now).total_seconds() // 60)
    owner = roles().get(item.owner_role, {}).get("zh", item.owner_role)
    mine = item.assignee == person.user
    about = str(item.payload.get("title_zh", ""))
    return Line(item, rule.zh, about, rule.states[item.state].zh, owner, minutes, is_urgent(item), mine)


def _allowed(rule: Kind, state: str, mine: tuple[str, ...]) -> list[tuple[Transition, str]]:
    """Transitions out of a state that one of the roles may do, each with the first such role."""
    found = []
    for step in rule.actions(state):
        able = [r for r in mine if r in step.roles]
        if able:
            found.append((step, able[0]))
    return found


def sees(item: Item, person: Person, took_part: bool = False) -> bool:
    """Whether the person's work has to do with an item of an institution in reach, or they did a step of it: who closes
    an item sees that it is closed."""
    within = access.scope(caller(person))
    if within is not None and item.org_code not in within:
        return False
    mine = duties(person.role)
    if took_part and mine:
        return True
    return bool(mine) and (item.owner_role in mine or bool(_allowed(kind(item.kind), item.state, mine)))


def _reach(person: Person) -> dict[str, Any]:
    return {"org_codes": access.scope(caller(person)), "role": duties(person.role)}


def mine(
    person: Person,
    *,
    kind_name: str | tuple[str, ...] = "",
    limit: int = LIST_ROWS,
    at: datetime | None = None,
) -> list[Line]:
    """Open items that wait for the person's roles in their institutions, soonest due first."""
    now = at or datetime.now(UTC)
    found = worklist.items(kind=kind_name, limit=limit, **_reach(person))
    return [_line(item, person, now) for item in found]


def waiting(person: Person) -> dict[str, int]:
    """Kind -> open items of the person's roles in their institutions."""
    return worklist.counts(**_reach(person))


def find(person: Person, item_id: str) -> Item:
    """An item that the person may see.

    Raises:
        MedlakeError: E903, there is none; the same for one of another institution or another's work.
    """
    item, log = worklist.find(item_id)
    if not sees(item, person, any(e.actor == person.user for e in log)):
        raise MedlakeError("E903", item_id=item_id)
    return item


def _values(person: Person, item: Item) -> dict[str, str]:
    """What an item tells the person: label -> value, masked or left out as the policy says."""
    level = max(kind(item.kind).level, int(item.payload.get("level", 0) or 0))
    names = [n for n in item.payload if n != "level"]
    acts = access.columns(caller(person), "work_item", names, levels=dict.fromkeys(names, level))
    shown = {n: "***" if acts[n] == "mask" else str(item.payload[n]) for n in names if acts[n] != "hide"}
    return {label(n): v for n, v in sorted(shown.items()) if v not in ("", "None")}


def steps(person: Person, item: Item) -> list[Step]:
    """What the person can do with an item as it stands."""
    made = []
    for step, role in _allowed(kind(item.kind), item.state, duties(person.role)):
        choices = {
            name: tuple(str(v) for v in values) if isinstance(values, list) else (str(values),)
            for name, values in (step.condition or {}).items()
            if name in step.requires
        }
        fields = [(n, label(n), True, choices.get(n, ())) for n in step.requires]
        fields += [(n, label(n), False, ()) for n in step.requires_any if n not in step.requires]
        made.append(Step(step.action, step.zh, role, step.needs_reason, tuple(fields)))
    return made


def shown(person: Person, item_id: str, source_ip: str, at: datetime | None = None) -> dict[str, Any]:
    """An item with its values, log and steps; told to the audit where it tells of a resident.

    Raises:
        MedlakeError: E903.
    """
    item = find(person, item_id)
    values = _values(person, item)
    rule = kind(item.kind)
    if rule.level >= 3:
        audit.record(
            "work.show",
            actor=person.user,
            purpose=caller(person).purpose,
            tables=["work_item"],
            fields=sorted(n for n in item.payload if n != "level"),
            rows=1,
            result="ok",
            actor_role=person.role,
            org_code=person.org_code,
            source_ip=source_ip,
        )
    log = [e for e in worklist.log_of(item.item_id) if e.action != "recount"]
    return {
        "line": _line(item, person, at or datetime.now(UTC)),
        "values": values,
        "steps": steps(person, item),
        "log": [
            {
                "at": e.at,
                "zh": _said(rule, e.action),
                "state_zh": rule.states[e.to_state].zh if e.to_state in rule.states else e.to_state,
                "actor": e.actor,
                "reason": e.reason,
            }
            for e in log
        ],
    }


_SAID = {"create": "建立", "take": "领取", "assign": "分派", "remind": "提醒", "escalate": "升级"}


def _said(rule: Kind, action: str) -> str:
    return next((t.zh for t in rule.transitions if t.action == action), _SAID.get(action, action))


def do(person: Person, item_id: str, action: str, given: dict[str, str], key: str, version: int) -> Item:
    """Do a step as the person. ``given``: the form's fields; ``key``: the form's own, so that twice is once.

    Raises:
        MedlakeError: E903 no such item; E905 not this person's step; E904 to E914 what a guard refuses.
    """
    item = find(person, item_id)
    chosen = next((s for s in steps(person, item) if s.action == action), None)
    if chosen is None:
        raise MedlakeError("E905", role=person.role, action=action, allowed="—")
    data = {n: given[n].strip() for n, *_ in chosen.fields if given.get(n, "").strip()}
    return worklist.act(
        item.item_id,
        action,
        actor=person.user,
        role=chosen.role,
        reason=given.get("reason", "").strip(),
        data=data,
        command_key=f"portal|{key}",
        expected_version=version,
    )


def take(person: Person, item_id: str, key: str) -> Item:
    """Take an item upon oneself.

    Raises:
        MedlakeError: E903, E905, E913, E918.
    """
    item = find(person, item_id)
    able = {item.owner_role, *(s.role for s in steps(person, item))}
    role = next((r for r in duties(person.role) if r in able), "")
    if not role:
        raise MedlakeError("E905", role=person.role, action="take", allowed="—")
    return worklist.assign(
        item.item_id, person.user, actor=person.user, role=role, command_key=f"portal|{key}"
    )


def calls(person: Person) -> list[Line]:
    """Urgent items that nobody has taken yet: they pop up until somebody does."""
    urgent = mine(person, kind_name=tuple(_settings()["urgent"]))
    return [line for line in urgent if line.item.assignee is None]
