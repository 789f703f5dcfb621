"""The constrained union against an oracle that is too slow to be wrong: sets, walked pair by pair."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from empi.clustering import MUST_LINK_WEIGHT, components, constrained_union

Pair = tuple[int, int]
World = tuple[int, list[tuple[int, int, float]], list[int], list[Pair]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Few records, few ids, few weights: many ties and conflicts."""
    size = draw(st.integers(1, 12))
    record = st.integers(0, size - 1)
    weights = st.sampled_from([4.0, 4.5, 9.0, 20.0, MUST_LINK_WEIGHT])
    edges = draw(st.lists(st.tuples(record, record, weights), max_size=25))
    trusted = draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size))
    cannot = draw(st.lists(st.tuples(record, record), max_size=4))
    return size, [e for e in edges if e[0] != e[1]], trusted, [c for c in cannot if c[0] != c[1]]


def oracle(
    size: int, edges: list[tuple[int, int, float]], trusted: list[int], cannot: list[Pair]
) -> list[int]:
    """Strongest pair first over all records; ties by the records' numbers."""
    persons = [{i} for i in range(size)]
    for weight, low, high in sorted(
        ((w, min(a, b), max(a, b)) for a, b, w in edges), key=lambda e: (-e[0], e[1:])
    ):
        one = next(p for p in persons if low in p)
        other = next(p for p in persons if high in p)
        if one is other:
            continue
        union = one | other
        ids = {trusted[r] for r in union if trusted[r] >= 0}
        if any(a in union and b in union for a, b in cannot):
            continue
        before = max(len({trusted[r] for r in side if trusted[r] >= 0}) for side in (one, other))
        if len(ids) > max(1, before) and weight < MUST_LINK_WEIGHT:
            continue
        persons = [p for p in persons if p is not one and p is not other] + [union]
    return [min(next(p for p in persons if i in p)) for i in range(size)]


def union(
    size: int, edges: list[tuple[int, int, float]], trusted: list[int], cannot: list[Pair]
) -> list[int]:
    left = np.array([e[0] for e in edges], dtype=np.int64)
    right = np.array([e[1] for e in edges], dtype=np.int64)
    weight = np.array([e[2] for e in edges], dtype=np.float64)
    apart = np.array(cannot, dtype=np.int64).reshape(-1, 2)
    return constrained_union(size, left, right, weight, np.array(trusted), apart).label.tolist()


@settings(deadline=None)
@given(worlds())
def test_the_same_persons_as_the_oracle(world: World) -> None:
    assert union(*world) == oracle(*world)


@settings(deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(world: World, random: object) -> None:
    size, edges, trusted, cannot = world
    shuffled = [(b, a, w) for a, b, w in edges]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert union(size, shuffled, trusted, cannot) == union(size, edges, trusted, cannot)


@settings(deadline=None)
@given(worlds())
def test_no_person_breaks_a_constraint(world: World) -> None:
    size, edges, trusted, cannot = world
    label = union(size, [e for e in edges if e[2] < MUST_LINK_WEIGHT], trusted, cannot)
    for a, b in combinations(range(size), 2):
        if label[a] == label[b]:
            assert trusted[a] == trusted[b] or -1 in (trusted[a], trusted[b])
            assert (a, b) not in cannot and (b, a) not in cannot


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_components_are_what_hangs_together(size: int, pairs: list[Pair]) -> None:
    pairs = [(a % size, b % size) for a, b in pairs]
    reach = [{i} for i in range(size)]
    for a, b in pairs:
        if reach[a] is not reach[b]:
            joined = reach[a] | reach[b]
            for member in joined:
                reach[member] = joined
    left, right = (np.array([p[i] for p in pairs], dtype=np.int64) for i in (0, 1))
    assert components(size, left, right).tolist() == [min(r) for r in reach]


def test_a_long_chain_is_one_component() -> None:
    order = np.random.default_rng(1).permutation(5000)
    assert set(components(5000, order[:-1], order[1:]).tolist()) == {0}
