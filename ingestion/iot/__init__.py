"""Telemetry: what its topics mean, and what its readings say about the devices (clocks, gaps, order, bindings)."""

from __future__ import annotations

from datetime import date
from typing import Any

__all__ = ["report"]


def report(data_date: date) -> dict[str, Any]:
    """Judge the devices of a day from silver; writes ``ops/device_clock``, ``ops/device_gap``, ``ops/device_order``.

    Returns:
        devices, flagged clocks, gaps (missing sequence numbers), late readings, readings without a bound person.
        Running it again replaces the day's rows.
    """
    from ingestion.iot.devices import report as run

    return run(data_date)
