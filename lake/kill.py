"""Where a test may kill a step: ``MEDLAKE_KILL_AT=<point>`` ends the process by SIGKILL at that point."""

from __future__ import annotations

import os
import signal


def point(name: str) -> None:
    """A named point between two effects. Without the environment variable it does nothing."""
    if os.environ.get("MEDLAKE_KILL_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
