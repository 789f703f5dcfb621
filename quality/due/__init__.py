"""Due lists: what is to be done, by when, before its absence becomes a finding.

Every absence rule says in its YAML (``due``) when its deed is due and until when the grace lasts; :func:`listing.due`
evaluates the rules themselves, so that whatever is on the list and not done is a finding the day after ``fails_on``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quality.due.daily import build, build_after_check, rows
    from quality.due.listing import due, rules_with_due

__all__ = ["build", "build_after_check", "due", "rows", "rules_with_due"]

_HOMES = {
    "build": "daily",
    "build_after_check": "daily",
    "rows": "daily",
    "due": "listing",
    "rules_with_due": "listing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quality.due' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"quality.due.{_HOMES[name]}"), name)
