"""Charges of the encounters of the last weeks: what the charging system of a HIS delivers beside the encounter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import CLASSES
from simulator.clinical.draw import DAY, instants, numbers, pick, serial_ids
from simulator.clinical.encounters import Encounters
from simulator.clinical.window import Window

#: Category (fee_category), local code, name, share of the bill by class AMB, EMER, IMP. The last takes what is left over.
ITEMS = [
    ("01", "F0101", "诊查费", 0.08, 0.05, 0.06),
    ("03", "F0301", "护理费", 0.0, 0.0, 0.12),
    ("06", "F0601", "检验费", 0.25, 0.30, 0.15),
    ("07", "F0701", "影像检查费", 0.0, 0.20, 0.12),
    ("13", "F1301", "西药费", 0.45, 0.30, 0.25),
    ("09", "F0901", "治疗费", 0.22, 0.15, 0.30),
]


#: Institutions whose charging, insurance and pharmacy systems are connected so far: the hospitals and some centres.
CONNECTED = ("H001", "H101", "H102", "H103", "H104", "H105", "C201", "C202", "C203", "C210")


@dataclass(frozen=True)
class Bills:
    """The finished encounters of the window, one entry each; money in cents.

    ``at`` indexes the vectors of :class:`Encounters`; ``parts`` is encounters x :data:`ITEMS`.
    """

    rows: pa.Table
    at: np.ndarray
    klass: np.ndarray
    start: np.ndarray
    end: np.ndarray
    total: np.ndarray
    paid: np.ndarray
    parts: np.ndarray


def key(org: pa.ChunkedArray | pa.Array, local: pa.ChunkedArray | pa.Array) -> pa.Array:
    """``org|id``: an id is one within its institution alone."""
    flat = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in (org, local)]
    return pc.binary_join_element_wise(*flat, "|")


def make_bills(enc: Encounters, window: Window, rates: Mapping[str, Any], rng: np.random.Generator) -> Bills:
    """Finished encounters that began in the last ``operations_history_days``, with their bill split into items."""
    since = np.datetime64(window.history_end - timedelta(days=int(rates["operations_history_days"]) - 1))
    begun = enc.table["started_at"].combine_chunks().to_numpy(zero_copy_only=False).astype("datetime64[s]")
    over = pc.is_valid(enc.table["ended_at"]).to_numpy() & (begun.astype(DAY) >= since)
    over &= pc.is_in(enc.table["org_code"], pa.array(CONNECTED)).to_numpy()
    rows = enc.table.filter(pa.array(over)).combine_chunks()
    known = key(pa.array(enc.org.tolist(), pa.string()), enc.encounter_id)
    at = pc.index_in(key(rows["org_code"], rows["encounter_id"]), known).to_numpy(zero_copy_only=False)
    total = np.round(rows["total_fee"].to_numpy() * 100).astype("int64")
    klass = enc.klass[at]
    share = np.array([i[3:] for i in ITEMS]).T[klass] * rng.uniform(0.7, 1.3, (len(at), len(ITEMS)))
    parts = (total[:, None] * share / share.sum(axis=1, keepdims=True)).astype("int64")
    parts[:, -1] = total - parts[:, :-1].sum(axis=1)
    return Bills(
        rows, at, klass, enc.start[at], enc.end[at], total,
        np.round(rows["insurance_pay"].to_numpy() * 100).astype("int64"), parts,
    )  # fmt: skip


def make_fee_items(bills: Bills, rng: np.random.Generator) -> pa.Table:
    """``fee_item``: a row per part of a bill; amount = quantity x price to the cent."""
    row, item = np.nonzero(bills.parts)
    cents = bills.parts[row, item]
    qty = np.where((item < len(ITEMS) - 1) & (cents >= 300), rng.integers(1, 4, len(row)), 1)
    qty = np.where(cents % qty == 0, qty, 1)
    stay = (bills.end - bills.start)[row].astype("int64")
    at = bills.start[row] + (stay * rng.uniform(0.05, 0.95, len(row))).astype("int64").astype(
        "timedelta64[s]"
    )
    head = bills.rows.take(pa.array(row))
    number = serial_ids("", item + 1, 2)
    return pa.table({
        "fee_id": pc.binary_join_element_wise("F", head["encounter_id"].combine_chunks(), number, ""),
        "encounter_id": head["encounter_id"], "patient_local_id": head["patient_local_id"], "fee_at": instants(at),
        "item_code_local": pick([i[1] for i in ITEMS], item), "item_name": pick([i[2] for i in ITEMS], item),
        "fee_category_code": pick([i[0] for i in ITEMS], item), "qty": numbers(qty, 1),
        "unit_price": numbers(cents / qty / 100, 2), "amount": numbers(cents / 100, 2),
        "dept_code": head["dept_code"], "doctor_id": head["doctor_id"],
        "reversal_of_fee_id": pa.nulls(len(row), pa.string()), "source_updated_at": head["source_updated_at"],
        "org_code": head["org_code"], "deliver_on": head["deliver_on"], "resident": head["resident"],
    })  # fmt: skip


def class_codes(bills: Bills) -> np.ndarray:
    """Class code of each bill."""
    return np.array(CLASSES, dtype=object)[bills.klass]
