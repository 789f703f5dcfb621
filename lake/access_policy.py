"""The policy as data: ``lake/access.yaml`` read once, typed. Holds no decision of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from lake.errors import MedlakeError

Act = Literal["clear", "mask", "hide"]

#: From the least seen to the most.
ORDER: tuple[Act, ...] = ("hide", "mask", "clear")

FILE = Path(__file__).with_name("access.yaml")
SCHEMA = Path(__file__).with_name("access.schema.json")


@dataclass(frozen=True)
class Role:
    """One role. ``levels``: level -> act without a purpose; ``purposes``: purpose -> what it opens beyond that."""

    code: str
    label_zh: str
    scope: str
    needs_second_factor: bool
    may_break_glass: bool
    levels: dict[int, Act]
    purposes: dict[str, dict[int, Act]]
    duties: frozenset[str]

    def act(self, level: int, purpose: str) -> Act:
        """What this role sees of a level under a purpose; a purpose that is not the role's opens nothing."""
        base = self.levels.get(level, "hide")
        opened = self.purposes.get(purpose, {}).get(level, base)
        return max(base, opened, key=ORDER.index)


@dataclass(frozen=True)
class Policy:
    """The whole of ``access.yaml``. ``mask_kind``: field -> which mask."""

    as_of: str
    purpose_from_level: int
    purposes: dict[str, str]
    roles: dict[str, Role]
    glass_limits: tuple[tuple[date, int], ...]
    glass_reason_min: int
    glass_reasons: dict[str, str]
    glass_levels: dict[int, Act]
    login: dict[str, int]
    unknown_level: int
    own_fields: dict[str, int]
    mask_kind: dict[str, str] = field(default_factory=dict)

    def glass_minutes(self, day: date) -> int:
        """How long break-glass lasts that is opened on a day; 0 before the first date: then it cannot be opened."""
        return max(
            ((since, minutes) for since, minutes in self.glass_limits if since <= day), default=(day, 0)
        )[1]


def _role(code: str, node: dict[str, Any]) -> Role:
    return Role(
        code=code,
        label_zh=node["label_zh"],
        scope=node["scope"],
        needs_second_factor=bool(node["second_factor"]),
        may_break_glass=bool(node.get("may_break_glass", False)),
        levels={int(k): cast(Act, v) for k, v in node["levels"].items()},
        purposes={p: {int(k): cast(Act, v) for k, v in o.items()} for p, o in node["purposes"].items()},
        duties=frozenset(node.get("duties", ())),
    )


def read(path: Path) -> Policy:
    """One policy file.

    Raises:
        MedlakeError: E680, it cannot be read or lacks what a policy must have: then nobody sees anything.
    """
    try:
        node = yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        glass = node["break_glass"]
        return Policy(
            as_of=str(node["as_of"]),
            purpose_from_level=int(node["purpose_from_level"]),
            purposes=dict(node["purposes"]),
            roles={code: _role(code, r) for code, r in node["roles"].items()},
            glass_limits=tuple(
                (date.fromisoformat(str(x["valid_from"])), int(x["amount"])) for x in glass["minutes"]
            ),
            glass_reason_min=int(glass["reason_min_length"]),
            glass_reasons={str(k): str(v) for k, v in glass["reasons"].items()},
            glass_levels={int(k): v for k, v in glass["levels"].items()},
            login={k: int(v) for k, v in node["login"].items()},
            unknown_level=int(node["unknown_level"]),
            own_fields={f: int(level) for f, level in node["own_fields"].items()},
            mask_kind={f: kind for kind, fields in node["masks"].items() for f in fields},
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedlakeError("E680", place=path.name, detail=type(error).__name__) from error


@lru_cache(maxsize=1)
def policy() -> Policy:
    """The policy of this release (raises as :func:`read`)."""
    return read(FILE)


def role(code: str) -> Role | None:
    """A role, or None: who has no role sees nothing."""
    return policy().roles.get(code)
