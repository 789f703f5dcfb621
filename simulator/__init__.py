"""A city with known truth: residents, visits, devices, and the files their systems would emit.

Writes files only. What it knows beyond them goes to ``settings.truth_dir``.
Public verbs: :func:`simulate`, :func:`simulate_bad_day`; residents alone come from :mod:`simulator.people`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.city import simulate, simulate_bad_day

__all__ = ["simulate", "simulate_bad_day"]


def __getattr__(name: str) -> Any:
    """Numpy, Arrow and DuckDB load only when a verb is used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("simulator.city"), name)
