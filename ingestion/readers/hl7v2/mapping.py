"""Which fields of which segments become which rows: ``mapping.yaml``, read once.

A path is ``[reach]SEG-field[.component[.subcomponent]][#function][{filter}]``. Without a reach it means the nearest
such segment at or before the row's own (``driver``) in the same message and patient. Reaches: ``<`` since the previous
driver only; ``>`` the next one before the next driver; ``>>`` all of those, their texts joined by line breaks;
``+`` those directly after the driver, joined. A filter ``{OBX-3.1.2=IMP}`` (``!=``: not) chooses among them.
``#code:T`` and ``#flag:T`` translate by a table of ``codes``; a value that is not in it stays, a flag is then unknown.
``=text`` is a constant, ``A + B`` both joined by ``|`` if both are there. A list of paths means the first with a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

_PATH = re.compile(
    r"(>>|[<>+]?)([A-Z][A-Z0-9]{2})-(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:#([\w:]+))?(?:\{([^=!]+)(!?)=([^}]*)\})?"
)


@dataclass(frozen=True)
class Place:
    """One path. ``constant`` is set when it is no path at all, ``joined`` when it is several put together."""

    segment: str = ""
    number: int = 0
    component: int = 1
    subcomponent: int = 1
    function: str = ""
    reach: str = ""
    chosen_by: Place | None = None
    chosen_not: bool = False
    chosen: frozenset[str] = frozenset()
    constant: str | None = None
    joined: tuple[Place, ...] = ()
    text: str = ""


Places = tuple[Place, ...]


@dataclass(frozen=True)
class Rows:
    """How one kind of segment becomes rows of a table.

    ``types``: message types (``ADT``) or events (``ADT^A40``) that give them, ``not_events`` those that do not;
    ``needs``: without all of these there is nothing to say, so no row; ``under``: segments that must come before, else
    the segment is refused; ``only``, ``never``: path -> values one of which (none of which) it must have;
    ``delete``: events that delete, ``delete_when``: values that do; ``events``: fields that an event or type fills
    otherwise; ``unique``: (number, within) fields where numbers must not repeat.
    """

    table: str
    driver: str
    types: frozenset[str]
    fields: AnyMapping[str, Places]
    not_events: frozenset[str] = frozenset()
    needs: tuple[Places, ...] = ()
    under: tuple[str, ...] = ()
    only: tuple[tuple[Places, frozenset[str]], ...] = ()
    never: tuple[tuple[Places, frozenset[str]], ...] = ()
    delete: frozenset[str] = frozenset()
    delete_when: tuple[tuple[Places, frozenset[str]], ...] = ()
    events: AnyMapping[str, AnyMapping[str, Places]] = field(default_factory=dict)
    unique: tuple[str, str] | None = None


@dataclass(frozen=True)
class Mapping:
    """``requires``: per message type the segments without which a message says nothing; ``feeds``: types per feed;
    ``codes``: named translations of HL7's tables into the group's codes."""

    rows: tuple[Rows, ...]
    requires: AnyMapping[str, tuple[str, ...]]
    feeds: AnyMapping[str, frozenset[str]]
    codes: AnyMapping[str, AnyMapping[str, str]]

    def places(self) -> dict[str, str]:
        """``<table>.<field>`` -> where HL7 holds it, for messages about a field."""
        found: dict[str, str] = {}
        for r in self.rows:
            for name, places in r.fields.items():
                where = next((p.text for p in places if p.constant is None), r.driver)
                found.setdefault(f"{r.table}.{name}", where)
        return found

    def table_for(self, kind: str, otherwise: str) -> str:
        """The table that a message type is first of all about: of the last segment that it requires."""
        main = self.requires.get(kind, ("",))[-1]
        own = [r for r in self.rows if kind in r.types]
        return next((r.table for r in sorted(own, key=lambda r: r.driver != main)), otherwise)


def place(text: str) -> Place:
    """Parse one path.

    Raises:
        ValueError: it is none.
    """
    if text.startswith("="):
        return Place(constant=text[1:], text=text)
    if " + " in text:
        parts = tuple(place(p) for p in text.split(" + "))
        return Place(joined=parts, text=parts[0].text)
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"no HL7 path: {text}")
    reach, segment, number, component, subcomponent, function, chosen_by, unlike, chosen = found.groups()
    return Place(
        segment,
        int(number),
        int(component or 1),
        int(subcomponent or 1),
        function or "",
        reach,
        place(chosen_by) if chosen_by else None,
        bool(unlike),
        frozenset((chosen or "").split(",")),
        text=text.lstrip("<>+").split("#")[0].split("{")[0],
    )


def _places(node: Any) -> Places:
    return tuple(place(str(p)) for p in (node if isinstance(node, list) else [node]))


def _values(node: dict[str, Any]) -> tuple[tuple[Places, frozenset[str]], ...]:
    return tuple((_places(k), frozenset(map(str, v))) for k, v in node.items())


def _rows(node: dict[str, Any]) -> Rows:
    return Rows(
        node["table"],
        node["driver"],
        frozenset(node["types"]),
        {k: _places(v) for k, v in node["fields"].items()},
        frozenset(node.get("not_events", ())),
        tuple(_places(n) for n in node.get("needs", ())),
        tuple(node.get("under", ())),
        _values(node.get("only", {})),
        _values(node.get("never", {})),
        frozenset(node.get("delete", ())),
        _values(node.get("delete_when", {})),
        {e: {k: _places(v) for k, v in f.items()} for e, f in node.get("events", {}).items()},
        tuple(node["unique"]) if "unique" in node else None,
    )


@lru_cache(maxsize=1)
def mapping() -> Mapping:
    """The reviewed mapping."""
    import yaml

    node = yaml.safe_load((Path(__file__).parent / "mapping.yaml").read_text("utf-8"))
    return Mapping(
        tuple(_rows(r) for r in node["rows"]),
        {k: tuple(v) for k, v in node["requires"].items()},
        {k: frozenset(v) for k, v in node["feeds"].items()},
        {k: {str(a): str(b) for a, b in v.items()} for k, v in node["codes"].items()},
    )
