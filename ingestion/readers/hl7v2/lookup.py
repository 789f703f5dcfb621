"""Paths of the mapping resolved for all segments of a chunk at once: which segment is meant, and its value."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.hl7v2 import datatypes
from ingestion.readers.hl7v2.columns import Fields, Flags, Ints, by_value, nulls
from ingestion.readers.hl7v2.mapping import Place, Places, mapping
from ingestion.readers.hl7v2.segments import Segments

#: Segments that belong to the whole message, before its first patient.
_OF_MESSAGE = ("MSH", "EVN", "SCH", "SFT")

_FUNCTIONS: dict[str, Callable[[Fields, Place], pa.StringArray]] = {
    "local": lambda f, p: datatypes.Identifiers(f, p.number).local(),
    "national": lambda f, p: datatypes.Identifiers(f, p.number).of(datatypes.NATIONAL),
    "national_type": lambda f, p: datatypes.national_type(f, p.number),
    "health_card": lambda f, p: datatypes.Identifiers(f, p.number).of(datatypes.HEALTH_CARD),
    "insurance": lambda f, p: datatypes.Identifiers(f, p.number).of(datatypes.INSURANCE),
    "name": lambda f, p: datatypes.composite(f.raw(p.number), datatypes.person_name),
    "telephone": lambda f, p: datatypes.composite(f.raw(p.number), datatypes.telephone),
    "address": lambda f, p: datatypes.composite(f.raw(p.number), datatypes.address),
    "texts": lambda f, p: datatypes.composite(f.raw(p.number), datatypes.coded_text),
    "raw": lambda f, p: datatypes.composite(f.raw(p.number), datatypes.free_text),
    "icd10": lambda f, p: datatypes.icd10(f, p.number),
    "code_or_text": lambda f, p: datatypes.first_filled(f.component(p.number), f.component(p.number, 2)),
    "inpatient": lambda f, p: datatypes.inpatient(f, p.number),
    "signed": lambda f, p: datatypes.signed(f, p.number),
    "present": lambda f, p: pc.if_else(
        pc.fill_null(pc.not_equal(f.component(p.number), ""), False), "1", pa.scalar(None, pa.string())
    ),
    "date": lambda f, p: datatypes.whole_date(f, p.number, p.component),
    "loinc": lambda f, p: datatypes.loinc(f, p.number),
    "value": lambda f, _: datatypes.result_text(f),
    "num": lambda f, _: datatypes.numbers(datatypes.result_text(f))[0],
    "comparator": lambda f, _: datatypes.numbers(datatypes.result_text(f))[1],
    "low": lambda f, p: datatypes.ranges(datatypes.unescaped(f.raw(p.number)))[0],
    "high": lambda f, p: datatypes.ranges(datatypes.unescaped(f.raw(p.number)))[1],
}


def functions() -> Collection[str]:
    return _FUNCTIONS.keys()


def mask(values: pa.BooleanArray) -> Flags:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)


class Reading:
    """The segments of one chunk and what was taken from them so far."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self._fields: dict[str, Fields] = {}
        self._at: dict[str, Ints] = {}
        self._columns: dict[Place, pa.StringArray] = {}

    def at(self, kind: str) -> Ints:
        if kind not in self._at:
            self._at[kind] = self.segments.at(kind)
        return self._at[kind]

    def fields(self, kind: str) -> Fields:
        if kind not in self._fields:
            self._fields[kind] = Fields(kind, self.segments.text.take(pa.array(self.at(kind))))
        return self._fields[kind]

    def column(self, place: Place) -> pa.StringArray:
        """A path's value for every segment of its kind."""
        if place not in self._columns:
            fields = self.fields(place.segment)
            how, _, table = place.function.partition(":")
            if table:  # a yes or no is one only if the table says so; another code stays as it came
                values = fields.component(place.number, place.component, place.subcomponent)
                found = by_value(values, mapping().codes[table].get, keep=how == "code")
            elif place.function:
                found = _FUNCTIONS[place.function](fields, place)
            else:
                found = fields.component(place.number, place.component, place.subcomponent)
            self._columns[place] = found
        return self._columns[place]

    def header(self, number: int, component: int = 1) -> pa.StringArray:
        """A field of every message's MSH."""
        return self.fields("MSH").component(number, component)

    @cached_property
    def types(self) -> np.ndarray:
        return np.asarray(pc.fill_null(self.header(9, 1), "").to_pylist(), dtype=str)

    @cached_property
    def events(self) -> np.ndarray:
        """MSH-9.2, else EVN-1 (old senders)."""
        events = pc.fill_null(self.header(9, 2), "")
        if len(self.at("EVN")):
            own = Lookup(self, self.segments.first, "MSH").following("EVN")
            events = datatypes.first_filled(events, own.take(self.fields("EVN").component(1)))
        return np.asarray(pc.fill_null(events, "").to_pylist(), dtype=str)

    @cached_property
    def orgs(self) -> pa.StringArray:
        """The sending facility, MSH-4.1: the institution of a record whose file names none."""
        return pc.fill_null(self.header(4), "")


@dataclass(frozen=True)
class _Index:
    """For each row the ordinal of a segment of another kind, or none."""

    ordinal: Ints
    valid: Flags

    def take(self, column: pa.StringArray) -> pa.StringArray:
        if not len(column):
            return nulls(len(self.ordinal))
        return column.take(pa.array(np.where(self.valid, self.ordinal, 0), mask=~self.valid))


class Lookup:
    """Finds, for driver segments at ``positions``, the segments that go with them."""

    def __init__(self, reading: Reading, positions: Ints, driver: str) -> None:
        self._reading = reading
        self._driver = driver
        self.positions = positions
        message = reading.segments.message
        self._message = message[positions]
        every = reading.at(driver)
        ordinal = np.searchsorted(every, positions)
        self._previous = (
            np.where(ordinal > 0, every[np.maximum(ordinal - 1, 0)], -1) if len(every) else positions
        )
        later = np.minimum(ordinal + 1, max(len(every) - 1, 0))
        end = len(message)
        self._next = np.where(ordinal + 1 < len(every), every[later], end) if len(every) else positions
        self._known: dict[tuple[str, str], _Index] = {}

    def index(self, kind: str, reach: str) -> _Index:
        if (kind, reach) not in self._known:
            if kind == self._driver and not reach:
                own = np.searchsorted(self._reading.at(kind), self.positions)
                found = _Index(own, np.ones(len(own), bool))
            elif reach == ">":
                found = self.following(kind)
            else:
                found = self._before(kind, own=reach == "<")
            self._known[(kind, reach)] = found
        return self._known[(kind, reach)]

    def following(self, kind: str) -> _Index:
        """The next of a kind in the message, before the next driver."""
        at = self._reading.at(kind)
        if not len(at):
            return _Index(np.zeros(len(self.positions), np.int64), np.zeros(len(self.positions), bool))
        ordinal = np.searchsorted(at, self.positions, "right")
        found = at[np.minimum(ordinal, len(at) - 1)]
        valid = (ordinal < len(at)) & (found < self._next)
        return _Index(ordinal, valid & (self._reading.segments.message[found] == self._message))

    def _before(self, kind: str, *, own: bool) -> _Index:
        """The last of a kind in the message, not before its patient's PID; ``own``: since the previous driver."""
        at = self._reading.at(kind)
        if not len(at):
            return _Index(np.zeros(len(self.positions), np.int64), np.zeros(len(self.positions), bool))
        ordinal = np.searchsorted(at, self.positions, "right") - 1
        found = at[np.maximum(ordinal, 0)]
        valid = (ordinal >= 0) & (self._reading.segments.message[found] == self._message)
        if own:
            valid &= found > self._previous
        if kind not in ("PID", *_OF_MESSAGE) and len(self._reading.at("PID")):
            patient = self.index("PID", "")
            pid = self._reading.at("PID")[
                np.maximum(patient.ordinal, 0).clip(max=len(self._reading.at("PID")) - 1)
            ]
            valid &= ~patient.valid | (found > pid)
        return _Index(ordinal, valid)

    def value(self, places: Places) -> pa.StringArray:
        """The first of some paths that has a value, for every row."""
        columns = [self._one(p) for p in places]
        return datatypes.first_filled(*columns)

    def _one(self, place: Place) -> pa.StringArray:
        if place.constant is not None:
            return pa.array([place.constant] * len(self.positions), pa.string())
        if place.joined:
            return pc.binary_join_element_wise(*(self._filled(p) for p in place.joined), "|")
        if not len(self._reading.at(place.segment)):
            return nulls(len(self.positions))
        if place.reach in (">>", "+"):
            return self._joined(place)
        return self.index(place.segment, place.reach).take(self._reading.column(place))

    def _filled(self, place: Place) -> pa.StringArray:
        """A path's value, empty text as none."""
        found = self._one(place)
        return pc.if_else(pc.fill_null(pc.equal(found, ""), True), pa.scalar(None, pa.string()), found)

    def _joined(self, place: Place) -> pa.StringArray:
        """The texts of all that a path reaches, a line each; null where it reaches none."""
        at = self._reading.at(place.segment)
        column = self._reading.column(place)
        filled = mask(pc.not_equal(column, ""))
        if place.chosen_by is not None:
            chosen = mask(pc.is_in(self._reading.column(place.chosen_by), pa.array(sorted(place.chosen))))
            filled &= chosen != place.chosen_not
        wanted = np.flatnonzero(filled)
        low = np.searchsorted(at[wanted], self.positions, "right")
        high = np.searchsorted(at[wanted], self._until(at, place.reach))
        count = np.maximum(high - low, 0)
        index = np.repeat(low - np.concatenate(([0], np.cumsum(count)[:-1])), count) + np.arange(count.sum())
        texts = column.take(pa.array(wanted[index]))
        lists = pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(count)).astype(np.int32)), texts)
        joined = pc.binary_join(lists, "\n")
        return pc.if_else(pa.array(count > 0), joined, pa.scalar(None, pa.string()))

    def _until(self, at: Ints, reach: str) -> Ints:
        """Where a reach ends: at the next driver or message; ``+``: at the first segment of another kind."""
        segments = self._reading.segments
        ends = np.append(segments.first[1:], len(segments.text))[self._message]
        stop = np.minimum(self._next, ends)
        if reach != "+":
            return stop
        other = np.ones(len(segments.text) + 1, bool)
        other[at] = False
        others = np.flatnonzero(other)
        return np.minimum(stop, others[np.searchsorted(others, self.positions, "right")])
