"""Conditions on an item's facts: ``{event_level: ["1", "2"]}``, ``{age_years: {max: 14}}``; all must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_text(value: Any) -> str:
    """How a fact is compared: as text, booleans as ``true`` and ``false``, nothing as ''."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip()


def is_given(value: Any) -> bool:
    """Whether a field says anything: not missing, not blank, not an empty list."""
    return bool(value) if isinstance(value, list | dict) else bool(as_text(value))


def holds(condition: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether every part of a condition is true; a fact that is not known makes its part false."""
    return all(_part(wanted, facts.get(name)) for name, wanted in condition.items())


def _part(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, Mapping):
        try:
            number = float(as_text(value))
        except ValueError:
            return False
        return float(wanted.get("min", "-inf")) <= number <= float(wanted.get("max", "inf"))
    return as_text(value) in wanted


def lets(
    condition: Mapping[str, Any] | None, unless: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> bool:
    """Whether ``if`` holds (or is absent) and ``unless`` does not."""
    return (not condition or holds(condition, facts)) and not (unless and holds(unless, facts))


def missing(names: Iterable[str], facts: Mapping[str, Any]) -> list[str]:
    """Those of the fields that are not given."""
    return [name for name in names if not is_given(facts.get(name))]
