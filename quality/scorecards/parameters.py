"""The dated parameters of the scorecards: weights by severity, small numbers, bounds of the shrinkage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).with_name("parameters.yaml")


@dataclass(frozen=True)
class Parameters:
    """What ``parameters.yaml`` says for a date; each is explained there."""

    valid_from: date
    weights: dict[str, float]
    leads: list[str]
    small_below: int
    prior_least: float
    prior_most: float
    prior_default: float
    orgs_needed: int
    interval_z: float


@lru_cache(1)
def _all() -> tuple[Parameters, ...]:
    import yaml

    entries = yaml.safe_load(_FILE.read_text("utf-8"))
    return tuple(sorted((Parameters(**e) for e in entries), key=lambda p: p.valid_from))


def parameters(as_of: date) -> Parameters:
    """Those in force on a data date; before the first entry, the first."""
    known = _all()
    return next((p for p in reversed(known) if p.valid_from <= as_of), known[0])
