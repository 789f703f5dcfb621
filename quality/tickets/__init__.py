"""Tickets: whose turn it is. One a rule and institution with open findings, as items of the one worklist.

``ask`` turns what a check left open into requests of the kind ``quality_ticket`` and says of those that are there what
became of them; ``waivers`` is what the check must know of what people decided; ``reasons`` and ``parameters`` are the
reviewed lists. The rooms meet in ``lake.work``: nothing here imports the worklist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quality.tickets.asking import ask, ask_after_check
    from quality.tickets.history import tickets
    from quality.tickets.limits import parameters
    from quality.tickets.taxonomy import check_reason, reasons
    from quality.tickets.waiving import expiry, waiver_sql, waivers

__all__ = [
    "KIND",
    "ask",
    "ask_after_check",
    "check_reason",
    "expiry",
    "parameters",
    "reasons",
    "tickets",
    "waiver_sql",
    "waivers",
]

#: Kind of the items (``worklist/kinds/quality_ticket.yaml``).
KIND = "quality_ticket"

_HOMES = {
    "ask": "asking",
    "ask_after_check": "asking",
    "tickets": "history",
    "parameters": "limits",
    "check_reason": "taxonomy",
    "reasons": "taxonomy",
    "expiry": "waiving",
    "waiver_sql": "waiving",
    "waivers": "waiving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quality.tickets' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"quality.tickets.{_HOMES[name]}"), name)
