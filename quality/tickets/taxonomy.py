"""The taxonomy of reasons (``reasons.yaml``): why records were wrong, or may stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from lake.errors import MedlakeError


@dataclass(frozen=True)
class Reason:
    """One code; ``steps`` are those it may be given with: ``fix``, ``waive``."""

    code: str
    zh: str
    en: str
    steps: tuple[str, ...]


@lru_cache(maxsize=1)
def reasons() -> dict[str, Reason]:
    """All reasons by code, in the order of the file."""
    nodes = yaml.safe_load(Path(__file__).with_name("reasons.yaml").read_text("utf-8"))
    return {c: Reason(c, n["zh"], n["en"], tuple(n["for"])) for c, n in nodes.items()}


def check_reason(code: str, step: str) -> str:
    """The code, if it may be given with a step (``fix`` or ``waive``).

    Raises:
        MedlakeError: E420, there is no such reason for it.
    """
    known = [r for r in reasons().values() if step in r.steps]
    if code not in {r.code for r in known}:
        listed = "、".join(f"{r.code}（{r.zh}）" for r in known)
        raise MedlakeError("E420", reason_code=code or "—", known=listed)
    return code
