"""Counter-based random numbers: the draw for row ``i`` depends on seed, topic and ``i`` only.

So a city does not change with the size of the chunks it is rendered in, a new topic moves no other
draw, and no generator state has to be carried. The mixing function is splitmix64's finaliser.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@dataclass(frozen=True)
class Draw:
    """Random numbers of one city."""

    seed: int

    def bits(self, topic: str, index: NDArray[np.integer]) -> NDArray[np.uint64]:
        """64 random bits for every index."""
        salt = (self.seed * 0xD1342543DE82EF95 + zlib.crc32(topic.encode()) * _GOLDEN) & _MASK
        x = index.astype(np.uint64)
        x += np.uint64(1)
        x *= np.uint64(_GOLDEN)
        x ^= np.uint64(salt)
        return _mix(_mix(x))

    def uniform(self, topic: str, index: NDArray[np.integer]) -> Floats:
        """Uniform in [0, 1), 53 bits."""
        return (self.bits(topic, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, topic: str, index: NDArray[np.integer], limit: int | NDArray[np.integer]) -> Ints:
        """Whole numbers in [0, limit)."""
        return np.minimum(self.uniform(topic, index) * limit, np.asarray(limit) - 1).astype(np.int64)

    def normal(self, topic: str, index: NDArray[np.integer]) -> Floats:
        """Standard normal (Box-Muller)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(topic + "/r", index)))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform(topic + "/a", index)))

    def chance(self, topic: str, index: NDArray[np.integer], rate: float | Floats) -> Bools:
        return self.uniform(topic, index) < rate

    def weighted(self, topic: str, index: NDArray[np.integer], weights: Floats) -> Ints:
        """Positions in ``weights``, drawn in their proportion."""
        return choose(self.uniform(topic, index), weights)


def choose(u: Floats, weights: Floats) -> Ints:
    """Position whose share of ``weights`` holds ``u`` (inverse cumulative distribution)."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    at = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    return np.minimum(at, len(weights) - 1).astype(np.int64)
