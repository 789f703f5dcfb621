"""How often a client may call: a bucket of tokens each, filled at a steady rate. One process, in memory."""

from __future__ import annotations

import time
from collections.abc import Callable


class Rates:
    """``wait(client)`` is 0 when the call may go on, else the seconds until it may."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_second, float(burst), clock
        self._levels: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        now = self._clock()
        level, at = self._levels.get(client, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        if level >= 1:
            self._levels[client] = (level - 1, now)
            return 0.0
        self._levels[client] = (level, now)
        return (1 - level) / self._rate
