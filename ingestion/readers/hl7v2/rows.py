"""Rows of a chunk: each mapping applied to all its segments at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.hl7v2.columns import Flags, Ints, nulls
from ingestion.readers.hl7v2.lookup import Lookup, Reading, mask
from ingestion.readers.hl7v2.mapping import Rows
from ingestion.readers.hl7v2.segments import Segments


@dataclass(frozen=True)
class Found:
    """Rows of one table. ``message`` and ``position`` say which segment each is of."""

    table: str
    columns: dict[str, pa.StringArray]
    message: Ints
    position: Ints


@dataclass(frozen=True)
class Orphan:
    """A segment that lacks the one it must come under."""

    table: str
    missing: str
    position: int


def _of_types(reading: Reading, rows: Rows, positions: Ints) -> Flags:
    message = reading.segments.message[positions]
    types, events = reading.types, reading.events
    both = np.char.add(np.char.add(types, "^"), events)
    wanted = list(rows.types)
    good = np.isin(types, wanted) | np.isin(both, wanted)
    if rows.not_events:
        good &= ~np.isin(events, list(rows.not_events))
    return np.asarray(good[message])


def apply(reading: Reading, rows: Rows, allowed: Flags) -> tuple[Found | None, list[Orphan]]:
    """Rows of one mapping, from messages that ``allowed`` (a flag a message) admits; and segments out of place."""
    positions = reading.at(rows.driver)
    message = reading.segments.message
    if len(positions):
        positions = positions[allowed[message[positions]] & _of_types(reading, rows, positions)]
    if not len(positions):
        return None, []
    lookup = Lookup(reading, positions, rows.driver)
    keep = np.ones(len(positions), bool)
    orphans: list[Orphan] = []
    for kind in rows.under:
        missing = keep & ~lookup.index(kind, "").valid
        orphans += [Orphan(rows.table, kind, int(p)) for p in positions[missing]]
        keep &= ~missing
    for needed in rows.needs:
        keep &= mask(pc.not_equal(lookup.value(needed), ""))
    for places, values in rows.only:
        keep &= mask(pc.is_in(lookup.value(places), pa.array(sorted(values))))
    for places, values in rows.never:
        keep &= ~mask(pc.is_in(lookup.value(places), pa.array(sorted(values))))
    if not keep.all():
        positions = positions[keep]
        if not len(positions):
            return None, orphans
        lookup = Lookup(reading, positions, rows.driver)
    columns = {name: lookup.value(places) for name, places in rows.fields.items()}
    events = reading.events[message[positions]]
    types = reading.types[message[positions]]
    for event, fields in rows.events.items():
        here = pa.array((events == event) | (types == event))
        for name, places in fields.items():
            before = columns.get(name, nulls(len(positions)))
            columns[name] = pc.if_else(here, lookup.value(places), before)
    gone = np.isin(events, list(rows.delete))
    for places, values in rows.delete_when:
        gone |= mask(pc.is_in(lookup.value(places), pa.array(sorted(values))))
    if gone.any():
        columns["_op"] = pa.array(np.where(gone, "D", "U").tolist(), pa.string())
    if rows.unique:
        _number(columns, *rows.unique, message[positions])
    return Found(rows.table, columns, message[positions], positions), orphans


def _number(columns: dict[str, pa.StringArray], name: str, within: str, message: Ints) -> None:
    """Give numbers that are missing or repeat within a message's ``within`` the next free one: no two rows share a key.

    The loop is over the groups that have such numbers only.
    """
    groups = pc.fill_null(columns[within], "").dictionary_encode().indices.to_numpy().astype(np.int64)
    own = pc.fill_null(columns[name], "")
    numbers = own.dictionary_encode()
    codes = numbers.indices.to_numpy().astype(np.int64)
    key = (message * (groups.max() + 1) + groups) * (codes.max() + 1) + codes
    _, first = np.unique(key, return_index=True)
    wrong = np.ones(len(own), bool)
    wrong[first] = False
    wrong |= mask(pc.equal(own, ""))
    if not wrong.any():
        return
    texts = own.to_pylist()
    bad = {(int(message[n]), int(groups[n])) for n in np.flatnonzero(wrong)}
    used: dict[tuple[int, int], set[str]] = {}
    for n in range(len(texts)):
        group = (int(message[n]), int(groups[n]))
        if group not in bad:
            continue
        taken = used.setdefault(group, set())
        if not texts[n] or texts[n] in taken:
            texts[n] = str(next(i for i in range(len(taken) + 1, 2 * len(taken) + 2) if str(i) not in taken))
        taken.add(texts[n])
    columns[name] = pa.array(texts, pa.string())


def z_segments(segments: Segments) -> dict[int, str]:
    """Messages' Z-segments as JSON, by message: ``{"Z": ["ZPI|1|x"]}``."""
    own = np.flatnonzero(segments.kind >> 16 == ord("Z"))
    found: dict[int, list[str]] = {}
    for n, text in zip(
        segments.message[own].tolist(), segments.text.take(pa.array(own)).to_pylist(), strict=True
    ):
        found.setdefault(n, []).append(text)
    return {n: json.dumps({"Z": texts}, ensure_ascii=False) for n, texts in found.items()}


def lacking(reading: Reading, requires: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[int, str]]:
    """Messages (and the first segment each lacks) of types that say nothing without it."""
    for kind, wanted in requires.items():
        of_kind = np.flatnonzero(reading.types == kind)
        for segment in wanted:
            present = np.isin(of_kind, reading.segments.message[reading.at(segment)])
            for n in of_kind[~present]:
                yield int(n), segment
            of_kind = of_kind[present]
