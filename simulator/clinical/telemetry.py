"""Home devices of managed patients: which archive a device is bound to, and what it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.archive import Archives
from simulator.clinical.cards import Care
from simulator.clinical.cohort import Cohort, blood_pressure
from simulator.clinical.draw import DAY, NO_DAY, days, instants, numbers, pick, serial_ids, stream
from simulator.clinical.followup import systolic_goal
from simulator.clinical.window import Window

KINDS = ("bp_monitor", "glucometer", "oximeter", "wristband")
PER_DAY = (2, 2, 2, 48)  # readings; a wristband sends every half hour
# metric: LOINC, unit (UCUM), decimals
METRICS = {
    "bp_monitor": [("8480-6", "mm[Hg]", 0), ("8462-4", "mm[Hg]", 0), ("8867-4", "/min", 0)],
    "glucometer": [("14745-4", "mmol/L", 1)],
    "oximeter": [("59408-5", "%", 0), ("8867-4", "/min", 0)],
    "wristband": [("8867-4", "/min", 0)],
}


@dataclass(frozen=True)
class _Devices:
    kind: np.ndarray
    person: np.ndarray
    drift: np.ndarray
    bound: np.ndarray


def _devices(
    rng: np.random.Generator, care: Care, cohort: Cohort, window: Window, rates: Mapping[str, Any]
) -> _Devices:
    active = np.isnat(care.ended) & np.isnat(cohort.death[care.who])
    person, kind = [], []
    for number, (wants, share) in enumerate((
        (~np.isnat(care.htn_from), rates["device"]["bp_monitor"]), (~np.isnat(care.dm_from), rates["device"]["glucometer"]),
        (cohort.has_copd[care.who], rates["device"]["oximeter"]), (np.full(len(care.who), True), rates["device"]["wristband"]),
    )):  # fmt: skip
        chosen = np.flatnonzero(active & wants & (rng.random(len(active)) < share))
        person.append(chosen)
        kind.append(np.full(len(chosen), number))
    who, kinds = np.concatenate(person), np.concatenate(kind)
    size = len(who)
    # Most clocks are within minutes; a few run hours off (never set, or set to UTC).
    drift = np.where(
        rng.random(size) < 0.06,
        rng.choice([-28800, 28800, -3600, 5400], size),
        rng.normal(0, 45, size).astype("int64"),
    )
    earliest = np.maximum(np.datetime64(window.history_start), np.fmin(care.htn_from, care.dm_from)[who])
    span = np.maximum((np.datetime64(window.history_end) - earliest).astype("int64"), 1)
    bound = earliest + (rng.random(size) * span).astype("int64").astype("timedelta64[D]")
    return _Devices(kinds, who, drift, bound)


def make_telemetry(
    care: Care, archives: Archives, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int
) -> tuple[pa.Table, pa.Table]:
    """`device_binding` and `vital_reading` (last days only); readings of the gateways that were offline come a day late."""
    rng = stream(seed, "telemetry")
    device = _devices(rng, care, cohort, window, rates)
    size = len(device.kind)
    ids = serial_ids(pick(["BP", "GL", "OX", "WB"], device.kind), np.arange(1, size + 1), 6)
    archive = archives.archive_id.take(pa.array(care.archive[device.person]))
    org = archives.org_code.take(pa.array(care.archive[device.person]))
    binding = _bindings(rng, device, care, archives, ids, archive, org, window)

    first = np.datetime64(window.history_end - timedelta(days=int(rates["telemetry_history_days"]) - 1))
    span = int((np.datetime64(window.horizon) - first).astype("int64")) + 1
    per_device = np.array(PER_DAY)[device.kind]
    dev = np.repeat(np.arange(size), per_device * span)
    nth = np.arange(len(dev)) - np.repeat(np.cumsum(per_device * span) - per_device * span, per_device * span)
    day, slot = nth // per_device[dev], nth % per_device[dev]
    wear = rng.random(len(dev)) < np.where(device.kind[dev] == 3, 0.85, 0.9)
    second = np.where(
        device.kind[dev] == 3,
        slot * 1800 + rng.integers(0, 60, len(dev)),
        (7 + slot * 12) * 3600 + rng.integers(0, 5400, len(dev)),
    )
    at = (first + day.astype("timedelta64[D]")).astype("datetime64[s]") + second.astype("timedelta64[s]")
    keep = wear & (at.astype(DAY) > device.bound[dev])  # bound at nine: the first night is not worn
    dev, nth, at = dev[keep], nth[keep], at[keep]
    offline = rng.random(size * span).reshape(size, span)[dev, nth // per_device[dev]] < 0.03
    gateway = (
        at
        + rng.integers(1, 20, len(dev)).astype("timedelta64[s]")
        + np.where(offline, 86400, 0).astype("timedelta64[s]")
    )
    table = _readings(rng, device, care, cohort, ids, dev, nth, at, gateway, org, window)
    return binding, table


def _readings(
    rng: np.random.Generator, device: _Devices, care: Care, cohort: Cohort, ids: pa.Array, dev: np.ndarray, nth: np.ndarray,
    at: np.ndarray, gateway: np.ndarray, org: pa.Array, window: Window,
) -> pa.Table:  # fmt: skip
    who, kind = care.who[device.person[dev]], device.kind[dev]
    sbp, dbp = blood_pressure(
        cohort, who, at.astype(DAY), systolic_goal(cohort.age[who]), rng.normal(size=(2, len(dev))), 4.0
    )
    hour = (at.astype("int64") // 3600) % 24
    pulse = np.round(cohort.heart_rate[who] + rng.normal(0, 6, len(dev)) - np.where(hour < 6, 10, 0))
    sugar = np.round(np.clip(6.6 + 0.9 * cohort.sugar[who] + rng.normal(0, 1.1, len(dev)), 3.1, 22), 1)
    oxygen = np.round(np.clip(rng.normal(94.5, 2.0, len(dev)), 82, 100))
    source = {"8480-6": sbp, "8462-4": dbp, "8867-4": pulse, "14745-4": sugar, "59408-5": oxygen}
    battery = np.round(np.clip(98 - (nth % 400) * 0.2, 4, 98), 0)
    quality = np.searchsorted([0.965, 0.992], rng.random(len(dev)), side="right")
    parts = []
    for number, name in enumerate(KINDS):
        rows = np.flatnonzero(kind == number)
        for metric, unit, decimals in METRICS[name]:
            parts.append(pa.table({
                "device_id": ids.take(pa.array(dev[rows])), "seq": pa.array(nth[rows] + 1),
                "metric_code": pick([metric], np.zeros(len(rows), dtype="int64")),
                "value": numbers(source[metric][rows], decimals), "unit": pick([unit], np.zeros(len(rows), dtype="int64")),
                "device_at": instants(at[rows] + device.drift[dev[rows]].astype("timedelta64[s]")),
                "gateway_at": instants(gateway[rows]),
                "quality_code": pick(["good", "suspect", "bad"], quality[rows]), "battery_pct": numbers(battery[rows]),
                "org_code": org.take(pa.array(dev[rows])),
                "deliver_on": days(window.deliver_on(gateway[rows])), "resident": pa.array(who[rows]),
            }))  # fmt: skip
    return pa.concat_tables(parts)


def _bindings(
    rng: np.random.Generator, device: _Devices, care: Care, archives: Archives, ids: pa.Array, archive: pa.Array,
    org: pa.Array, window: Window,
) -> pa.Table:  # fmt: skip
    """One open binding per device; some devices had another owner at the same centre before."""
    size = len(device.kind)
    bound = device.bound.astype("datetime64[s]") + np.timedelta64(9, "h")
    current = pa.table({
        "device_id": ids, "archive_id": archive, "device_kind_code": pick(KINDS, device.kind), "valid_from": instants(bound),
        "valid_to": instants(np.full(size, NO_DAY).astype("datetime64[s]")), "org_code": org,
        "deliver_on": days(window.deliver_on(device.bound)),
    })  # fmt: skip
    codes = np.asarray(archives.org_code.to_pylist(), dtype=object)[care.archive]
    previous = np.flatnonzero(rng.random(size) < 0.08)
    others = (device.person[previous] + 1) % max(len(care.who), 1)
    same = codes[others] == codes[device.person[previous]]
    previous, others = previous[same], others[same]
    begun = bound[previous] - rng.integers(60, 400, len(previous)).astype("timedelta64[D]")
    former = pa.table({
        "device_id": ids.take(pa.array(previous)), "archive_id": archives.archive_id.take(pa.array(care.archive[others])),
        "device_kind_code": pick(KINDS, device.kind[previous]), "valid_from": instants(begun),
        "valid_to": instants(bound[previous] - np.timedelta64(86400, "s")), "org_code": org.take(pa.array(previous)),
        "deliver_on": days(window.deliver_on(device.bound[previous])),
    })  # fmt: skip
    return pa.concat_tables([former, current])
