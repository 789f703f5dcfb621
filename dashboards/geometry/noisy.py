"""Cells around sites whose shared borders wander like real ones.

A Voronoi cell is cut by half planes; each edge is then bent by midpoint displacement, seeded by its two ends, so
that the two cells at an edge get the very same line whichever of them asks.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 2) corners in drawing units, y downwards."""


def voronoi_cell(sites: Points, index: int, box: tuple[float, float]) -> Points:
    """Corners of the cell of `sites[index]`, in order; neighbours' corners agree only after `join`."""
    width, height = box
    cell = np.array([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)])
    here = sites[index]
    for other in np.delete(sites, index, axis=0):
        cell = _cut(cell, middle=(here + other) / 2, away=other - here)
    return cell


def join(cells: dict[str, Points], within: float = 4.0) -> dict[str, Points]:
    """The same cells with corners that lie closer than `within` drawn together to one whole-numbered point."""
    known: list[Points] = []
    joined = {}
    for name, corners in cells.items():
        kept: list[Points] = []
        for corner in corners:
            near = [point for point in known if np.hypot(*(point - corner)) < within]
            if not near:
                known.append(np.round(corner))
                near = known[-1:]
            if not kept or kept[-1] is not near[0]:
                kept.append(near[0])
        joined[name] = np.array(kept[1:] if kept[0] is kept[-1] else kept)
    return joined


def _cut(polygon: Points, middle: Points, away: Points) -> Points:
    """The part of a convex polygon on the near side of the line through `middle` across `away`."""
    depth = (polygon - middle) @ away
    kept: list[Points] = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if depth[i] <= 0:
            kept.append(polygon[i])
        if (depth[i] < 0 < depth[j]) or (depth[j] < 0 < depth[i]):
            kept.append(polygon[i] + (polygon[j] - polygon[i]) * depth[i] / (depth[i] - depth[j]))
    return np.array(kept)


def border(start: Points, end: Points, *, levels: int = 5, swing: float = 0.14) -> Points:
    """The bent line from `start` to `end`, both included; the same line backwards when asked from the other side."""
    swapped = tuple(end) < tuple(start)
    first, last = (end, start) if swapped else (start, end)
    seed = hashlib.sha256(f"{first[0]:.0f},{first[1]:.0f}:{last[0]:.0f},{last[1]:.0f}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    line = np.array([first, last])
    for level in range(levels):
        step = np.diff(line, axis=0)
        if np.hypot(*step[0]) < 7:
            break
        across = np.column_stack([-step[:, 1], step[:, 0]])
        shift = rng.uniform(-1, 1, len(step)) * swing * 0.92**level
        middle = (line[:-1] + line[1:]) / 2 + across * shift[:, None]
        both = np.empty((len(line) + len(middle), 2))
        both[0::2], both[1::2] = line, middle
        line = both
    return line[::-1] if swapped else line


def outline(corners: Points) -> Points:
    """The bent border all around a cell, closed without repeating the first point."""
    edges = [border(a, b)[:-1] for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    return np.concatenate(edges)


def smooth(points: Points, rounds: int = 3) -> Points:
    """A closed line with its corners cut (Chaikin), for water."""
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        both = np.empty((2 * len(points), 2))
        both[0::2], both[1::2] = points * 0.75 + following * 0.25, points * 0.25 + following * 0.75
        points = both
    return points


def svg_path(points: Points, *, closed: bool = True) -> str:
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points) + ("Z" if closed else "")
