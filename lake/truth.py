"""Where the simulator leaves what it knows as truth. Only evaluation code may import this; import-linter holds it."""

from __future__ import annotations

from pathlib import Path

from lake.settings import settings


def truth_dir() -> Path:
    """The folder of the truth (``MEDLAKE_TRUTH``, or ``truth`` under home)."""
    return settings().truth or settings().home / "truth"
