"""Faults of IOT-001 to IOT-011. Rules judge days of machines; the faults are in their readings."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.faults.copies import changed
from simulator.faults.his_rows import Hand, hours

READING, BINDING, COLD, POWER = "vital_reading", "device_binding", "cold_chain_reading", "equipment_reading"


def inject(hand: Hand) -> None:
    bindings(hand)
    wearables(hand)
    refrigerators(hand)
    analysers(hand)


def _days(hand: Hand, table: str, device: str) -> np.ndarray:
    """``device|day`` of each reading, as the rules print it."""
    day = hand.day(table, "device_at").astype(str)
    result: np.ndarray = hand.text(table, device).astype(object) + "|" + day.astype(object)
    return result


def _note(
    hand: Hand, table: str, judged: str, names: np.ndarray, rows: np.ndarray, rule: str, fields: str
) -> None:
    """Log the machine days of the rows, each once, under the first delivery that held them."""
    delivered = hand.known(table)
    rows = rows[delivered[rows]]
    keys, first = np.unique(names[rows].astype(str), return_index=True)
    chosen = hand.world.tables[table].take(pa.array(rows[first]))
    hand.note_as(
        table,
        judged,
        chosen["org_code"].to_pylist(),
        keys.tolist(),
        chosen["deliver_on"].to_pylist(),
        rule,
        fields,
    )


def _machine_days(hand: Hand, table: str, names: np.ndarray, usable: np.ndarray, least: int) -> np.ndarray:
    """First reading of each machine day that has at least so many readings, all delivered with the history."""
    found, first, of, count = np.unique(
        names.astype(str), return_index=True, return_inverse=True, return_counts=True
    )
    good = np.bincount(of, usable, minlength=len(found)) >= np.maximum(count, least)
    out = np.zeros(len(names), dtype=bool)
    out[first[good]] = True
    return out


def bindings(hand: Hand) -> None:
    """Owners of long ago: a binding that ends before it begins, one that was never taken back. And devices of nobody."""
    world, group = hand.world, hand.ids(BINDING, "device_id")
    start, open_ = (
        hand.time(BINDING, "valid_from"),
        np.isnat(hand.time(BINDING, "valid_to")) & hand.old(BINDING),
    )
    settled = open_ & (start.astype("datetime64[D]") < hand.history_end - 30)
    sends = hand.has(BINDING, hand.ids(READING, "device_id").filter(pa.array(hand.old(READING))), "device_id")
    rows = hand.pick(BINDING, "IOT-002", open_ & sends, group)
    names = group.take(pa.array(rows))
    lost = np.flatnonzero(hand.has(READING, names, "device_id"))
    _note(hand, READING, "device_day", _days(hand, READING, "device_id"), lost, "IOT-002", "device_id")
    gone = hand.has(BINDING, names, "device_id")
    archive = hand.text(BINDING, "archive_id")
    for rule in ("IOT-005", "IOT-004"):
        rows = hand.pick(BINDING, rule, settled & ~gone, group)
        begun = start[rows] - hours(24 * 800)  # before any owner that the city knows
        ends = begun - hours(24) if rule == "IOT-005" else start[rows] + hours(48)
        source, other = world.tables[BINDING].take(pa.array(rows)), archive[(rows + 1) % max(len(archive), 1)]
        added = world.add(
            BINDING,
            changed(source, valid_from=instants(begun), valid_to=instants(ends), archive_id=list(other)),
        )
        hand.note(
            BINDING, added if rule == "IOT-005" else _overlapped(hand, rows), rule, "valid_from,valid_to"
        )
    world.drop(BINDING, np.flatnonzero(gone))


def _overlapped(hand: Hand, rows: np.ndarray) -> np.ndarray:
    """All later bindings of these devices: the first of all now reaches into each of them."""
    device, start = hand.text(BINDING, "device_id"), hand.time(BINDING, "valid_from")
    chosen = set(device[rows].tolist())
    mine = np.array([i for i, d in enumerate(device.tolist()) if d in chosen], dtype="int64")
    first = {device[i]: i for i in mine[np.argsort(start[mine])[::-1]].tolist()}
    return np.array([i for i in mine.tolist() if i != first[device[i]]], dtype="int64")


def wearables(hand: Hand) -> None:
    world, names = hand.world, _days(hand, READING, "device_id")
    band = pc.starts_with(hand.ids(READING, "device_id"), "WB").to_numpy(zero_copy_only=False)
    usable = hand.old(READING)
    group = "m|" + names
    every = _machine_days(hand, READING, names, usable, 1)
    busy = _machine_days(hand, READING, names, usable & band, 30)
    rows = hand.pick(READING, "IOT-001", every & (hand.text(READING, "metric_code") == "8867-4"), group)
    world.put(READING, rows, value=350.0)
    _note(hand, READING, "device_day", names, rows, "IOT-001", "value")
    for rule, chosen, values in (
        ("IOT-006", busy, {"quality_code": "bad"}), ("IOT-007", every, {"battery_pct": 5.0}),
    ):  # fmt: skip
        rows = np.flatnonzero(np.isin(names, names[hand.pick(READING, rule, chosen, group)]))
        world.put(READING, rows, **values)
        _note(hand, READING, "device_day", names, rows, rule, next(iter(values)))
    rows = hand.pick(READING, "IOT-003", busy, group)
    _note(hand, READING, "device_day", names, rows, "IOT-003", "seq")
    inner = []
    for name in names[rows].tolist():  # a few days
        at = np.flatnonzero(names == name)
        inner.append(at[np.argsort(world.array(READING, "seq")[at])][3:-3])
    world.drop(READING, np.sort(np.concatenate(inner)) if inner else np.zeros(0, dtype="int64"))


def refrigerators(hand: Hand) -> None:
    world, names = hand.world, _days(hand, COLD, "sensor_id")
    group, hour = "m|" + names, hand.time(COLD, "device_at").astype("datetime64[h]").astype("int64") % 24
    whole = _machine_days(hand, COLD, names, hand.old(COLD), 48)
    warm = names[hand.pick(COLD, "IOT-008", whole, group)]
    rows = np.flatnonzero(np.isin(names, warm) & (hour >= 9) & (hour < 12))
    world.put(COLD, rows, temp_c=11.4)
    _note(hand, COLD, "cold_chain_day", names, rows, "IOT-008", "temp_c")
    still = names[hand.pick(COLD, "IOT-010", whole, group)]
    rows = np.flatnonzero(np.isin(names, still))
    world.put(COLD, rows, temp_c=4.5)
    _note(hand, COLD, "cold_chain_day", names, rows, "IOT-010", "temp_c")
    cut = names[hand.pick(COLD, "IOT-009", whole, group)]
    rows = np.flatnonzero(np.isin(names, cut) & (hour >= 9) & (hour < 14))
    _note(hand, COLD, "cold_chain_day", names, rows, "IOT-009", "device_at")
    world.drop(COLD, rows)


def analysers(hand: Hand) -> None:
    names = _days(hand, POWER, "asset_id")
    hour = hand.time(POWER, "device_at").astype("datetime64[h]").astype("int64") % 24
    whole = _machine_days(hand, POWER, names, hand.old(POWER), 48)
    silent = names[hand.pick(POWER, "IOT-011", whole, "m|" + names)]
    rows = np.flatnonzero(np.isin(names, silent) & (hour >= 10) & (hour < 15))
    _note(hand, POWER, "equipment_day", names, rows, "IOT-011", "device_at")
    hand.world.drop(POWER, rows)
