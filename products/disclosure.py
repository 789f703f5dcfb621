"""Disclosure control of count tables: what a researcher sees. On by default; there is no switch.

1. A count below ``MIN_CELL`` is shown as ``<10`` (0 included).
2. Totals are computed here, from the cells, so that none is published that this module did not weigh.
3. So many further cells or totals are withheld (``*``) that nobody finds a ``<10`` by subtraction: even to a reader
   who knows every shown number exactly, each ``<10`` could be larger or smaller by ``ROUND_TO``.
   Where the labels themselves would say too much, every hidden place is a ``*`` that may stand for any number.
4. What is still shown is rounded to ``ROUND_TO``; rounded cells need not add up to rounded totals.

One table at a time: somebody who asks many overlapping questions is for the query log to find, not for this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

MIN_CELL = 10
ROUND_TO = 5

SMALL = f"<{MIN_CELL}"
WITHHELD = "*"

Counts = NDArray[np.int64]
Cell = tuple[int, ...]


@dataclass(frozen=True)
class Protected:
    """``shown`` has one more place per axis than the counts: the last one is the total over that axis."""

    shown: NDArray[np.object_]
    suppressed: int
    withheld: int


def with_totals(counts: Counts) -> Counts:
    """Append the sum along each axis as its last place."""
    for axis in range(counts.ndim):
        counts = np.concatenate([counts, counts.sum(axis=axis, keepdims=True)], axis=axis)
    return counts


def _swaps(cell: Cell, shape: tuple[int, ...]) -> list[list[tuple[Cell, int]]]:
    """Ways to move people into ``cell`` that leave every line's sum as it is.

    A way takes one other place on each axis; of the corners, each gains or loses in turn. A total stands on the other
    side of its line's equation, so there gain and loss change places.
    """
    ways = []
    for others in product(*[[o for o in range(n) if o != i] for i, n in zip(cell, shape, strict=True)]):
        corners = []
        for moved in product([0, 1], repeat=len(cell)):
            corner = tuple(o if m else i for i, o, m in zip(cell, others, moved, strict=True))
            corners.append((corner, (-1) ** sum(moved) * _side(corner, shape)))
        sign = corners[0][1]  # of the cell itself
        ways.append([(corner, gain * sign) for corner, gain in corners])
    return ways


def _side(cell: Cell, shape: tuple[int, ...]) -> int:
    return (-1) ** sum(i == n - 1 for i, n in zip(cell, shape, strict=True))


def _may_become(value: int, after: int, labelled: bool) -> bool:
    """Whether a hidden number could as well be ``after``: its label, if it has one, must stay true."""
    if not labelled:
        return after >= 0
    return 0 <= after < MIN_CELL if value < MIN_CELL else after >= MIN_CELL


def _hide(table: Counts, labelled: bool) -> NDArray[np.bool_] | None:
    """Which places to hide, totals included; None when no choice protects every small number."""
    hidden = table < MIN_CELL
    grand = tuple(n - 1 for n in table.shape)  # how many people there are is the last thing to give up
    for cell in map(tuple, np.argwhere(hidden).tolist()):
        best: tuple[int, list[Cell]] | None = None
        for way in _swaps(cell, table.shape):
            for step in (ROUND_TO, -ROUND_TO):
                if all(_may_become(int(table[c]), int(table[c]) + step * gain, labelled) for c, gain in way):
                    more = [c for c, _ in way if not hidden[c]]
                    if grand in more:
                        continue
                    cost = int(sum(table[c] for c in more))
                    if best is None or cost < best[0]:
                        best = (cost, more)
        if best is None:
            return None
        for chosen in best[1]:
            hidden[chosen] = True
    return hidden


def protect(counts: Counts) -> Protected:
    """The publishable form of a complete table of counts (every combination of its dimensions, zeros included).

    Args:
        counts: one or two dimensions of non-negative integers.
    """
    table = with_totals(np.asarray(counts, dtype=np.int64))
    shown = np.empty(table.shape, dtype=object)
    labelled = True
    hidden = _hide(table, labelled)
    if hidden is None:
        labelled = False
        hidden = _hide(table, labelled)
    if hidden is None:  # only the grand total
        shown[...] = WITHHELD
        last = (-1,) * table.ndim
        shown[last] = protect_count(int(table[last]))
        return Protected(shown, int((table < MIN_CELL).sum()), int((table >= MIN_CELL).sum()))
    rounded = (table + ROUND_TO // 2) // ROUND_TO * ROUND_TO
    for cell in np.ndindex(table.shape):
        value = int(table[cell])
        label = SMALL if labelled and value < MIN_CELL else WITHHELD
        shown[cell] = label if hidden[cell] else int(rounded[cell])
    return Protected(shown, int((table < MIN_CELL).sum()), int((hidden & (table >= MIN_CELL)).sum()))


def protect_count(count: int) -> int | str:
    """One number on its own."""
    return SMALL if count < MIN_CELL else (count + ROUND_TO // 2) // ROUND_TO * ROUND_TO
