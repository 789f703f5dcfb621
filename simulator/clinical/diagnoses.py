"""Diagnoses and prescriptions of the encounters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import CHRONIC, catalogue
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, codes, days, flags, instants, numbers, pick, stream
from simulator.clinical.encounters import Encounters
from simulator.clinical.window import Window


def make_diagnoses(enc: Encounters, cohort: Cohort, window: Window, seed: int) -> pa.Table:
    """Main diagnosis, then the chronic diseases that the doctor also codes."""
    rng = stream(seed, "diagnosis")
    cat, day = catalogue(), enc.start.astype(DAY)
    rows, condition = [np.arange(len(enc.who))], [enc.condition]
    known = [
        cohort.htn_on[enc.who] <= day, cohort.dm_on[enc.who] <= day, cohort.has_cvd[enc.who],
        cohort.has_ckd[enc.who], cohort.has_copd[enc.who],
    ]  # fmt: skip
    for name, has in zip(CHRONIC, known, strict=True):
        at = cat.chronic_at[name]
        also = np.flatnonzero(
            has & (enc.condition != at) & (rng.random(len(has)) < np.where(enc.klass == 2, 0.8, 0.35))
        )
        rows.append(also)
        condition.append(np.full(len(also), at))
    row, cond = np.concatenate(rows), np.concatenate(condition)
    order = np.argsort(row, kind="stable")
    row, cond = row[order], cond[order]
    first = np.searchsorted(row, row, side="left")
    at = enc.start[row] + (240 + 60 * (np.arange(len(row)) - first)).astype("timedelta64[s]")
    return pa.table({
        "encounter_id": enc.encounter_id.take(pa.array(row)), "seq": pa.array(np.arange(len(row)) - first + 1),
        "icd10_code": pick(cat.icd10, cond), "dx_name": pick(cat.name, cond), "dx_at": instants(at),
        "doctor_id": enc.doctor_id.take(pa.array(row)), "org_code": pa.array(enc.org[row].tolist(), pa.string()),
        "deliver_on": days(window.deliver_on(at)), "resident": pa.array(enc.who[row]),
    })  # fmt: skip


def _drug_lists(enc: Encounters, cohort: Cohort, drug_at: Mapping[str, int]) -> np.ndarray:
    """Up to three drugs per encounter (index into the drug list, -1 none): condition x regimen."""
    cat = catalogue()
    table = np.full((len(cat.icd10), 3), -1)
    for i, names in enumerate(cat.drugs):
        table[i, : len(names)] = [drug_at[name] for name in names[:3]]
    chosen = table[enc.condition]
    for key, regimen in (("htn", cohort.htn_regimen), ("dm", cohort.dm_regimen)):
        lists = np.full((4, 3), -1)
        for i, names in enumerate(cat.raw[f"{key}_regimens"]):
            lists[i, : len(names)] = [drug_at[name] for name in names]
        own = enc.condition == cat.chronic_at[key]
        chosen[own] = lists[regimen[enc.who[own]]]
    return chosen


def make_prescriptions(
    enc: Encounters, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int
) -> pa.Table:
    """One row per drug; the first of a condition is nearly always given, the others less often."""
    rng = stream(seed, "prescription")
    drugs = catalogue().raw["drugs"]
    names = list(drugs)
    listed = _drug_lists(enc, cohort, {name: i for i, name in enumerate(names)})
    size = len(enc.who)
    gets = rng.random(size) < np.select([enc.klass == 0, enc.klass == 1], [rates["prescribed"], 0.75], 0.9)
    given = (listed >= 0) & gets[:, None] & (rng.random((size, 3)) < np.array([0.95, 0.55, 0.3]))
    row, column = np.nonzero(given)
    drug = listed[row, column]
    first = np.searchsorted(row, row, side="left")
    at = enc.start[row] + np.where(enc.klass[row] == 2, 5400, 420).astype("timedelta64[s]")

    def of(key: str) -> np.ndarray:
        return np.array([drugs[name].get(key, 0) for name in names], dtype="float64")[drug]

    supplied = of("days")
    qty = np.maximum(np.ceil(of("qty") * supplied), 1)
    text = [drugs[name] for name in names]
    forms = [d.get("infusion", d["name"]) for d in text]
    drips = np.array(["infusion" in d for d in text])[drug] & (enc.klass[row] == 2)
    return pa.table({
        "rx_no": pc.binary_join_element_wise("RX", enc.encounter_id.take(pa.array(row)), ""),
        "item_no": pa.array(np.arange(len(row)) - first + 1), "encounter_id": enc.encounter_id.take(pa.array(row)),
        "rx_at": instants(at), "drug_code": pick([d["atc"] for d in text], drug),
        "drug_name": pick([d["name"] for d in text] + forms, np.where(drips, drug + len(text), drug)),
        "dose": numbers(of("dose"), 3), "dose_unit": pick([d["unit"] for d in text], drug),
        "freq_code": pick([d["freq"] for d in text], drug), "days": codes(supplied).cast(pa.int64()),
        "qty": numbers(qty, 1), "amount": numbers(qty * of("price"), 2), "is_antibiotic": flags(of("antibiotic") > 0),
        "is_infusion": flags(drips), "is_essential": flags(of("essential") > 0),
        "org_code": pa.array(enc.org[row].tolist(), pa.string()), "deliver_on": days(window.deliver_on(at)),
        "resident": pa.array(enc.who[row]),
    })  # fmt: skip
