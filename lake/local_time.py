"""Local days: instants are UTC, a day is a day in Asia/Shanghai."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")


def local_today() -> date:
    """Today in Asia/Shanghai. For the command line's default only; no rule may call it."""
    return datetime.now(UTC).astimezone(SHANGHAI).date()
