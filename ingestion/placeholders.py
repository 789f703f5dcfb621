"""Words that forms hold instead of a value (``/``, 不详, 未测): empty where a number or date is due, text elsewhere.

``placeholders.csv`` says which word counts for which kinds of field. The original stays in bronze, and each
occurrence is counted in a notice (E264), so nothing becomes empty silently.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ingestion.reviewed import read


@lru_cache(maxsize=16)
def words(kind: str) -> tuple[str, ...]:
    """Words that stand for nothing in a field of a kind: a logical type, or ``code``."""
    rows = read(Path(__file__).with_suffix(".csv"))
    return tuple(r["text"] for r in rows if kind in r["kinds"].split())


def is_placeholder(kind: str, x: str) -> str:
    """SQL condition; never true where no word counts. (An IN list of this length becomes a join for every row.)"""
    listed = ", ".join("'" + w.replace("'", "''") + "'" for w in words(kind))
    return f"list_contains([{listed}], {x})" if listed else "false"
