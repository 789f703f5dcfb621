"""The visits and examinations before and after each row, for faults that only show across records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.faults.record import World


@dataclass(frozen=True)
class Neighbours:
    """Row indices of the same archive's previous and next row by day (-1: none)."""

    day: np.ndarray
    previous: np.ndarray
    following: np.ndarray

    def of(self, values: np.ndarray, which: str, missing: Any) -> np.ndarray:
        """`values` of the neighbour, `missing` where there is none."""
        index = self.previous if which == "previous" else self.following
        result: np.ndarray = np.where(index >= 0, values[np.maximum(index, 0)], missing)
        return result

    def gap_after(self) -> np.ndarray:
        """Days to the next row; a large number where there is none."""
        has = self.following >= 0
        gap = (self.day[np.maximum(self.following, 0)] - self.day).astype("int64")
        result: np.ndarray = np.where(has, gap, 99999)
        return result


def neighbours(world: World, table: str, day_column: str) -> Neighbours:
    day = world.array(table, day_column)
    archive = world.array(table, "archive_id").astype(str)
    order = np.lexsort((day, archive))
    same = archive[order][1:] == archive[order][:-1]
    previous, following = np.full(len(day), -1), np.full(len(day), -1)
    previous[order[1:]] = np.where(same, order[:-1], -1)
    following[order[:-1]] = np.where(same, order[1:], -1)
    return Neighbours(day, previous, following)
