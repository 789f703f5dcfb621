"""Fields, components and repetitions of many segments at once, as Arrow text: null where there is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.hl7v2.text import STANDARD

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def nulls(count: int) -> pa.StringArray:
    return pa.nulls(count, pa.string())


def has(values: pa.StringArray, mark: str) -> bool:
    """Whether any value contains a character; it is one pass over bytes."""
    return bool(pc.any(pc.match_substring(values, mark)).as_py())


def part(values: pa.StringArray, separator: str, number: int) -> pa.StringArray:
    """Part ``number`` (from 0) of each value; null where there are fewer."""
    if not has(values, separator):
        return values if number == 0 else nulls(len(values))
    return Parts(values, separator).part(number)


class Parts:
    """Values split at a separator, once for all parts that are asked for."""

    def __init__(self, values: pa.StringArray, separator: str) -> None:
        lists = pc.split_pattern(values, separator)
        self.offsets: Ints = lists.offsets.to_numpy().astype(np.int64)
        self.values: pa.StringArray = lists.values

    def part(self, number: int) -> pa.StringArray:
        at = self.offsets[:-1] + number
        beyond = at >= self.offsets[1:]
        return self.values.take(pa.array(np.where(beyond, 0, at), mask=beyond))

    def owners(self) -> Ints:
        """For each part, the number of the value it is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def by_value(
    values: pa.StringArray, function: Callable[[str], str | None], *, keep: bool = False
) -> pa.StringArray:
    """A function of text, called once for each different value (results repeat a lot; a set form does not exist).

    With ``keep`` a value for which it gives None stays.
    """
    coded = values.dictionary_encode()
    made = [function(v) for v in coded.dictionary.to_pylist()]
    if keep:
        made = [v if m is None else m for v, m in zip(coded.dictionary.to_pylist(), made, strict=True)]
    done = pa.array(made, pa.string())
    return done.take(coded.indices)


def where(
    mask: pa.BooleanArray, values: pa.StringArray, function: Callable[[str], str | None]
) -> pa.StringArray:
    """Like ``by_value``, for those that the mask names; the others stay."""
    chosen = pc.fill_null(mask, False)
    if not pc.any(chosen).as_py():
        return values
    return pc.replace_with_mask(values, chosen, by_value(values.filter(chosen), function))


def unescaped(values: pa.StringArray) -> pa.StringArray:
    return where(pc.match_substring(values, "\\"), values, STANDARD.unescape)


def without_null(values: pa.StringArray) -> pa.StringArray:
    """HL7's null (two quotes) as no value."""
    found = pc.fill_null(pc.equal(values, '""'), False)
    return pc.if_else(found, None, values) if pc.any(found).as_py() else values


class Fields:
    """Segments of one kind. Fields count from 1 as the standard counts (MSH-1 is the separator)."""

    def __init__(self, kind: str, texts: pa.StringArray) -> None:
        self.kind = kind
        self.count = len(texts)
        self._parts = Parts(texts, "|")
        self._shift = 1 if kind == "MSH" else 0
        self._raw: dict[int, pa.StringArray] = {}
        self._first: dict[int, pa.StringArray] = {}
        self._split: dict[int, Parts | None] = {}

    def raw(self, number: int) -> pa.StringArray:
        """The field as it stands."""
        if number not in self._raw:
            self._raw[number] = without_null(self._parts.part(number - self._shift))
        return self._raw[number]

    def component(self, number: int, component: int = 1, subcomponent: int = 1) -> pa.StringArray:
        """A component's subcomponent in the field's first repetition, unescaped."""
        if number not in self._first:
            first = self._first[number] = part(self.raw(number), "~", 0)
            self._split[number] = Parts(first, "^") if has(first, "^") else None
        split = self._split[number]
        whole = self._first[number] if component == 1 else nulls(self.count)
        found = whole if split is None else split.part(component - 1)
        return unescaped(part(found, "&", subcomponent - 1))

    def repetitions(self, number: int) -> tuple[pa.StringArray, Ints]:
        """All repetitions of a field, and the segment that each is of."""
        split = Parts(self.raw(number), "~")
        return split.values, split.owners()
