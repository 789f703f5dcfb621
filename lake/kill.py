"""Where a test may kill a step or make storage fail.

``MEDLAKE_KILL_AT=<point>`` ends the process by SIGKILL at that point. ``on_storage`` is called before and after every
write to a Delta table (a commit, a merge, a compaction, and what an undo does: a restore, a removal) and before each
read of a table's log; what it raises is what storage would have raised: a refused put, a commit that another writer
won, a time-out after the commit landed, a read that fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

#: (``before``, ``after`` or ``read``, table); None outside of tests.
on_storage: Callable[[str, str], None] | None = None


def point(name: str) -> None:
    """A named point between two effects. Without the environment variable it does nothing."""
    if os.environ.get("MEDLAKE_KILL_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def storage(when: str, table: str) -> None:
    """The seam at storage. Without a hook it does nothing."""
    if on_storage is not None:
        on_storage(when, table)
