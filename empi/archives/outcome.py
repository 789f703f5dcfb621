"""What became of each case: a proposed move, with an item at the institution that gives and one at that which takes.

A case is known by the archive that is given up and the institution that takes; when evidence names another one it is
another case. Its two requests are ``archive_move|<case>|from`` and ``...|to``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from lake import ops, work

KIND = "archive_move"
#: Who asks: cases that institutions opened by themselves are none of ours.
ORIGIN = "empi.archives"
FROM, TO = "from", "to"
#: States of an item in which nobody has anything to do (worklist/kinds/archive_move.yaml).
CLOSED = {"moved", "refused", "withdrawn"}
#: Where the engine's own steps lead, and from which states.
_BY_ENGINE = {
    "finish": ("moved", {"asked", "agreed"}),
    "withdraw": ("withdrawn", {"asked", "agreed", "released"}),
    "ask_again": ("asked", {"withdrawn"}),
}


@dataclass(frozen=True)
class Item:
    """One request as it stands; ``settled`` counts the settlements asked for it so far. Instants are UTC."""

    request_key: str
    org_code: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    state: str
    settled: int
    answers: tuple[work.Answer, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.state not in CLOSED


@dataclass(frozen=True)
class Case:
    """Both items of a case; an institution that gives to itself has the first alone."""

    case: str
    items: Mapping[str, Item] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``moved``, ``refused``, ``withdrawn``, or how far the one that gives has come."""
        states = {i.state for i in self.items.values()}
        if self.items[FROM].state == "moved":
            return "moved"
        return "refused" if "refused" in states else self.items[FROM].state


def case_of(row: Mapping[str, Any]) -> str:
    """The case of a proposal's row: 32 characters, nothing of the person."""
    parts = ("org_code", "archive_id", "managing_org_code")
    return hashlib.sha256("|".join(str(row[p]) for p in parts).encode()).hexdigest()[:32]


def request_key(case: str, side: str) -> str:
    return f"{KIND}|{case}|{side}"


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _states(answers: list[work.Answer], settled: list[tuple[datetime, str, str]]) -> dict[str, str]:
    """State of each request that anything happened to: people's answers and the engine's steps in their order."""
    events = [(a.answered_at, a.seq, a.request_key, a.to_state, False) for a in answers]
    events += [(at, 0, key, action, True) for at, key, action in settled]
    state: dict[str, str] = {}
    for _, _, key, what, by_engine in sorted(events):
        if not by_engine:
            state[key] = what
            continue
        target, sources = _BY_ENGINE.get(what, ("", set()))
        if state.get(key, "asked") in sources:
            state[key] = target
    return state


def cases() -> dict[str, Case]:
    """All cases ever asked for. One row a request; read once a step."""
    r = ops.work_request
    query = select(r).where(r.c.kind.in_([KIND, work.SETTLE]))
    with ops.engine().begin() as connection:
        rows = connection.execute(query).all()
    answers = work.answers(KIND)
    settled = [
        (_utc(row.requested_at), str(row.subject), str(json.loads(row.payload)["action"]))
        for row in rows
        if row.kind == work.SETTLE and str(row.subject).startswith(f"{KIND}|")
    ]
    state = _states(answers, settled)
    by_key: dict[str, list[work.Answer]] = {}
    for a in answers:
        by_key.setdefault(a.request_key, []).append(a)
    times: dict[str, int] = {}
    for _, key, _action in settled:
        times[key] = times.get(key, 0) + 1
    found: dict[str, dict[str, Item]] = {}
    for row in rows:
        if row.kind != KIND or row.origin != ORIGIN:
            continue
        key = str(row.request_key)
        _, case, side = key.split("|")
        found.setdefault(case, {})[side] = Item(
            request_key=key,
            org_code=row.org_code,
            occurred_at=_utc(row.occurred_at),
            payload=json.loads(row.payload),
            state=state.get(key, "asked"),
            settled=times.get(key, 0),
            answers=tuple(by_key.get(key, ())),
        )
    # a case is asked for in one transaction, its side that gives first: none is there without it
    return {case: Case(case, items) for case, items in found.items() if FROM in items}
