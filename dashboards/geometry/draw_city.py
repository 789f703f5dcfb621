"""Draw the city: `python -m dashboards.geometry.draw_city` from the project's root (needs numpy only).

Writes dbt/seeds/district_geometry.csv (one outline per centre, label place) and scenery.yaml (lake, river, county
borders, hospitals) in one 1000 x 640 drawing space. The city does not exist; nothing here is taken from a map.
"""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from dashboards.geometry.noisy import Points, border, join, outline, smooth, svg_path, voronoi_cell

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "dbt" / "seeds"
SCENERY = Path(__file__).with_name("scenery.yaml")
BOX = (1000.0, 640.0)

# Centre -> where it stands: 湖东区 east of the lake, 湖西区 west of it, 青岭县 in the hills north, 云溪县 south.
SITES = {
    "C201": (585, 338), "C202": (712, 262), "C203": (872, 262), "C204": (575, 222), "C205": (748, 388),
    "C206": (300, 236), "C207": (385, 378), "C208": (222, 408), "C209": (138, 272),
    "C210": (452, 128), "C211": (170, 138), "C212": (312, 92), "C213": (620, 96), "C214": (802, 122),
    "C215": (545, 478), "C216": (355, 522), "C217": (688, 528), "C218": (868, 462),
}  # fmt: skip
# Neighbours outside: their cells are left away, so the city's own border bends like any other.
OUTSIDE = [
    (40, 190), (20, 330), (80, 470), (200, 560), (60, 70), (200, 12), (330, -40), (470, 8), (610, -30), (740, 0),
    (880, 0), (960, 110), (990, 230), (985, 360), (985, 540), (870, 620), (700, 660), (590, 610), (450, 640), (290, 650),
]  # fmt: skip
LAKE = [
    (432, 268), (462, 236), (505, 232), (528, 262), (520, 300), (540, 332), (522, 372),
    (492, 402), (462, 398), (448, 366), (462, 334), (440, 306),
]  # fmt: skip
RIVER = [
    (318, 20), (346, 70), (385, 120), (402, 170), (430, 210), (470, 262),
    (490, 330), (496, 396), (482, 440), (468, 490), (486, 545), (500, 590),
]  # fmt: skip
# Shown as crosses, so that the referral hospitals can be found; labels stand right of them.
HOSPITALS = {
    "H001": (598, 306), "H101": (700, 338), "H102": (250, 304), "H103": (694, 212), "H104": (432, 96), "H105": (540, 518),
}  # fmt: skip


def main() -> None:
    orgs = list(csv.DictReader((SEEDS / "org.csv").open(encoding="utf-8-sig")))
    by_code = {org["org_code"]: org for org in orgs}
    codes = sorted(SITES)
    sites = np.array([SITES[code] for code in codes] + OUTSIDE, dtype=float)
    cells = join({code: voronoi_cell(sites, i, BOX) for i, code in enumerate(codes)})
    with (SEEDS / "district_geometry.csv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["org_code", "district_name", "svg_path", "label_x", "label_y"])
        for code in codes:
            x, y = label_place(outline(cells[code]))
            writer.writerow([code, by_code[code]["district_name"], svg_path(outline(cells[code])), x, y])
    scenery = {
        "lake": svg_path(smooth(np.array(LAKE, dtype=float))),
        "river": svg_path(smooth_line(np.array(RIVER, dtype=float)), closed=False),
        "city": " ".join(
            svg_path(line, closed=False) for line in borders(cells, dict.fromkeys(codes, "city"))
        ),
        "counties": " ".join(
            svg_path(line, closed=False)
            for line in borders(cells, {code: by_code[code]["region_code"][:6] for code in codes}, inner=True)
        ),
        "hospitals": [
            {"org_code": code, "name": by_code[code]["org_short_name"], "x": x, "y": y}
            for code, (x, y) in HOSPITALS.items()
        ],
    }
    SCENERY.write_text(
        "# Written by draw_city.py\n"
        + yaml.safe_dump(scenery, allow_unicode=True, sort_keys=False, width=10000),
        encoding="utf-8",
    )


def borders(cells: dict[str, Points], area: dict[str, str], *, inner: bool = False) -> list[Points]:
    """The border lines between different areas; `inner` gives those between two, otherwise the outermost ones."""
    sides: dict[tuple[tuple[float, ...], tuple[float, ...]], list[str]] = {}
    for code, corners in cells.items():
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            start, end = sorted([tuple(a), tuple(b)])
            sides.setdefault((start, end), []).append(area[code])
    wanted = [
        edge
        for edge, areas in sides.items()
        if (len(set(areas)) == 2 if inner else Counter(areas).total() == 1)
    ]
    return [border(np.array(a), np.array(b)) for a, b in wanted]


def label_place(points: Points) -> tuple[int, int]:
    """The outline's point farthest from its border on a 6-unit grid, kept clear of the lake."""
    low, high = points.min(axis=0), points.max(axis=0)
    grid = np.stack(
        np.meshgrid(np.arange(low[0], high[0], 6), np.arange(low[1], high[1], 6)), axis=-1
    ).reshape(-1, 2)
    grid = grid[_inside(grid, points)]
    water = smooth(np.array(LAKE, dtype=float))
    grid = grid[~_inside(grid, water)]
    # Labels are wider than high, so distance counts less across.
    fence = np.concatenate([points, water]) * (0.62, 1.0)
    room = np.min(np.linalg.norm(grid[:, None, :] * (0.62, 1.0) - fence[None], axis=2), axis=1)
    x, y = grid[np.argmax(room)]
    return round(float(x)), round(float(y))


def _inside(grid: Points, polygon: Points) -> np.ndarray:
    """Even-odd rule for many points at once."""
    following = np.roll(polygon, -1, axis=0)
    x, y = grid[:, 0, None], grid[:, 1, None]
    crosses = (polygon[None, :, 1] > y) != (following[None, :, 1] > y)
    rise = np.where(following[:, 1] == polygon[:, 1], 1e-9, following[:, 1] - polygon[:, 1])
    at = (following[:, 0] - polygon[:, 0]) * (y - polygon[:, 1]) / rise + polygon[:, 0]
    inside: np.ndarray = np.sum(crosses & (x < at), axis=1) % 2 == 1
    return inside


def smooth_line(points: Points, rounds: int = 3) -> Points:
    """An open line with its corners cut."""
    for _ in range(rounds):
        cut = np.empty((2 * (len(points) - 1), 2))
        cut[0::2], cut[1::2] = (
            points[:-1] * 0.75 + points[1:] * 0.25,
            points[:-1] * 0.25 + points[1:] * 0.75,
        )
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


if __name__ == "__main__":
    main()
