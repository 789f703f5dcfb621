"""What the worklist's tests share: an item anywhere, a command that satisfies a transition, a database of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from lake import ops
from worklist import clocks, making, store, tables
from worklist.engine import save
from worklist.machine import SYSTEM, Kind, Transition, kind
from worklist.making import Asked
from worklist.store import Item

#: A Wednesday, 10:00 in Shanghai, far from any holiday.
NOW = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)


@contextmanager
def home(folder: Path, database: str | None = None) -> Iterator[Path]:
    """Settings of an installation under a folder, for tests that cannot use ``lake_home``."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDLAKE_HOME", str(folder))
    if database:
        patch.setenv("MEDLAKE_OPS_DATABASE", database)
    _forget()
    try:
        yield folder
    finally:
        patch.undo()
        _forget()


def _forget() -> None:
    """As in a new process: other settings, other databases (perhaps of the same name)."""
    from lake.settings import settings

    settings.cache_clear()
    ops._engine.cache_clear()
    store.forget()


def ask(name: str, key: str, *, at: datetime = NOW, severity: str = "error", **payload: Any) -> Item:
    """A new item as intake would make it."""
    asked = Asked(key, name, "H001", severity, f"test/{key}", at, at, "test", payload)
    with store.begin() as connection:
        making.insert_all(connection, [asked], at)
        return store.get(connection, making.item_id_of(key))


def place(name: str, key: str, state: str, *, at: datetime = NOW, **payload: Any) -> Item:
    """An item put into a state without walking there, with the clocks that run there."""
    item = ask(name, key, at=at, **payload)
    rule = kind(name)
    with store.begin() as connection:
        target = rule.states[state]
        there = replace(
            item,
            state=state,
            is_open=not target.terminal,
            owner_role=target.owner,
            closed_at=at if target.terminal else None,
        )
        running = clocks.move(connection, rule, there, at, restart=False)
        due_at, next_at = clocks.next_timer(rule, there, running)
        return save(connection, item, replace(there, due_at=due_at, next_timer_at=next_at))


def satisfying(by: Transition) -> dict[str, Any]:
    """Facts that make every condition and required field of a transition true."""
    facts: dict[str, Any] = dict.fromkeys(by.requires, "given")
    if by.requires_any:
        facts[by.requires_any[0]] = "given"
    for condition in [by.condition or {}]:
        for name, wanted in condition.items():
            facts[name] = wanted[0] if isinstance(wanted, list) else wanted.get("min", wanted.get("max"))
    if by.hand_to:
        facts.setdefault(by.hand_to, "C201")
    return facts


def prepare(rule: Kind, by: Transition, item: Item) -> None:
    """What a transition needs in the log: attempts, made by somebody else."""
    if not by.attempts:
        return
    with store.begin() as connection:
        seq = store.next_seq(connection, item.item_id)
        rows = [
            store.event_row(
                item.item_id, seq + n, by.attempts["action"], item.state, NOW - timedelta(days=n),
                from_state=item.state, actor="somebody", role="family_team",
            )
            for n in range(by.attempts["times"])
        ]  # fmt: skip
        connection.execute(insert(tables.item_event), [dict(r) for r in rows])


def person_role(by: Transition) -> str | None:
    """A role of a person that may do it; None when only the engine may."""
    return next((r for r in by.roles if r != SYSTEM), None)
