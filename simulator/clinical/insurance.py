"""Settlements with the insurance, their items, and what the insurance refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY, days, instants, numbers, pick, serial_ids
from simulator.clinical.fees import Bills
from simulator.clinical.window import Window, weekly

DEDUCTED = 0.03  # of the settlements of the first weeks
APPEAL_DAYS = 10


def _disjoint(bills: Bills, rows: np.ndarray) -> np.ndarray:
    """Rows without the stays that begin while the same person lies elsewhere: those are charged as one."""
    who = bills.rows["resident"].to_numpy()[rows]
    order = np.lexsort((bills.start[rows], who))
    rows, who = rows[order], who[order]
    stay = bills.klass[rows] == 2
    keep = np.ones(len(rows), dtype=bool)
    last: tuple[int, np.datetime64] | None = None
    for i in np.flatnonzero(
        stay
    ).tolist():  # a few hundred stays; whether one counts depends on the one before
        if last and last[0] == who[i] and bills.start[rows[i]].astype(DAY) < last[1]:
            keep[i] = False
        else:
            last = (int(who[i]), bills.end[rows[i]].astype(DAY))
    result: np.ndarray = np.sort(rows[keep])
    return result


def make_insurance(
    bills: Bills, fee_items: pa.Table, window: Window, rng: np.random.Generator
) -> dict[str, pa.Table]:
    """``settlement``, ``settlement_item`` and ``deduction`` of the bills that the insurance pays a part of."""
    rows = _disjoint(bills, np.flatnonzero(bills.paid > 0))
    head = bills.rows.take(pa.array(rows))
    total, paid = bills.total[rows], np.minimum(bills.paid[rows], bills.total[rows])
    account = ((total - paid) * rng.uniform(0, 0.6, len(rows))).astype("int64")
    settled = bills.end[rows] + np.timedelta64(900, "s")
    ids = pc.binary_join_element_wise("S", head["encounter_id"].combine_chunks(), "")
    settlement = pa.table({
        "settlement_id": ids, "encounter_id": head["encounter_id"], "patient_local_id": head["patient_local_id"],
        "person_no": serial_ids("42", head["resident"].to_numpy() + 1, 12),
        "insurance_type_code": pick(["390"], np.zeros(len(rows), dtype="int64")),
        "med_type_code": pick(["11", "13", "21"], bills.klass[rows]), "started_on": days(bills.start[rows]),
        "ended_on": days(bills.end[rows]), "settled_at": instants(settled), "total_fee": numbers(total / 100, 2),
        "insurance_pay": numbers(paid / 100, 2), "account_pay": numbers(account / 100, 2),
        "cash_pay": numbers((total - paid - account) / 100, 2),
        "is_refund": pa.array(np.zeros(len(rows), dtype=bool)), "refund_of_settlement_id": pa.nulls(len(rows), pa.string()),
        "source_updated_at": instants(settled), "org_code": head["org_code"],
        "deliver_on": days(window.deliver_on(settled)), "resident": head["resident"],
    })  # fmt: skip
    items = _items(settlement, fee_items)
    return {
        "settlement": settlement,
        "settlement_item": items,
        "deduction": _deductions(settlement, items, window, rng),
    }


def _items(settlement: pa.Table, fee_items: pa.Table) -> pa.Table:
    """One item per charge, under the number of the charge."""
    by = [pc.binary_join_element_wise(t["org_code"].combine_chunks(), t["encounter_id"].combine_chunks(), "|")
          for t in (fee_items, settlement)]  # fmt: skip
    at = pc.index_in(by[0], by[1])
    fees, at = fee_items.filter(pc.is_valid(at)), at.filter(pc.is_valid(at)).to_numpy()
    head = settlement.take(pa.array(at))
    first = np.searchsorted(at, at, side="left") if len(at) and (np.diff(at) >= 0).all() else _first(at)
    return pa.table({
        "settlement_id": head["settlement_id"], "seq": pa.array(np.arange(len(at)) - first + 1), "fee_id": fees["fee_id"],
        "fee_at": fees["fee_at"], "item_code_local": fees["item_code_local"], "item_name": fees["item_name"],
        "qty": fees["qty"], "unit_price": fees["unit_price"], "amount": fees["amount"], "in_scope_amount": fees["amount"],
        "doctor_id": fees["doctor_id"], "dept_code": fees["dept_code"], "source_updated_at": head["source_updated_at"],
        "org_code": head["org_code"], "deliver_on": head["deliver_on"], "resident": head["resident"],
    })  # fmt: skip


def _first(at: np.ndarray) -> np.ndarray:
    """Position of the first entry of each run of equal values."""
    starts = np.flatnonzero(np.r_[True, at[1:] != at[:-1]]) if len(at) else np.zeros(0, dtype="int64")
    result: np.ndarray = np.repeat(starts, np.diff(np.r_[starts, len(at)]))
    return result


def _deductions(settlement: pa.Table, items: pa.Table, window: Window, rng: np.random.Generator) -> pa.Table:
    """A part of one item of some older settlements is refused; all were appealed against and decided."""
    day = settlement["ended_on"].combine_chunks().cast(pa.int32()).to_numpy().astype(DAY)
    old = np.flatnonzero((day <= np.datetime64(window.history_end) - 14) & (rng.random(len(day)) < DEDUCTED))
    by = [pc.binary_join_element_wise(t["org_code"].combine_chunks(), t["settlement_id"].combine_chunks(), "|")
          for t in (settlement, items)]  # fmt: skip
    at = pc.index_in(by[0].take(pa.array(old)), by[1]).to_numpy(zero_copy_only=False).astype("int64")
    item, head, noticed = items.take(pa.array(at)), settlement.take(pa.array(old)), day[old] + 5
    amount = np.floor(item["amount"].to_numpy() * rng.uniform(0.2, 0.9, len(at)) * 100) / 100
    appealed = noticed.astype("datetime64[s]") + np.timedelta64(86400 * 3 + 36000, "s")
    return pa.table({
        "deduction_id": pc.binary_join_element_wise("KK", head["settlement_id"].combine_chunks(), ""),
        "settlement_id": head["settlement_id"], "encounter_id": head["encounter_id"], "item_name": item["item_name"],
        "violation_rule": pick(["超限定支付范围", "重复收费"], (np.arange(len(at)) % 2)), "amount": numbers(amount, 2),
        "noticed_on": days(noticed), "appeal_due_on": days(noticed + APPEAL_DAYS), "appealed_at": instants(appealed),
        "appeal_status_code": pick(["upheld"], np.zeros(len(at), dtype="int64")), "decided_on": days(noticed + 8),
        "final_amount": numbers(np.floor(amount * 50) / 100, 2), "source_updated_at": instants(appealed),
        "org_code": head["org_code"], "deliver_on": days(weekly(window, noticed + 8)), "resident": head["resident"],
    })  # fmt: skip
