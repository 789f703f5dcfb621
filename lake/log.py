"""Structured logs without patient data: one JSON object a line, and only keys on an allow-list get in."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from lake.settings import settings

#: What a log line may carry. Counts, names of things, places in files; never a value of a record.
ALLOWED_KEYS = frozenset(
    """feed table tables batch_id data_date run_id org_code files failed_files file sheet line rows received loaded
    duplicate quarantined seconds step state version versions code product products rule_id rules findings records
    persons pairs clusters edges events merged split created bytes reason port pid process count status model models
    blocked excluded eligible template columns planned written sheets cohort cells suppressed attempt path
    threshold precision recall f1 expectation expectations suite kept removed swapped gate codes mode""".split()
)

# the file is the log; a command prints its own words, and a library that sets up logging must not print ours
_root = logging.getLogger("medlake")
_root.addHandler(logging.NullHandler())
_root.propagate = False


class Logger:
    """Writes events of one room. A key that is not allowed is dropped and counted, not printed."""

    def __init__(self, room: str) -> None:
        self.room = room
        self._log = logging.getLogger(f"medlake.{room}")

    def _write(self, level: int, event: str, values: dict[str, Any]) -> None:
        kept = {k: v for k, v in values.items() if k in ALLOWED_KEYS}
        line: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(level).lower(),
            "room": self.room,
            "event": event,
            **kept,
        }
        if dropped := len(values) - len(kept):
            line["dropped_keys"] = dropped
        text = json.dumps(line, ensure_ascii=False, default=str)
        try:
            directory = settings().folder("logs")
            with (directory / "medlake.jsonl").open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:  # a full disk must not stop a batch; stderr still tells
            print(f"log not written: {error.strerror}", file=sys.stderr)
        self._log.log(level, "%s", text)

    def info(self, event: str, **values: Any) -> None:
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        self._write(logging.ERROR, event, values)


def logger(room: str) -> Logger:
    """The logger of a room (``logger("ingestion").info("batch_committed", feed="his", loaded=10)``)."""
    return Logger(room)
