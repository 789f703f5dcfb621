"""From accepted pairs to persons: connected components, and a constrained union where those hold a conflict.

Constraints: no person with two different trusted ids, no person with both ends of a cannot-link. Almost no
component violates one, so the sets are found in numpy and only the records of conflicting components are walked
one by one, strongest pair first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: Weight of a pair that people decided to be one person: it stands above every constraint but theirs.
MUST_LINK_WEIGHT = 1e6


@dataclass(frozen=True)
class Clusters:
    """``label[i]`` is the smallest record number of record i's person; the rest are counts for the run."""

    label: Ints
    conflicts: int  # components that violated a constraint
    cut: int  # accepted pairs that a constraint refused


def components(size: int, left: Ints, right: Ints) -> Ints:
    """Smallest member of each record's connected component (hook to the smaller root, then shortcut).

    Vectorised; the number of rounds grows with the logarithm of the longest chain.
    """
    parent = np.arange(size, dtype=np.int64)
    while len(left):
        a, b = parent[left], parent[right]
        open_ = a != b
        left, right, a, b = left[open_], right[open_], a[open_], b[open_]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            shorter = parent[parent]
            if np.array_equal(shorter, parent):
                break
            parent = shorter
    return parent


def _conflicting(label: Ints, trusted: Ints, cannot: Ints) -> Ints:
    """Labels of components with two trusted ids (``trusted`` holds -1 for none) or a cannot-link inside."""
    has = trusted >= 0
    # a label and an id as one number (both are below the number of records): sorting pairs costs ten times as much
    many = int(trusted.max(initial=-1)) + 1
    owners, ids = np.unique(np.unique(label[has] * many + trusted[has]) // max(many, 1), return_counts=True)
    inside = label[cannot[:, 0]] == label[cannot[:, 1]]
    return np.union1d(owners[ids > 1], label[cannot[inside, 0]])


class _Group:
    """A growing person inside a conflicting component."""

    __slots__ = ("enemies", "ids", "members")

    def __init__(self, record: int, trusted: int) -> None:
        self.members = {record}
        self.ids = {trusted} if trusted >= 0 else set()
        self.enemies: set[int] = set()

    def may_join(self, other: _Group, decided: bool) -> bool:
        if self.enemies & other.members:
            return False
        # whom people joined in spite of two ids still takes up the other records of either
        return decided or len(self.ids | other.ids) <= max(1, len(self.ids), len(other.ids))

    def take(self, other: _Group) -> None:
        self.members |= other.members
        self.ids |= other.ids
        self.enemies |= other.enemies


def _walk(
    nodes: Ints, trusted: Ints, edges: list[tuple[int, int, float]], cannot: list[tuple[int, int]]
) -> tuple[dict[int, int], int]:
    """Greedy union over the records of conflicting components; edges come strongest first.

    The loop is over those records only. Returns record -> smallest member of its person, and the refusals.
    """
    group = {int(n): _Group(int(n), int(trusted[n])) for n in nodes}
    for a, b in cannot:
        if a in group and b in group:
            group[a].enemies.add(b)
            group[b].enemies.add(a)
    cut = 0
    for a, b, weight in edges:
        one, other = group[a], group[b]
        if one is other:
            continue
        if not one.may_join(other, weight >= MUST_LINK_WEIGHT):
            cut += 1
            continue
        if len(one.members) < len(other.members):
            one, other = other, one
        one.take(other)
        for member in other.members:
            group[member] = one
    return {record: min(g.members) for record, g in group.items()}, cut


def constrained_union(
    size: int, left: Ints, right: Ints, weight: NDArray[np.float64], trusted: Ints, cannot: Ints
) -> Clusters:
    """Join records into persons.

    Args:
        size: number of records; they are numbered 0..size-1.
        left, right, weight: accepted pairs. Ties in weight are settled by (left, right), so that the result
            does not depend on the order of the pairs.
        trusted: number of the trusted id of each record, -1 for none.
        cannot: shape (n, 2), pairs of records that are two persons by decision.

    A pair of ``MUST_LINK_WEIGHT`` joins even two trusted ids, but never both ends of a cannot-link. Any other pair joins
    none that would have more ids together than one of its sides has.
    """
    label = components(size, left, right)
    bad = _conflicting(label, trusted, cannot)
    if not len(bad):
        return Clusters(label, 0, 0)
    is_bad = np.zeros(size, dtype=bool)
    is_bad[bad] = True
    chosen = np.flatnonzero(is_bad[label[left]])
    low, high = np.minimum(left[chosen], right[chosen]), np.maximum(left[chosen], right[chosen])
    order = np.lexsort((high, low, -weight[chosen]))
    edges = list(zip(low[order].tolist(), high[order].tolist(), weight[chosen][order].tolist(), strict=True))
    nodes = np.flatnonzero(is_bad[label])
    inside = cannot[is_bad[label[cannot[:, 0]]] & is_bad[label[cannot[:, 1]]]]
    walked, cut = _walk(nodes, trusted, edges, [(int(a), int(b)) for a, b in inside])
    label = label.copy()
    label[np.fromiter(walked.keys(), np.int64, len(walked))] = np.fromiter(
        walked.values(), np.int64, len(walked)
    )
    return Clusters(label, len(bad), cut)
