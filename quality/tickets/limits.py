"""Dated parameters of tickets (``parameters.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

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
    report_due_day: int
    report_products: tuple[str, ...]

    def report_due_on(self, day: date) -> date:
        """When the next month's report is due, on a day or after it."""
        if day.day <= self.report_due_day:
            return day.replace(day=self.report_due_day)
        return date(day.year + day.month // 12, day.month % 12 + 1, self.report_due_day)


def _read(node: dict[str, Any]) -> Parameters:
    return Parameters(**{**node, "report_products": tuple(node["report_products"])})


@lru_cache(maxsize=1)
def _all() -> tuple[Parameters, ...]:
    nodes = yaml.safe_load(Path(__file__).with_name("parameters.yaml").read_text("utf-8"))
    return tuple(sorted((_read(node) for node in nodes), key=lambda p: p.valid_from))


def parameters(day: date) -> Parameters:
    """Those that hold on a day; before the first, the first."""
    valid = [p for p in _all() if p.valid_from <= day]
    return (valid or _all()[:1])[-1]
