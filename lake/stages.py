"""Seconds of each stage of a long step, kept for its result and logged as they pass: a night's log shows where it is."""

from __future__ import annotations

import time

from lake.log import Logger


class Stages:
    """A stop watch with names. ``seconds``: stage -> seconds, added up where a name comes twice."""

    def __init__(self, step: str, log: Logger) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._log = step, log
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """The stage that began with the last lap has ended."""
        now = time.monotonic()
        spent = round(now - self._last, 2)
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 2)
        self._last = now
        self._log.info("stage_done", step=f"{self._step}.{stage}", seconds=spent)
