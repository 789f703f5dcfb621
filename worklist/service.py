"""``medlake worklist run``: intake, timers and the decisions' drop, in a loop that survives a lost database."""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from lake.local_time import SHANGHAI
from lake.log import logger
from worklist import decisions, intake, lease, timers

_log = logger("worklist")
_NAME = "worklist"
#: A leader that is silent for so long is replaced; renewed with every turn.
LEASE_SECONDS = 15.0
_WORST_PAUSE = 30.0


def holder() -> str:
    """This process among all that may lead."""
    return f"{socket.gethostname()}:{os.getpid()}"


def turn(now: datetime | None = None) -> dict[str, Any]:
    """One turn: waiting requests become items, what is due fires."""
    taken = intake.take_requests(now)
    fired = timers.fire(now)
    return {"taken": taken["taken"], "latency_s_max": taken["latency_s_max"], **fired}


def run(
    stop: threading.Event,
    *,
    poll: float = 1.0,
    lease_seconds: float = LEASE_SECONDS,
    decisions_every: float = 60.0,
) -> dict[str, Any]:
    """Turn until ``stop`` is set. Only the leader works; the others wait for its lease to end.

    Returns:
        how many turns were led, what was taken and fired, the slowest receipt-to-item in seconds.
    """
    me = holder()
    total: dict[str, Any] = {
        "turns": 0,
        "taken": 0,
        "escalated": 0,
        "timed_out": 0,
        "decisions": 0,
        "latency_s_max": 0.0,
    }
    pause, dropped_at = poll, 0.0
    _log.info("worklist_started", pid=os.getpid())
    while not stop.is_set():
        try:
            if lease.acquire(_NAME, me, datetime.now(UTC), max(lease_seconds, 5 * poll)):
                did = turn()
                total["turns"] += 1
                for name in ("taken", "escalated", "timed_out"):
                    total[name] += did[name]
                total["latency_s_max"] = max(total["latency_s_max"], did["latency_s_max"])
                if time.monotonic() - dropped_at >= decisions_every:
                    total["decisions"] += decisions.drop(datetime.now(UTC).astimezone(SHANGHAI).date())[
                        "decisions"
                    ]
                    dropped_at = time.monotonic()
            pause = poll
        except (DBAPIError, OSError) as error:  # the database or the disk is away: wait, try again, never die
            _log.error("worklist_turn_failed", reason=type(error).__name__)
            pause = min(max(pause, poll) * 2, _WORST_PAUSE)
        stop.wait(pause)
    try:
        lease.release(_NAME, me, datetime.now(UTC))
    except DBAPIError as error:
        _log.error("worklist_lease_kept", reason=type(error).__name__)
    _log.info("worklist_stopped", pid=os.getpid(), count=total["taken"])
    return total
