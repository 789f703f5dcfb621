"""The registry online: who is this? Answers from a key index in SQLite that follows each run and every online change.

``build`` makes the index from the last run's state; ``open_index`` gives the object that answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from empi.online.index import Hit as Hit
    from empi.online.index import Index as Index
    from empi.online.index import Person as Person
    from empi.online.single import Query as Query

__all__ = ["Hit", "Index", "Person", "Query", "build", "open_index"]

_HOMES = {"Hit": "index", "Index": "index", "Person": "index", "Query": "single"}


def build() -> dict[str, Any]:
    """Make the index of the last run and swap it in; an index that is that run's already stays.

    Returns:
        ``run_id, records, persons, keys, bytes, is_new``.

    Raises:
        MedlakeError: E335, nothing was linked yet; E336, the last run's state belongs to another crosswalk.
    """
    from empi.online.making import build as _build

    return _build()


def open_index() -> Index:
    """The registry as it stands: one object for a process, safe for its threads.

    Raises:
        MedlakeError: E337, no index was built yet.
    """
    from empi.online.index import Index

    return Index()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'empi.online' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"empi.online.{_HOMES[name]}"), name)
