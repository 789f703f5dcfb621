"""Faults of INS-001 to INS-015."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import instants
from simulator.faults.copies import changed
from simulator.faults.his_rows import Hand, hours

SETTLED, ITEM, DEDUCTION, PAGE = "settlement", "settlement_item", "deduction", "front_page"
MONEY = ("total_fee", "insurance_pay", "account_pay", "cash_pay")


def inject(hand: Hand) -> None:
    """All but those of stays, of which there are few: :func:`overlaps` and :func:`lists` go first."""
    settlements(hand)
    items(hand)
    deductions(hand)


def overlaps(hand: Hand) -> None:
    """Two stays of two people become those of one; the later one begins before the first ends."""
    world, group = hand.world, hand.text(SETTLED, "org_code", "encounter_id")
    stays = hand.old(SETTLED) & hand.has(SETTLED, ["21"], "med_type_code")
    start, end = world.array(SETTLED, "started_on"), world.array(SETTLED, "ended_on")
    names, person = hand.ids(SETTLED, "person_no"), hand.text(SETTLED, "person_no")
    once = hand.count(names.filter(pa.array(stays))) == 1
    alone = np.flatnonzero(stays)[once]
    wanted = int(world.rates["hospital_least"])
    found: list[int] = []
    for first in world.rng.permutation(alone).tolist():  # a few pairs among some hundred stays
        fits = alone[(start[alone] > start[first]) & (start[alone] < end[first])]
        free = [r for r in fits.tolist() if group[r] not in hand.used]
        if len(found) < wanted and free and group[first] not in hand.used:
            hand.used |= {group[first], group[free[0]]}
            world.put(SETTLED, np.array([free[0]]), person_no=person[first])
            found.append(free[0])
    hand.note(SETTLED, np.sort(np.array(found, dtype="int64")), "INS-003", "started_on,ended_on")


def settlements(hand: Hand) -> None:
    world, group, old = hand.world, hand.encounters(SETTLED), hand.old(SETTLED)
    total, cash = world.array(SETTLED, "total_fee"), world.array(SETTLED, "cash_pay")
    rows = hand.pick(SETTLED, "INS-001", old, group)
    world.put(SETTLED, rows, total_fee=np.round(total[rows] + 60, 2), cash_pay=np.round(cash[rows] + 60, 2))
    hand.note(SETTLED, rows, "INS-001", "total_fee")
    rows = hand.pick(SETTLED, "INS-002", old, group)
    world.put(SETTLED, rows, cash_pay=np.round(cash[rows] + 25, 2))
    hand.note(SETTLED, rows, "INS-002", "cash_pay")
    ended = world.array(SETTLED, "ended_on")
    rows = hand.pick(SETTLED, "INS-013", old, group)
    world.put(SETTLED, rows, settled_at=instants(ended[rows].astype("datetime64[s]") - hours(6)))
    hand.note(SETTLED, rows, "INS-013", "settled_at")
    rows = hand.pick(SETTLED, "INS-014", old, group)
    world.put(SETTLED, rows, encounter_id=[f"MZY{i:08}" for i in range(len(rows))])
    hand.note(SETTLED, rows, "INS-014", "encounter_id")
    rows = hand.pick(SETTLED, "INS-012", old & hand.has(SETTLED, ["11"], "med_type_code"), group)
    source = world.tables[SETTLED].take(pa.array(rows))
    back = {c: [-v for v in source[c].to_pylist()] for c in MONEY}
    names = [f"{i}T" for i in source["settlement_id"].to_pylist()]
    added = world.add(SETTLED, changed(source, settlement_id=names, is_refund=True, **back))
    hand.note(SETTLED, added, "INS-012", "refund_of_settlement_id")


def items(hand: Hand) -> None:
    world = hand.world
    at = hand.at(SETTLED, hand.ids(ITEM, "org_code", "settlement_id"), "org_code", "settlement_id")
    # the encounter by the settlement's own number: one of them may have lost its encounter already
    group, old = hand.ids(ITEM, "org_code", "settlement_id"), hand.old(ITEM)
    old &= ~np.isin(at, _used(hand))
    ended = world.array(SETTLED, "ended_on")[at].astype("datetime64[s]")
    rows = hand.pick(ITEM, "INS-004", old, group)
    world.put(ITEM, rows, fee_at=instants(ended[rows] + hours(60)))
    hand.note(ITEM, rows, "INS-004", "fee_at")
    rows = hand.pick(ITEM, "INS-005", old, group)
    world.put(ITEM, rows, fee_id=[f"FX{i:010}" for i in range(len(rows))])
    hand.note(ITEM, rows, "INS-005", "fee_id")
    rows = hand.pick(ITEM, "INS-006", old, group)
    amount, head = world.array(ITEM, "amount"), np.sort(at[rows])
    world.put(ITEM, rows, amount=np.round(amount[rows] + 30, 2))
    hand.note(ITEM, rows, "INS-006", "amount")
    for column in ("total_fee", "cash_pay"):  # the settlement goes along: what the insurance got adds up
        world.put(SETTLED, head, **{column: np.round(world.array(SETTLED, column)[head] + 30, 2)})


def _used(hand: Hand) -> np.ndarray:
    """Settlements whose encounter, or that themselves, have a fault already."""
    name = hand.text(SETTLED, "org_code", "encounter_id")
    lost = hand.has(SETTLED, [f"MZY{i:08}" for i in range(10_000)], "encounter_id")
    taken = np.array([n in hand.used for n in name.tolist()], dtype=bool)
    result: np.ndarray = np.flatnonzero(taken | lost)
    return result


def lists(hand: Hand) -> None:
    """The insurance's list against the hospital's own front page."""
    world, group = hand.world, hand.text(PAGE, "org_code", "inpatient_id")
    sent = hand.old(PAGE) & hand.has(PAGE, ["ins"], "version_code")
    most = hand.fair(sent)
    rows = hand.pick(PAGE, "INS-007", sent & ~hand.has(PAGE, ["C34.900"], "main_icd10_code"), group, most)
    world.put(PAGE, rows, main_icd10_code="C34.900", main_dx_name="肺恶性肿瘤")
    hand.note(PAGE, rows, "INS-007", "main_icd10_code")
    rows = hand.pick(PAGE, "INS-008", sent, group, most)
    out, come = hand.time(PAGE, "discharged_at"), hand.day(PAGE, "admitted_at")
    later = out[rows] + hours(48)
    stay = np.maximum((later.astype("datetime64[D]") - come[rows]).astype("int64"), 1).astype("float64")
    world.put(PAGE, rows, discharged_at=instants(later), los_days=stay)
    hand.note(PAGE, rows, "INS-008", "discharged_at")
    total, part = world.array(PAGE, "total_fee"), world.array(PAGE, "fee_treatment")
    rows = hand.pick(PAGE, "INS-009", sent, group, most)
    world.put(
        PAGE, rows, total_fee=np.round(total[rows] + 500, 2), fee_treatment=np.round(part[rows] + 500, 2)
    )
    hand.note(PAGE, rows, "INS-009", "total_fee")


def deductions(hand: Hand) -> None:
    world, group = hand.world, hand.ids(DEDUCTION, "org_code", "deduction_id")
    due, amount = world.array(DEDUCTION, "appeal_due_on"), world.array(DEDUCTION, "amount")
    old = hand.old(DEDUCTION)
    rows = hand.pick(DEDUCTION, "INS-010", old, group)
    world.put(DEDUCTION, rows, amount=np.round(amount[rows] * 10 + 1000, 2))
    hand.note(DEDUCTION, rows, "INS-010", "amount")
    rows = hand.pick(DEDUCTION, "INS-011", old, group)
    world.put(DEDUCTION, rows, final_amount=np.round(amount[rows] + 10, 2))
    hand.note(DEDUCTION, rows, "INS-011", "final_amount")
    rows = hand.pick(DEDUCTION, "INS-015", old & (due < hand.end - 2), group)
    world.put(
        DEDUCTION, rows, appealed_at=None, appeal_status_code="notified", decided_on=None, final_amount=None
    )
    hand.note(DEDUCTION, rows, "INS-015", "appealed_at")
