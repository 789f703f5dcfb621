"""Medicines in the pharmacies: received, dispensed to prescriptions, counted at the end of each day, traced by code."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import catalogue
from simulator.clinical.draw import DAY, days, flags, instants, numbers, pick, serial_ids
from simulator.clinical.fees import CONNECTED
from simulator.clinical.window import Window, weekly

DISPENSED_DAYS = 30  # of the history
STORE = "YF01"


def make_pharmacy(prescriptions: pa.Table, window: Window, rng: np.random.Generator) -> dict[str, pa.Table]:
    """``stock_in``, ``stock_out``, ``stock_snapshot``, ``drug_trace``; one batch per institution and drug."""
    begin = window.history_end - timedelta(days=DISPENSED_DAYS - 1)
    at = prescriptions["rx_at"].combine_chunks().to_numpy(zero_copy_only=False).astype("datetime64[s]")
    clinic = pc.invert(pc.starts_with(prescriptions["rx_no"], "RXZY")).to_numpy()
    clinic &= pc.is_in(prescriptions["org_code"], pa.array(CONNECTED)).to_numpy()
    rx = prescriptions.filter(pa.array(clinic & (at.astype(DAY) >= np.datetime64(begin)))).combine_chunks()
    drugs = list(catalogue().raw["drugs"].values())
    code = [d["atc"] for d in drugs]
    org_list = sorted(set(rx["org_code"].to_pylist()))
    drug = np.array([code.index(c) for c in rx["drug_code"].to_pylist()], dtype="int64")
    org = (
        pc.index_in(rx["org_code"].combine_chunks(), pa.array(org_list, pa.string()))
        .to_numpy(zero_copy_only=False)
        .astype("int64")
    )
    lot = org * len(drugs) + drug
    out_at = rx["rx_at"].combine_chunks().to_numpy(zero_copy_only=False).astype(
        "datetime64[s]"
    ) + np.timedelta64(1200, "s")
    lots, of = np.unique(lot, return_inverse=True)
    qty = rx["qty"].to_numpy()
    received = np.ceil(np.bincount(of, qty, minlength=len(lots))) + rng.integers(50, 500, len(lots))
    made = np.datetime64(begin) - rng.integers(60, 300, len(lots)).astype("timedelta64[D]")
    batch = _Batches(
        lots % len(drugs), lots // len(drugs), made, made + np.timedelta64(1095, "D"), drugs, org_list
    )
    out = _out(rx, batch, of, qty, out_at, window)
    return {
        "stock_in": _in(batch, received, begin, window), "stock_out": out,
        "stock_snapshot": _snapshots(batch, received, of, qty, out_at, window), "drug_trace": _trace(out, window),
    }  # fmt: skip


class _Batches:
    """Vectors of one entry per institution and drug."""

    def __init__(self, drug: np.ndarray, org: np.ndarray, made: np.ndarray, expires: np.ndarray, drugs: list[dict[str, object]],
                 orgs: list[str]) -> None:  # fmt: skip
        self.size, self.made, self.expires = len(drug), made, expires
        self.price = np.array([float(str(drugs[i]["price"])) for i in drug])
        stamp = pc.replace_substring(pc.cast(days(made), pa.string()), "-", "")
        self.org = pick(orgs, org)
        self.what = {
            "drug_code": pick([d["atc"] for d in drugs], drug), "drug_code_local": serial_ids("YP", drug + 1, 5),
            "drug_name": pick([d["name"] for d in drugs], drug),
            "batch_no": pc.binary_join_element_wise(stamp, serial_ids("", drug + 1, 3), ""),
        }  # fmt: skip

    def taken(self, at: np.ndarray) -> dict[str, pa.Array]:
        return {name: column.take(pa.array(at)) for name, column in self.what.items()}


def _in(batch: _Batches, received: np.ndarray, begin: object, window: Window) -> pa.Table:
    day = np.full(batch.size, np.datetime64(begin) - 1)  # type: ignore[call-overload]
    every = np.arange(batch.size)
    return pa.table({
        "doc_no": pc.binary_join_element_wise("RK", batch.org, ""), "line_no": pa.array(every + 1), "received_on": days(day),
        "store_code": pick([STORE], every * 0), "supplier": pick(["湖城医药有限公司"], every * 0), **batch.what,
        "made_on": days(batch.made), "expires_on": days(batch.expires), "qty": numbers(received, 1),
        "purchase_price": numbers(batch.price, 2), "retail_price": numbers(batch.price, 2),
        "amount": numbers(received * batch.price, 2), "procurement_type_code": pick(["collective", "online"], every % 2),
        "is_cold_chain_ok": flags(every >= 0), "org_code": batch.org, "deliver_on": days(window.deliver_on(day)),
    })  # fmt: skip


def _out(
    rx: pa.Table, batch: _Batches, of: np.ndarray, qty: np.ndarray, at: np.ndarray, window: Window
) -> pa.Table:
    """A line per item of a prescription, minutes after it; its code is scanned once."""
    price = batch.price[of]
    org, rx_no, item_no = (rx[c].combine_chunks().cast(pa.string()) for c in ("org_code", "rx_no", "item_no"))
    code = pc.binary_join_element_wise("8", pc.utf8_slice_codeunits(org, 1, 4), rx_no, item_no, "")
    return pa.table({
        "doc_no": pc.binary_join_element_wise("CK", rx["rx_no"].combine_chunks(), ""), "line_no": rx["item_no"],
        "out_type_code": pick(["outpatient"], of * 0), "out_at": instants(at), "store_code": pick([STORE], of * 0),
        "rx_no": rx["rx_no"], "encounter_id": rx["encounter_id"], **batch.taken(of), "expires_on": days(batch.expires[of]),
        "qty": numbers(qty, 1), "retail_price": numbers(price, 2), "amount": numbers(np.round(qty * price, 2), 2),
        "trace_codes": code, "org_code": rx["org_code"], "deliver_on": days(window.deliver_on(at)), "resident": rx["resident"],
    })  # fmt: skip


def _snapshots(
    batch: _Batches, received: np.ndarray, of: np.ndarray, qty: np.ndarray, at: np.ndarray, window: Window
) -> pa.Table:
    """What is left at the end of the history and of every day after it: received less dispensed."""
    dates = np.arange(np.datetime64(window.history_end), np.datetime64(window.horizon) + 1, dtype=DAY)
    left = np.stack(
        [received - np.bincount(of, qty * (at.astype(DAY) <= d), minlength=batch.size) for d in dates]
    )
    at_date, lot = (
        np.divmod(np.arange(left.size), batch.size) if batch.size else (np.zeros(0, int), np.zeros(0, int))
    )
    day, amount = dates[at_date], np.round(left.ravel(), 1)
    return pa.table({
        "snapshot_on": days(day), "store_code": pick([STORE], lot * 0), **batch.taken(lot),
        "expires_on": days(batch.expires[lot]), "qty": numbers(amount, 1), "retail_price": numbers(batch.price[lot], 2),
        "is_locked": flags(lot < 0), "org_code": batch.org.take(pa.array(lot)), "deliver_on": days(window.deliver_on(day)),
    })  # fmt: skip


def _trace(out: pa.Table, window: Window) -> pa.Table:
    names = ["doc_no", "rx_no", "drug_code_local", "drug_name", "batch_no", "org_code", "resident"]
    sold = out["out_at"].combine_chunks().to_numpy(zero_copy_only=False)
    return pa.table({
        "trace_code": out["trace_codes"], "event_code": pick(["dispense"], np.zeros(out.num_rows, dtype="int64")),
        "event_at": out["out_at"], **{name: out[name] for name in names}, "deliver_on": days(weekly(window, sold)),
    })  # fmt: skip
