"""Residents of the simulated city and their registrations in the source systems.

Public verbs: :func:`make_city` (everything in memory) and :func:`write_registrations` (any size, in chunks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.people.city import City, make_city
    from simulator.people.scale import write_registrations

__all__ = ["City", "make_city", "write_registrations"]


def __getattr__(name: str) -> Any:
    """Numpy and Arrow load only when a verb is used."""
    from importlib import import_module

    home = {"City": "city", "make_city": "city", "write_registrations": "scale"}.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"simulator.people.{home}"), name)
