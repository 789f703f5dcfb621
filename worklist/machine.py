"""State machines as data: ``kinds/<kind>.yaml`` read once, checked by its JSON schema and by what a schema cannot say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lake.errors import MedlakeError

KINDS_DIR = Path(__file__).parent / "kinds"
ROLES_FILE = Path(__file__).parent / "roles.yaml"

#: The engine's own role and actor; no person can take it.
SYSTEM = "system"
#: What stands for the reporter of an anonymous item.
ANONYMOUS = "anonymous"


@dataclass(frozen=True)
class State:
    """One state; a terminal state has no owner."""

    name: str
    zh: str
    en: str
    owner: str = ""
    terminal: bool = False


@dataclass(frozen=True)
class Transition:
    """One transition and what guards it; ``action`` is the verb that people say."""

    action: str
    zh: str
    en: str
    sources: tuple[str, ...]
    target: str
    roles: tuple[str, ...]
    requires: tuple[str, ...] = ()
    requires_any: tuple[str, ...] = ()
    requires_when: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = ()
    needs_reason: bool = False
    evidence: bool = False
    condition: Mapping[str, Any] | None = None
    unless: Mapping[str, Any] | None = None
    different_from: tuple[str, ...] = ()
    not_owner: bool = False
    not_among: str = ""  # of the payload: a list of persons who must not do it
    attempts: Mapping[str, Any] | None = None
    hand_to: str = ""
    reopen: bool = False
    decision: bool = True


@dataclass(frozen=True)
class Limit:
    """How long a step may take, in one case, from one date on.

    ``until`` names a date of the payload instead: its end, or close of business so many working days ``before`` it.
    """

    valid_from: date
    valid_to: date | None
    mark: str
    case: str = ""
    when: Mapping[str, Any] | None = None
    amount: int = 0
    unit: str = ""
    until: str = ""
    before: int = 0


@dataclass(frozen=True)
class Level:
    """One level of escalation: who is told how long after the deadline."""

    after: int
    unit: str
    role: str
    channel: str
    condition: Mapping[str, Any] | None = None
    unless: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Deadline:
    """The clock of a step: it runs while the item is in one of ``states``; ``then`` is what the engine does itself."""

    step: str
    states: tuple[str, ...]
    base: str
    limits: tuple[Limit, ...]
    levels: tuple[Level, ...] = ()
    then: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of item. ``level`` is the GB/T 39725 level of its payload, ``priority`` 1 is the most urgent."""

    kind: str
    zh: str
    en: str
    reference: str
    level: int
    priority: int
    initial: str
    states: Mapping[str, State]
    transitions: tuple[Transition, ...]
    deadlines: tuple[Deadline, ...]
    anonymous: Mapping[str, Any] = field(default_factory=dict)
    priority_field: str = ""  # of the payload: ranks the items of this kind, below its priority

    def find(self, action: str, state: str) -> Transition | None:
        """The transition of an action out of a state."""
        return next((t for t in self.transitions if t.action == action and state in t.sources), None)

    def actions(self, state: str) -> list[Transition]:
        """What can be done in a state."""
        return [t for t in self.transitions if state in t.sources]

    def clocks(self, state: str) -> list[Deadline]:
        """The deadlines that run in a state."""
        return [d for d in self.deadlines if state in d.states]


@lru_cache(maxsize=1)
def roles() -> dict[str, dict[str, str]]:
    """Role code -> ``{zh, en}``."""
    return dict(yaml.safe_load(ROLES_FILE.read_text("utf-8")))


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    return dict(json.loads((KINDS_DIR / "kind.schema.json").read_text("utf-8")))


def _transition(node: dict[str, Any]) -> Transition:
    only_system = node["by"] == [SYSTEM]
    return Transition(
        action=node["do"],
        zh=node["zh"],
        en=node["en"],
        sources=tuple(node["from"]),
        target=node["to"],
        roles=tuple(node["by"]),
        requires=tuple(node.get("requires", ())),
        requires_any=tuple(node.get("requires_any", ())),
        requires_when=tuple((n["if"], tuple(n["requires"])) for n in node.get("requires_when", ())),
        needs_reason=node.get("needs_reason", False),
        evidence=node.get("evidence", False),
        condition=node.get("if"),
        unless=node.get("unless"),
        different_from=tuple(node.get("different_from", ())),
        not_owner=node.get("not_owner", False),
        not_among=node.get("not_among", ""),
        attempts=node.get("attempts"),
        hand_to=node.get("hand_to", ""),
        reopen=node.get("reopen", False),
        decision=node.get("decision", not only_system),
    )


def _day(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None


def _deadline(node: dict[str, Any]) -> Deadline:
    limits = tuple(
        Limit(
            valid_from=date.fromisoformat(n["valid_from"]),
            valid_to=_day(n.get("valid_to")),
            mark=n["mark"],
            case=n.get("case", ""),
            when=n.get("when"),
            amount=n.get("amount", 0),
            unit=n.get("unit", ""),
            until=n.get("until", ""),
            before=n.get("before", 0),
        )
        for n in node["limits"]
    )
    levels = tuple(
        Level(n["after"], n["unit"], n["to"], n["channel"], n.get("if"), n.get("unless"))
        for n in node.get("escalate", ())
    )
    return Deadline(node["step"], tuple(node["in"]), node["base"], limits, levels, node.get("then", ""))


def parse(node: dict[str, Any], place: str = "") -> Kind:
    """A kind from its YAML.

    Raises:
        MedlakeError: E901, it breaks the schema or names a state, role or action that is not there.
    """
    from jsonschema import Draft202012Validator

    problems = [
        f"{'/'.join(map(str, e.absolute_path))}: {e.message}"
        for e in Draft202012Validator(schema()).iter_errors(node)
    ]
    if problems:
        raise MedlakeError("E901", place=place, detail="; ".join(problems[:5]))
    made = Kind(
        kind=node["kind"],
        zh=node["zh"],
        en=node["en"],
        reference=node["reference"],
        level=node["level"],
        priority=node["priority"],
        initial=node["initial"],
        states={
            n: State(n, s["zh"], s["en"], s.get("owner", ""), s.get("terminal", False))
            for n, s in node["states"].items()
        },
        transitions=tuple(_transition(t) for t in node["transitions"]),
        deadlines=tuple(_deadline(d) for d in node["deadlines"]),
        anonymous=node.get("anonymous", {}),
        priority_field=node.get("priority_field", ""),
    )
    if found := faults(made):
        raise MedlakeError("E901", place=place, detail="; ".join(found[:5]))
    return made


def faults(kind: Kind) -> list[str]:
    """What a schema cannot say: unknown states, roles and actions, dead ends, states that nobody reaches."""
    known, who = set(kind.states), set(roles())
    found = [
        f"{t.action}: unknown state {s}" for t in kind.transitions for s in {*t.sources, t.target} - known
    ]
    found += [f"{t.action}: unknown role {r}" for t in kind.transitions for r in set(t.roles) - who]
    found += [
        f"{s.name}: unknown role {s.owner}" for s in kind.states.values() if s.owner and s.owner not in who
    ]
    actions = {t.action for t in kind.transitions}
    for t in kind.transitions:
        named = {*t.different_from, *([t.attempts["action"]] if t.attempts else [])}
        found += [f"{t.action}: unknown action {a}" for a in named - actions]
        ends = [s for s in t.sources if s in known and kind.states[s].terminal]
        if bool(ends) != t.reopen or (ends and len(ends) != len(t.sources)):
            found.append(f"{t.action}: only a transition out of terminal states reopens")
    doubled = {
        (t.action, s)
        for i, t in enumerate(kind.transitions)
        for s in t.sources
        if kind.find(t.action, s) is not t
    }
    found += [f"{action}: defined twice for {s}" for action, s in sorted(doubled)]
    for d in kind.deadlines:
        found += [f"{d.step}: unknown state {s}" for s in set(d.states) - known]
        found += [f"{d.step}: unknown role {lv.role}" for lv in d.levels if lv.role not in who]
        for s in d.states if d.then else ():
            own = kind.find(d.then, s)
            if s in known and not (own and SYSTEM in own.roles):
                found.append(f"{d.step}: the engine cannot {d.then} in {s}")
    reached = {kind.initial}
    while new := {t.target for t in kind.transitions if reached & set(t.sources)} - reached:
        reached |= new
    found += [f"{s}: nobody gets there" for s in sorted(known - reached)]
    found += [f"{s}: no way out" for s, st in kind.states.items() if not st.terminal and not kind.actions(s)]
    return found


@lru_cache(maxsize=1)
def kinds() -> dict[str, Kind]:
    """All kinds by name. Dates in the YAML stay text, so that the schema can check them."""
    found: dict[str, Kind] = {}
    for path in sorted(KINDS_DIR.glob("*.yaml")):
        node = yaml.load(path.read_text("utf-8"), Loader=_TextDates)
        made = parse(node, path.name)
        if made.kind != path.stem:
            raise MedlakeError("E901", place=path.name, detail=f"kind {made.kind}")
        found[made.kind] = made
    return found


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where libyaml is: a tenth of the time


class _TextDates(_Loader):
    """YAML's loader without dates."""


_TextDates.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def kind(name: str) -> Kind:
    """One kind.

    Raises:
        MedlakeError: E902, there is none.
    """
    try:
        return kinds()[name]
    except KeyError:
        raise MedlakeError("E902", kind=name, known=", ".join(kinds())) from None
