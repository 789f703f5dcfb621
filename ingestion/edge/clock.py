"""A node's clock, as wrong as it is. Times it gives are never rewritten: the measured offset is kept beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: Test seam: seconds that this process's clock is ahead (or, negative, behind).
SKEW = "MEDLAKE_EDGE_CLOCK_SKEW_SECONDS"


def now() -> datetime:
    """What this machine takes for the time, UTC."""
    return datetime.now(UTC) + timedelta(seconds=float(os.environ.get(SKEW, "0")))


@dataclass(frozen=True)
class Offset:
    """``milliseconds`` to add to this node's clock to get the centre's; ``measured_at`` by this node's clock."""

    milliseconds: int
    measured_at: datetime


def measured(sent: datetime, received: datetime, theirs: datetime) -> Offset:
    """Offset from one question: the other side's time against the middle between asking and hearing (as NTP does)."""
    middle = sent + (received - sent) / 2
    return Offset(round((theirs - middle) / timedelta(milliseconds=1)), received)
