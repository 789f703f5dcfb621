"""Audit entries of requests: written before the answer leaves, all that wait together in one transaction.

A transaction of the operational database ends with a sync of the disk. One a request would let requests queue behind
the disk; one for all that came meanwhile lets each wait for at most two.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from lake import audit


class Trail:
    """The waiting entries of one process; its threads share it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[dict[str, Any], Future[None]]] = []
        self._joining = threading.Lock()
        self._writing = threading.Lock()

    def note(self, **entry: Any) -> None:
        """Return when the entry is durable (arguments as :func:`lake.audit.record`).

        Raises:
            Exception: the database does not take it; whoever asked must not be answered.
        """
        done: Future[None] = Future()
        with self._joining:
            self._waiting.append((entry, done))
        with self._writing:  # whoever comes in writes for all who wait
            if not done.done():
                self._write()
        done.result()

    def _write(self) -> None:
        with self._joining:
            taken, self._waiting = self._waiting, []
        try:
            audit.record_all([entry for entry, _ in taken])
        except Exception as error:  # each of those who wait is told
            for _, done in taken:
                done.set_exception(error)
        else:
            for _, done in taken:
                done.set_result(None)
