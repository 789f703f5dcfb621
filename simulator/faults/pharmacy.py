"""Faults of PHM-001 to PHM-013."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days, instants
from simulator.faults.his_rows import Hand, hours

IN, OUT, STOCK, TRACE = "stock_in", "stock_out", "stock_snapshot", "drug_trace"


def inject(hand: Hand) -> None:
    stock(hand)
    received(hand)
    dispensed(hand)
    traced(hand)


def stock(hand: Hand) -> None:
    """Counts after the first: that one is the base of those that follow."""
    world = hand.world
    group = "b|" + hand.text(STOCK, "org_code", "drug_code_local").astype(object)
    later = hand.known(STOCK) & ~hand.old(STOCK)
    qty, on = world.array(STOCK, "qty"), world.array(STOCK, "snapshot_on")
    rows = hand.pick(STOCK, "PHM-001", later, group)
    world.put(STOCK, rows, qty=-np.ceil(np.abs(qty[rows]) / 10) - 1)
    hand.note(STOCK, rows, "PHM-001", "qty")
    rows = hand.pick(STOCK, "PHM-002", later, group)
    world.put(STOCK, rows, qty=qty[rows] + 20)
    hand.note(STOCK, rows, "PHM-002", "qty")
    rows = hand.pick(STOCK, "PHM-007", hand.known(STOCK) & (qty > 0), group)
    world.put(STOCK, rows, expires_on=days(on[rows] - 10))
    hand.note(STOCK, rows, "PHM-007", "expires_on")


def received(hand: Hand) -> None:
    world, old = hand.world, hand.old(IN)
    group = "b|" + hand.text(IN, "org_code", "drug_code_local").astype(object)
    expires, price = world.array(IN, "expires_on"), world.array(IN, "retail_price")
    rows = hand.pick(IN, "PHM-008", old, group)
    world.put(IN, rows, made_on=days(expires[rows] + 1))
    hand.note(IN, rows, "PHM-008", "made_on")
    rows = hand.pick(IN, "PHM-011", old, group)
    world.put(IN, rows, retail_price=np.round(price[rows] * 1.15 + 0.05, 2))
    hand.note(IN, rows, "PHM-011", "retail_price")
    rows = hand.pick(IN, "PHM-013", old, group)
    world.put(IN, rows, is_cold_chain_ok=False)
    hand.note(IN, rows, "PHM-013", "is_cold_chain_ok")


def dispensed(hand: Hand) -> None:
    """Lines of the history, days before its end: the counts begin with what was issued until then."""
    world, group = hand.world, hand.encounters(OUT)
    at, expires = hand.time(OUT, "out_at"), world.array(OUT, "expires_on")
    old = hand.old(OUT) & (at.astype("datetime64[D]") < hand.history_end - 2)
    for rule, offset in (("PHM-003", None), ("PHM-012", 365)):
        rows = hand.pick(OUT, rule, old, group)
        value = at[rows].astype("datetime64[D]") - 20 if offset is None else expires[rows] + offset
        world.put(OUT, rows, expires_on=days(value))
        hand.note(OUT, rows, rule, "expires_on")
    rows = hand.pick(OUT, "PHM-004", old, group)
    world.put(OUT, rows, rx_no=[f"RXMZX{i:08}" for i in range(len(rows))])
    hand.note(OUT, rows, "PHM-004", "rx_no")
    rows = hand.pick(OUT, "PHM-006", old, group)
    world.put(OUT, rows, batch_no=[f"X{i:08}" for i in range(len(rows))])
    hand.note(OUT, rows, "PHM-006", "batch_no")
    rows = hand.pick(OUT, "PHM-009", old, group)
    world.put(OUT, rows, out_at=instants(at[rows] - hours(2)))
    hand.note(OUT, rows, "PHM-009", "out_at")
    qty, price = world.array(OUT, "qty"), world.array(OUT, "retail_price")
    rows = hand.pick(OUT, "PHM-010", old, group)
    world.put(OUT, rows, qty=qty[rows] * 2, amount=np.round(qty[rows] * 2 * price[rows], 2))
    hand.note(OUT, rows, "PHM-010", "qty")


def traced(hand: Hand) -> None:
    """A box that was sold before, of the same medicine, is scanned once more."""
    world = hand.world
    at, drug, code = (
        hand.time(TRACE, "event_at"),
        hand.text(TRACE, "drug_code_local"),
        hand.text(TRACE, "trace_code"),
    )
    order = np.argsort(at, kind="stable")
    known = hand.known(TRACE)
    earliest: dict[str, int] = {}
    for row in order.tolist():  # the first sale of each medicine
        earliest.setdefault(drug[row], row)
    source = np.array([earliest[d] for d in drug.tolist()], dtype="int64")
    rows = hand.pick(TRACE, "PHM-005", known & (at > at[source]), drug if len(drug) else None)
    world.put(TRACE, rows, trace_code=pa.array(list(code[source[rows]]), pa.string()))
    hand.note(TRACE, rows, "PHM-005", "trace_code")
