"""Dated parameters of tickets (``parameters.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Parameters:
    """What holds from a date on; see the comments in ``parameters.yaml``."""

    valid_from: date
    mark: str
    waiver_days: int
    training_months: int
    training_window: int
    samples: int


@lru_cache(maxsize=1)
def _all() -> tuple[Parameters, ...]:
    nodes = yaml.safe_load(Path(__file__).with_name("parameters.yaml").read_text("utf-8"))
    return tuple(sorted((Parameters(**node) for node in nodes), key=lambda p: p.valid_from))


def parameters(day: date) -> Parameters:
    """Those that hold on a day; before the first, the first."""
    valid = [p for p in _all() if p.valid_from <= day]
    return (valid or _all()[:1])[-1]
