"""Machines that report by themselves: refrigerators of the health centres, analysers of the laboratories."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import DAY, days, instants, numbers, pick
from simulator.clinical.laboratory_control import LABORATORIES
from simulator.clinical.window import Window, weekly

CENTRES = tuple(f"C{n}" for n in range(201, 207))  # whose refrigerators are connected so far
EVERY_MINUTES = 30


def _grid(
    window: Window, rates: Mapping[str, Any], machines: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(machine, number of the reading, instant): every half hour of the days that gateways keep."""
    first = np.datetime64(window.history_end - timedelta(days=int(rates["telemetry_history_days"]) - 1))
    span = int((np.datetime64(window.horizon) - first).astype("int64")) + 1
    a_day = 24 * 60 // EVERY_MINUTES
    machine, number = np.divmod(np.arange(machines * span * a_day), span * a_day)
    at = first.astype("datetime64[s]") + (number * EVERY_MINUTES * 60).astype("timedelta64[s]")
    return machine, number, at


def make_cold_chain(window: Window, rates: Mapping[str, Any], rng: np.random.Generator) -> pa.Table:
    """``cold_chain_reading``: one vaccine refrigerator per centre, kept between 2 and 8 degrees."""
    machine, number, at = _grid(window, rates, len(CENTRES))
    temperature = np.round(np.clip(rng.normal(4.8, 0.6, len(at)), 2.6, 7.4), 1)
    none = np.zeros(len(at), dtype="int64")
    return pa.table({
        "sensor_id": pick([f"CC-{c}-01" for c in CENTRES], machine), "seq": pa.array(number + 1), "device_at": instants(at),
        "location_kind_code": pick(["fridge"], none), "temp_c": numbers(temperature, 1),
        "gateway_at": instants(at + np.timedelta64(5, "s")), "quality_code": pick(["good"], none),
        "org_code": pick(list(CENTRES), machine), "deliver_on": days(window.deliver_on(at.astype(DAY))),
    })  # fmt: skip


def make_equipment(window: Window, rates: Mapping[str, Any], rng: np.random.Generator) -> pa.Table:
    """``equipment_reading``: power of one analyser per laboratory; its hours of work only grow."""
    machine, number, at = _grid(window, rates, len(LABORATORIES))
    return pa.table({
        "asset_id": pick([f"AN-{c}-01" for c in LABORATORIES], machine), "meter_code": pick(["power"], number * 0),
        "device_at": instants(at), "seq": pa.array(number + 1), "value": numbers(rng.uniform(0.8, 1.6, len(at)), 2),
        "unit": pick(["kW"], number * 0), "status_code": pick(["running"], number * 0),
        "run_hours": numbers(12000 + number * EVERY_MINUTES / 60, 1), "gateway_at": instants(at + np.timedelta64(5, "s")),
        "org_code": pick(list(LABORATORIES), machine), "deliver_on": days(weekly(window, at)),
    })  # fmt: skip
