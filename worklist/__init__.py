"""The worklist: whatever waits for a person, as items with states, deadlines and an append-only log.

The verbs: ``items``, ``counts`` and ``find`` (look), ``create``, ``act``, ``assign`` (people's commands), ``take_requests``,
``fire`` and ``settle`` (what the engine does), ``run`` (all of it, in a loop), ``drop_decisions`` (back into the
lake), ``stats``, ``migrate``.
Importing this room is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worklist.decisions import drop as drop_decisions
    from worklist.engine import act, assign, log_of, settle
    from worklist.field_measures import by_field
    from worklist.intake import take_requests
    from worklist.listing import counts, find, items
    from worklist.machine import kinds
    from worklist.making import create
    from worklist.service import run
    from worklist.timers import fire

__all__ = [
    "act",
    "assign",
    "by_field",
    "counts",
    "create",
    "drop_decisions",
    "find",
    "fire",
    "items",
    "kinds",
    "log_of",
    "migrate",
    "run",
    "settle",
    "stats",
    "take_requests",
]

_HOMES = {
    "act": ("worklist.engine", "act"),
    "assign": ("worklist.engine", "assign"),
    "settle": ("worklist.engine", "settle"),
    "log_of": ("worklist.engine", "log_of"),
    "by_field": ("worklist.field_measures", "by_field"),
    "create": ("worklist.making", "create"),
    "drop_decisions": ("worklist.decisions", "drop"),
    "counts": ("worklist.listing", "counts"),
    "find": ("worklist.listing", "find"),
    "items": ("worklist.listing", "items"),
    "fire": ("worklist.timers", "fire"),
    "kinds": ("worklist.machine", "kinds"),
    "run": ("worklist.service", "run"),
    "take_requests": ("worklist.intake", "take_requests"),
}


def stats(org_code: str | None = None) -> dict[str, Any]:
    """On-time rates, medians, open overdue and reopened, by kind and by step."""
    from worklist import measures

    return {"kinds": measures.by_kind(org_code=org_code), "steps": measures.by_step(org_code=org_code)}


def migrate() -> str:
    """Bring the operational database to the newest schema; returns its revision."""
    from lake import ops
    from worklist import schema

    return schema.upgrade(ops.engine())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'worklist' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
