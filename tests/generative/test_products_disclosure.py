"""No small number can be found from what is published, whoever knows the shown numbers exactly: brute force says so."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from products.disclosure import MIN_CELL, ROUND_TO, SMALL, WITHHELD, protect, with_totals

_SHAPES = [(2,), (3,), (4,), (5,), (2, 2), (2, 3), (3, 2)]
_COUNTS = st.one_of(st.integers(0, 12), st.integers(8, 24), st.sampled_from([0, 9, 10, 14, 15, 100]))


@st.composite
def tables(draw):
    shape = draw(st.sampled_from(_SHAPES))
    size = int(np.prod(shape))
    return np.array(draw(st.lists(_COUNTS, min_size=size, max_size=size))).reshape(shape)


def feasible(counts, shown):
    """Every complete table that agrees with what is published, shown numbers known exactly. One row per table."""
    true = with_totals(counts)
    floor = MIN_CELL if (shown == SMALL).any() else 0  # without labels ``*`` may stand for any number
    choices = []
    for cell in np.ndindex(counts.shape):
        label = shown[cell]
        if label == SMALL:
            choices.append(range(MIN_CELL))
        elif label == WITHHELD:
            # withheld numbers have no upper end; far enough beyond the true one shows whether a small one is free
            choices.append(range(floor, int(true[cell]) + 2 * ROUND_TO))
        else:
            choices.append([int(true[cell])])
    assume(np.prod([len(c) for c in choices], dtype=float) <= 1.5e6)
    axes = np.meshgrid(*[np.array(c) for c in choices], indexing="ij")
    full = _totals(np.stack([a.ravel() for a in axes], axis=1).reshape(-1, *counts.shape))
    keep = np.ones(len(full), dtype=bool)
    for cell in np.ndindex(true.shape):
        values = full[(slice(None), *cell)]
        if shown[cell] == SMALL:
            keep &= values < MIN_CELL
        elif shown[cell] == WITHHELD:
            keep &= values >= floor
        else:
            keep &= values == true[cell]
    return full[keep]


def _totals(stack):
    for axis in range(1, stack.ndim):
        stack = np.concatenate([stack, stack.sum(axis=axis, keepdims=True)], axis=axis)
    return stack


@given(tables())
@settings(max_examples=400, deadline=None)
def test_no_small_number_can_be_derived(counts):
    published = protect(counts)
    true = with_totals(counts)
    worlds = feasible(counts, published.shown)
    assert len(worlds)  # the truth itself is among them
    for cell in map(tuple, np.argwhere(true < MIN_CELL)):
        values = worlds[(slice(None), *cell)]
        assert values.max() - values.min() >= ROUND_TO, (counts.tolist(), published.shown.tolist(), cell)


@given(tables())
@settings(max_examples=400, deadline=None)
def test_what_is_shown_is_large_rounded_and_near(counts):
    published = protect(counts)
    true = with_totals(counts)
    for cell in np.ndindex(true.shape):
        label = published.shown[cell]
        if isinstance(label, int):
            assert label >= MIN_CELL and label % ROUND_TO == 0 and abs(label - true[cell]) <= ROUND_TO // 2
        else:
            assert label == WITHHELD or (label == SMALL and true[cell] < MIN_CELL)


@given(tables())
@settings(max_examples=100, deadline=None)
def test_nothing_is_hidden_without_a_small_number(counts):
    if (with_totals(counts) >= MIN_CELL).all():
        published = protect(counts)
        assert published.suppressed == published.withheld == 0
        assert all(isinstance(v, int) for v in published.shown.ravel())
