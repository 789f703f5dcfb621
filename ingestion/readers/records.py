"""Where the records of a delimited text lie: exact line numbers, ragged rows, all by array operations.

RFC 4180: a line break or separator inside double quotes belongs to the field. The parity of the quotes before
a byte tells whether it is inside, so one cumulative xor over the bytes finds every record at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LF, _QUOTE = 10, 34
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """Byte spans ``[start, end)`` of records, the 0-based line each begins at, and its number of fields."""

    start: Ints
    end: Ints
    line: Ints
    fields: Ints

    def take(self, which: npt.NDArray[np.bool_]) -> Records:
        return Records(self.start[which], self.end[which], self.line[which], self.fields[which])


def _inside_quotes(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_] | None:
    quotes = data == _QUOTE
    return np.logical_xor.accumulate(quotes) if quotes.any() else None


def _spans(breaks: Ints, size: int) -> tuple[Ints, Ints]:
    start = np.concatenate(([0], breaks + 1)).astype(np.int64)
    end = np.concatenate((breaks, [size])).astype(np.int64)
    return (start, end) if size and start[-1] < size else (start[:-1], end[:-1])


def _count(separators: Ints, start: Ints, end: Ints) -> Ints:
    return np.asarray(np.searchsorted(separators, end) - np.searchsorted(separators, start) + 1, np.int64)


def _by_line(data: npt.NDArray[np.uint8], separator: int, first: int, last: int) -> Records:
    """Records of a stretch whose quotes cannot be trusted: each line is one, quotes count within it only."""
    part = data[first:last]
    breaks = np.flatnonzero(part == _LF)
    start, end = _spans(breaks, len(part))
    seps = np.flatnonzero(part == separator)
    fields = _count(seps, start, end)
    quotes = np.flatnonzero(part == _QUOTE)
    odd = (_count(quotes, start, end) - 1) % 2 == 1
    if len(quotes):  # separators inside this line's own quotes do not count
        before = np.searchsorted(quotes, seps)
        home = np.searchsorted(end, seps)
        inside = (before - np.searchsorted(quotes, start[home])) % 2 == 1
        fields = _count(seps[~inside], start, end)
    fields[odd] = 0  # a quote that never closes: no count of fields is right
    return Records(start + first, end + first, np.arange(len(start), dtype=np.int64), fields)


def find(text: bytes, separator: str, expected: int | None = None) -> Records:
    """All records of a text with LF line ends, blank lines left out.

    Args:
        expected: fields of a good record. A record that spans lines and does not have as many is taken apart
            into its lines, so that one stray quote costs its own line and not the lines up to the next quote.
    """
    data = np.frombuffer(text, np.uint8)
    sep = ord(separator)
    newlines = np.flatnonzero(data == _LF)
    separators = np.flatnonzero(data == sep)
    inside = _inside_quotes(data)
    if inside is None:
        start, end = _spans(newlines, len(data))
        found = Records(start, end, np.arange(len(start), dtype=np.int64), _count(separators, start, end))
    else:
        start, end = _spans(newlines[~inside[newlines]], len(data))
        outer = separators[~inside[separators]]
        line = np.searchsorted(newlines, start).astype(np.int64)
        found = Records(start, end, line, _count(outer, start, end))
        if expected is not None:
            found = _mend(data, sep, found, newlines, inside, expected)
    return found.take(found.end > found.start)


def _misplaced(data: npt.NDArray[np.uint8], sep: int, inside: npt.NDArray[np.bool_]) -> Ints:
    """Quotes that open within a field or close before its end: the sign that two strays were taken for a pair."""
    quotes = np.flatnonzero(data == _QUOTE)
    opens = inside[quotes]
    padded = np.concatenate(([_LF], data, [_LF])).astype(np.uint8)
    neighbour = np.where(opens, padded[quotes], padded[quotes + 2])
    return quotes[~np.isin(neighbour, (sep, _LF, _QUOTE))]


def _mend(
    data: npt.NDArray[np.uint8],
    sep: int,
    found: Records,
    newlines: Ints,
    inside: npt.NDArray[np.bool_],
    expected: int,
) -> Records:
    spans_lines = np.searchsorted(newlines, found.end) - np.searchsorted(newlines, found.start) > 0
    misplaced = _count(_misplaced(data, sep, inside), found.start, found.end) > 1
    broken = np.flatnonzero(spans_lines & ((found.fields != expected) | misplaced))
    if not len(broken):
        return found
    parts, last = [], 0
    for i in broken.tolist():  # one step per stray quote
        keep = np.zeros(len(found.start), bool)
        keep[last:i] = True
        parts.append(found.take(keep))
        lines = _by_line(data, sep, int(found.start[i]), int(found.end[i]))
        parts.append(Records(lines.start, lines.end, lines.line + found.line[i], lines.fields))
        last = i + 1
    keep = np.zeros(len(found.start), bool)
    keep[last:] = True
    parts.append(found.take(keep))
    return Records(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("start", "end", "line", "fields"))
    )
