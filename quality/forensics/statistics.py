"""Tails and false discovery for the screening, vectorised over doctors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def chi_square(counts: Numbers) -> tuple[Numbers, Numbers]:
    """Statistic and tail of equal shares; ``counts`` is doctors x classes, degrees of freedom classes - 1."""
    from scipy.stats import chi2

    expected = counts.sum(axis=1, keepdims=True) / counts.shape[1]
    statistic: Numbers = ((counts - expected) ** 2 / expected).sum(axis=1)
    return statistic, np.asarray(chi2.sf(statistic, counts.shape[1] - 1), dtype=np.float64)


def binomial_tail(k: Numbers, n: Numbers, share: Numbers) -> Numbers:
    """P(X >= k) of n draws."""
    from scipy.stats import binom

    return np.asarray(binom.sf(k - 1, n, share), dtype=np.float64)


def poisson_tail(k: Numbers, mean: Numbers) -> Numbers:
    """P(X >= k)."""
    from scipy.stats import poisson

    return np.asarray(poisson.sf(k - 1, mean), dtype=np.float64)


def q_values(p: Numbers) -> Numbers:
    """Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): the least false discovery rate at which each is found."""
    size = len(p)
    order: Any = np.argsort(p, kind="stable")
    stepped = p[order] * size / np.arange(1, size + 1)
    made = np.empty(size, dtype=np.float64)
    made[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return made
