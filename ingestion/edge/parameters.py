"""Dated parameters of this package, from ``parameters.yaml``."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


@lru_cache(maxsize=1)
def _all() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(
        (Path(__file__).parent / "parameters.yaml").read_text("utf-8")
    )
    return found


def parameter(name: str, on: date) -> float:
    """The value that holds on a day; before its first day the first one does.

    Raises:
        KeyError: there is no such parameter.
    """
    steps = sorted(_all()[name], key=lambda s: s["valid_from"])
    held = [s["value"] for s in steps if s["valid_from"] <= on] or [steps[0]["value"]]
    return float(held[-1])
