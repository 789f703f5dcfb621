"""The rule book: reviewed YAML under ``quality/rules``, checked by its JSON schema and against the contracts."""

from __future__ import annotations

from functools import lru_cache

from quality.rule.building import build, load
from quality.rule.model import OBSERVATION_DAYS, PLACEHOLDER, REFERENCE, Param, Query, Rule, RuleBook, Target
from quality.rule.nodes import RULES_DIR, Loader, read

__all__ = [
    "OBSERVATION_DAYS",
    "PLACEHOLDER",
    "REFERENCE",
    "RULES_DIR",
    "Loader",
    "Param",
    "Query",
    "Rule",
    "RuleBook",
    "Target",
    "build",
    "load",
    "read",
    "rulebook",
]


def rulebook() -> RuleBook:
    """The rules of this installation: those that come with Medlake, changed and added to by its stewards."""
    from quality.authoring import overlay

    return _rulebook(*overlay.stamp())


@lru_cache(maxsize=4)
def _rulebook(_folder: str, _changed: int) -> RuleBook:
    from quality.authoring import overlay

    return build(overlay.applied(read()))
