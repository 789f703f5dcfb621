"""Whether a command may be done: role, condition, required fields, evidence, reason, the two-person rule, attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from lake.errors import MedlakeError
from worklist.conditions import holds, is_given, lets, missing
from worklist.machine import SYSTEM, Kind, Transition, roles
from worklist.store import Event, Item


def names(transitions: Sequence[Transition]) -> str:
    return "、".join(f"{t.action}（{t.zh}）" for t in transitions) or "—"


def role_names(codes: Sequence[str]) -> str:
    return "、".join(f"{r}（{roles()[r]['zh']}）" for r in codes)


def person_role(role: str) -> None:
    """A person's role must exist and must not be the engine's own.

    Raises:
        MedlakeError: E915.
    """
    if role == SYSTEM or role not in roles():
        raise MedlakeError("E915", role=role, known="、".join(r for r in roles() if r != SYSTEM))


def possible(kind: Kind, item: Item, action: str, role: str) -> Transition:
    """The transition that a command means.

    Raises:
        MedlakeError: E904, not in this state; E905, not with this role.
    """
    found = kind.find(action, item.state)
    if found is None:
        raise MedlakeError(
            "E904",
            item_id=item.item_id,
            state=kind.states[item.state].zh,
            action=action,
            possible=names(kind.actions(item.state)),
        )
    if role not in found.roles:
        raise MedlakeError("E905", role=role, action=action, allowed=role_names(found.roles))
    return found


def check(
    kind: Kind,
    item: Item,
    rule: Transition,
    *,
    actor: str,
    at: datetime,
    reason: str,
    evidence: Sequence[str],
    data: Mapping[str, Any],
    log: Sequence[Event],
) -> None:
    """Check everything that guards a transition but state and role.

    Required fields may have been given with the item or with an earlier command; a reason and evidence belong to
    this command. ``different_from`` looks at who did each of the named actions last.

    Raises:
        MedlakeError: E906 fields, E907 reason, E908 evidence, E909 same person, E910 owner, E911 condition,
            E912 attempts.
    """
    facts = item.facts | dict(data)
    if not lets(rule.condition, rule.unless, facts):
        others = [t for t in kind.actions(item.state) if t is not rule]
        told = ", ".join([*(rule.condition or {}), *(rule.unless or {})])
        raise MedlakeError("E911", action=rule.action, condition=told, possible=names(others))
    lacking = missing(rule.requires, facts)
    for condition, wanted in rule.requires_when:
        if holds(condition, facts):
            lacking += missing(wanted, facts)
    if rule.requires_any and len(missing(rule.requires_any, facts)) == len(rule.requires_any):
        lacking.append(" | ".join(rule.requires_any))
    if lacking:
        raise MedlakeError("E906", action=rule.action, fields=", ".join(lacking))
    if rule.needs_reason and not is_given(reason):
        raise MedlakeError("E907", action=rule.action)
    if rule.evidence and not [e for e in evidence if is_given(e)]:
        raise MedlakeError("E908", action=rule.action)
    for earlier in rule.different_from:
        last = next((e for e in reversed(log) if e.action == earlier), None)
        if last is not None and last.actor == actor:
            raise MedlakeError("E909", action=rule.action, earlier=earlier)
    if rule.not_owner and actor in (item.owner_id, item.assignee):
        raise MedlakeError("E910", action=rule.action)
    barred = item.payload.get(rule.not_among) if rule.not_among else None
    if isinstance(barred, list) and actor in barred:
        raise MedlakeError("E910", action=rule.action)
    if rule.attempts:
        since = at - timedelta(days=rule.attempts["within_days"])
        done = sum(e.action == rule.attempts["action"] and e.at >= since for e in log)
        if done < rule.attempts["times"]:
            raise MedlakeError(
                "E912",
                action=rule.action,
                earlier=rule.attempts["action"],
                times=rule.attempts["times"],
                within_days=rule.attempts["within_days"],
                done=done,
            )
