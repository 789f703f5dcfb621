"""Anonymous items (voluntary reports of adverse events): the reporter is in no item, event, log or decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worklist.conditions import holds
from worklist.machine import ANONYMOUS, Kind


def is_anonymous(kind: Kind, facts: Mapping[str, Any]) -> bool:
    return bool(kind.anonymous) and holds(kind.anonymous["if"], facts)


def without_reporter(kind: Kind, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload without the fields that tell who reported."""
    return {k: v for k, v in payload.items() if k not in kind.anonymous["fields"]}


def shown_actor(kind: Kind, anonymous: bool, actor: str, role: str) -> str:
    """The actor that may be written down."""
    return ANONYMOUS if anonymous and role in kind.anonymous["roles"] else actor
