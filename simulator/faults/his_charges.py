"""Faults of HIS-009 to HIS-012 and HIS-014 to HIS-019: charges and front pages."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.clinical.front_page import READMITTED_WITHIN
from simulator.faults.copies import changed
from simulator.faults.his_rows import Hand, hours

ENC, FEE, PAGE = "encounter", "fee_item", "front_page"


def inject(hand: Hand) -> None:
    world, group = hand.world, hand.encounters(FEE)
    price = world.array(FEE, "unit_price")
    rows = hand.pick(FEE, "HIS-009", hand.old(FEE), group)
    world.put(FEE, rows, unit_price=np.round(price[rows] + 1.5, 2))
    hand.note(FEE, rows, "HIS-009", "unit_price")
    rows = hand.pick(FEE, "HIS-010", hand.old(FEE), group)
    ended = _ends(hand, group.take(pa.array(rows)))
    world.put(FEE, rows, fee_at=instants(ended + hours(30)))
    hand.note(FEE, rows, "HIS-010", "fee_at")
    unsettled = ~hand.has(FEE, hand.encounters("settlement"), "org_code", "encounter_id")
    rows = hand.pick(
        FEE, "HIS-012", hand.old(FEE) & unsettled & hand.has(FEE, ["01"], "fee_category_code"), group
    )
    qty, amount = world.array(FEE, "qty"), world.array(FEE, "amount")
    more = np.round(price[rows] + 50, 2)
    world.put(FEE, rows, unit_price=more, amount=np.round(amount[rows] + qty[rows] * 50, 2))
    _note_visits(hand, group.take(pa.array(rows)), "HIS-012")
    _reversals(hand, group)


def _ends(hand: Hand, visits: pa.Array) -> np.ndarray:
    """When each visit ended, by the version that knows it."""
    over = np.flatnonzero(~np.isnat(hand.time(ENC, "ended_at")))
    known = hand.encounters(ENC).take(pa.array(over))
    at = over[pc.index_in(visits, known).to_numpy(zero_copy_only=False).astype("int64")]
    result: np.ndarray = hand.time(ENC, "ended_at")[at]
    return result


def _note_visits(hand: Hand, visits: pa.Array, rule: str) -> None:
    """Log the encounters, each once."""
    rows = np.flatnonzero(
        hand.has(ENC, visits, "org_code", "encounter_id") & ~np.isnat(hand.time(ENC, "ended_at"))
    )
    hand.note(ENC, rows, rule, "total_fee")


def _reversals(hand: Hand, group: pa.Array) -> None:
    """A charge taken back by a negative one that does not say what it takes back; charged again, so the sum stays."""
    world = hand.world
    source = world.tables[FEE].take(pa.array(hand.pick(FEE, "HIS-011", hand.old(FEE), group)))
    ids, amount, qty = source["fee_id"].to_pylist(), source["amount"].to_pylist(), source["qty"].to_pylist()
    back = changed(source, fee_id=[f"{i}N" for i in ids], amount=[-a for a in amount], qty=[-q for q in qty])
    added = world.add(FEE, back)
    world.add(FEE, changed(source, fee_id=[f"{i}P" for i in ids]))
    hand.note(FEE, added, "HIS-011", "reversal_of_fee_id")


def pages(hand: Hand) -> None:
    """Front pages; there are few, so this goes before what can be put into any encounter."""
    world, group = hand.world, hand.text(PAGE, "org_code", "inpatient_id")
    own = hand.old(PAGE) & hand.has(PAGE, ["hqms"], "version_code")
    _readmissions(hand, own, group)
    most = hand.fair(own)
    parts, los = world.array(PAGE, "fee_lab"), world.array(PAGE, "los_days")
    rows = hand.pick(PAGE, "HIS-014", own, group, most)
    world.put(PAGE, rows, fee_lab=np.round(parts[rows] + 100, 2))
    hand.note(PAGE, rows, "HIS-014", "fee_lab")
    rows = hand.pick(PAGE, "HIS-015", own, group, most)
    world.put(PAGE, rows, los_days=los[rows] + 3)
    hand.note(PAGE, rows, "HIS-015", "los_days")
    rows = hand.pick(PAGE, "HIS-016", own, group, most)
    world.put(PAGE, _both(hand, rows), main_icd10_code="Z51.800", main_dx_name="其他特指医疗照顾")
    hand.note(PAGE, rows, "HIS-016", "main_icd10_code")
    rows = hand.pick(PAGE, "HIS-017", own, group, most)
    both = _both(hand, rows)
    days = (hand.day(PAGE, "discharged_at") + 1 - hand.day(PAGE, "admitted_at")).astype("int64")
    later = instants(hand.time(PAGE, "discharged_at")[both] + hours(24))
    world.put(PAGE, both, discharged_at=later, los_days=np.maximum(days, 1)[both].astype("float64"))
    hand.note(PAGE, rows, "HIS-017", "discharged_at")
    age = world.array(PAGE, "age_years")
    rows = hand.pick(PAGE, "HIS-018", own & (age >= 1), group, most)
    world.put(PAGE, rows, age_years=age[rows] + 5)
    hand.note(PAGE, rows, "HIS-018", "age_years")


def _both(hand: Hand, rows: np.ndarray) -> np.ndarray:
    """Rows of both versions of the pages."""
    ids = hand.ids(PAGE, "org_code", "inpatient_id").take(pa.array(rows))
    result: np.ndarray = np.flatnonzero(hand.has(PAGE, ids, "org_code", "inpatient_id"))
    return result


def _readmissions(hand: Hand, own: np.ndarray, group: np.ndarray) -> None:
    """Two stays of two people who were in hospital once become two of one, the first without a plan."""
    world = hand.world
    alone = np.flatnonzero(
        own & (hand.count(hand.ids(PAGE, "org_code", "patient_local_id")) == 2)
    )  # two versions of one stay
    start, end = hand.day(PAGE, "admitted_at"), hand.day(PAGE, "discharged_at")
    org, wanted = hand.text(PAGE, "org_code"), int(world.rates["hospital_least"])
    found: list[int] = []
    for first in world.rng.permutation(alone).tolist():  # a few pairs among some hundred stays
        gap = (start[alone] - end[first]).astype("int64")
        fitting = alone[(org[alone] == org[first]) & (gap > 0) & (gap < READMITTED_WITHIN)]
        free = [r for r in fitting.tolist() if group[r] not in hand.used]
        if len(found) < wanted and free and group[first] not in hand.used:
            hand.used |= {group[first], group[free[0]]}
            local = hand.text(PAGE, "patient_local_id")[first]
            world.put(PAGE, _both(hand, np.array([free[0]])), patient_local_id=local)
            found.append(first)
    rows = np.sort(np.array(found, dtype="int64"))
    world.put(PAGE, rows, is_readmit31_planned=False)
    hand.note(PAGE, rows, "HIS-019", "is_readmit31_planned")
