"""Critical values with their loop, and internal quality control of the laboratories."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY, days, flags, instants, numbers, pick
from simulator.clinical.fees import key
from simulator.clinical.physiology import laboratory
from simulator.clinical.window import Window, weekly

CONTROLLED = ("WBC", "HGB", "K", "ALT", "CREA", "FPG")
LEVELS = ("1", "2")
LABORATORIES = ("H001", "H101", "H102", "H103", "H104", "H105")
CONTROL_DAYS = 20
#: Minutes after detection: confirmed, notified, received, read, acted, written, closed (least and most).
STEPS = {
    "confirmed_at": (1, 3), "notified_at": (4, 7), "receipt_at": (8, 10), "doctor_read_at": (11, 14), "action_at": (15, 25),
    "emr_recorded_at": (30, 60), "closed_at": (61, 90),
}  # fmt: skip


def make_critical_values(
    reports: pa.Table, results: pa.Table, window: Window, rates: Mapping[str, Any], rng: np.random.Generator
) -> pa.Table:
    """``critical_value_event``: every result beyond a critical limit that was reported in the last weeks."""
    since = np.datetime64(window.history_end - timedelta(days=int(rates["critical_history_days"]) - 1))
    marked = results.filter(pc.is_in(results["abnormal_flag"], pa.array(["LL", "HH"])))
    at = pc.index_in(
        key(marked["org_code"], marked["report_id"]), key(reports["org_code"], reports["report_id"])
    )
    head = reports.take(at)
    reported = head["reported_at"].combine_chunks().to_numpy(zero_copy_only=False).astype("datetime64[s]")
    recent = pa.array(reported.astype(DAY) >= since)
    marked, head, reported = (
        marked.filter(recent),
        head.filter(recent),
        reported[recent.to_numpy(zero_copy_only=False)],
    )
    detected = reported - np.timedelta64(1500, "s")
    steps = {
        name: instants(
            detected + rng.integers(60 * low, 60 * high + 1, len(detected)).astype("timedelta64[s]")
        )
        for name, (low, high) in STEPS.items()
    }
    none = np.zeros(len(detected), dtype="int64")
    seq = marked["seq"].combine_chunks().cast(pa.string())
    return pa.table({
        "event_id": pc.binary_join_element_wise("CV", marked["report_id"].combine_chunks(), seq, ""),
        "source_kind_code": pick(["lab"], none), "report_id": marked["report_id"], "item_code": marked["item_code"],
        "item_name": marked["item_name"], "value_text": marked["value_text"], "unit": marked["unit"],
        "patient_local_id": head["patient_local_id"], "encounter_id": head["encounter_id"], "detected_at": instants(detected),
        **steps, "notify_way_code": pick(["system"], none), "action_text": pick(["已处置，复查"], none),
        "status_code": pick(["closed"], none), "source_updated_at": steps["closed_at"], "org_code": marked["org_code"],
        "deliver_on": marked["deliver_on"], "resident": marked["resident"],
    })  # fmt: skip


def make_quality_control(window: Window, rng: np.random.Generator) -> pa.Table:
    """``qc_result``: two levels of six items in each laboratory every morning, all in control."""
    begin = np.datetime64(window.history_end - timedelta(days=CONTROL_DAYS - 1))
    dates = np.arange(begin, np.datetime64(window.horizon) + 1, dtype=DAY)
    shape = (len(dates), len(LABORATORIES), len(CONTROLLED), len(LEVELS))
    day, lab, item, level = (a.ravel() for a in np.indices(shape))
    at = dates[day].astype("datetime64[s]") + (6 * 3600 + 60 * (item * 2 + level)).astype("timedelta64[s]")
    items = [laboratory()["items"][c] for c in CONTROLLED]
    target = np.array([i["mean"][0] for i in items])[item] * np.array([1.0, 1.8])[level]
    sd = np.round(target * 0.02, 4)
    z = np.clip(rng.normal(0, 0.8, len(day)), -1.9, 1.9)
    measured = np.round(target + z * sd, 4)
    return pa.table({
        "instrument_id": pick([f"AN-{c}-01" for c in LABORATORIES], lab), "item_code": pick(list(CONTROLLED), item),
        "level_code": pick(list(LEVELS), level), "run_at": instants(at), "item_name": pick([i["name"] for i in items], item),
        "target": numbers(target, 4), "sd": numbers(sd, 4), "measured": numbers(measured, 4),
        "unit": pick([i["unit"] for i in items], item), "z_score": numbers((measured - target) / sd, 2),
        "is_in_control": flags(day >= 0), "corrective_text": pa.nulls(len(day), pa.string()),
        "org_code": pick(list(LABORATORIES), lab), "deliver_on": days(weekly(window, dates[day])),
    })  # fmt: skip
