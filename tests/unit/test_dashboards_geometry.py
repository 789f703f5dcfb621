"""The city's map: districts that share their borders and tile the city."""

import csv
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from dashboards.geometry import draw_city, noisy

ROOT = Path(__file__).resolve().parents[2]


def districts() -> dict[str, np.ndarray]:
    with (ROOT / "dbt/seeds/district_geometry.csv").open(encoding="utf-8") as f:
        return {
            row["org_code"]: np.array(
                [[float(n) for n in p.split()] for p in row["svg_path"][1:-1].split("L")]
            )
            for row in csv.DictReader(f)
        }


def area(points: np.ndarray) -> float:
    following = np.roll(points, -1, axis=0)
    return float(abs(np.sum(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0])) / 2)


def test_one_district_for_each_centre_with_its_name() -> None:
    with (ROOT / "dbt/seeds/org.csv").open(encoding="utf-8-sig") as f:
        centres = {
            row["org_code"]: row["district_name"] for row in csv.DictReader(f) if row["org_level_code"] == "1"
        }
    with (ROOT / "dbt/seeds/district_geometry.csv").open(encoding="utf-8") as f:
        drawn = {row["org_code"]: row["district_name"] for row in csv.DictReader(f)}
    assert drawn == centres


def test_districts_lie_in_the_drawing_and_labels_in_their_district() -> None:
    with (ROOT / "dbt/seeds/district_geometry.csv").open(encoding="utf-8") as f:
        labels = {
            row["org_code"]: (float(row["label_x"]), float(row["label_y"])) for row in csv.DictReader(f)
        }
    for code, points in districts().items():
        assert points.min() >= 0 and points[:, 0].max() <= 1000 and points[:, 1].max() <= 640
        assert draw_city._inside(np.array([labels[code]]), points)[0], code


def test_neighbours_share_every_piece_of_their_border() -> None:
    sides: dict[tuple[tuple[float, ...], ...], int] = {}
    for points in districts().values():
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            side = tuple(sorted([tuple(a), tuple(b)]))
            sides[side] = sides.get(side, 0) + 1
    assert max(sides.values()) == 2
    scenery = yaml.safe_load((ROOT / "dashboards/geometry/scenery.yaml").read_text("utf-8"))
    outer = {tuple(sorted([a, b])) for line in scenery["city"].split("M")[1:] for a, b in _pieces(line)}
    # A piece that only one district has is the city's own border: no gap and no overlap inside.
    assert {side for side, n in sides.items() if n == 1} == outer


def _pieces(line: str) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    points = [tuple(float(n) for n in re.split(r"\s+", p.strip())) for p in line.strip().split("L")]
    return list(pairwise(points))


def test_counties_are_contiguous() -> None:
    with (ROOT / "dbt/seeds/org.csv").open(encoding="utf-8-sig") as f:
        county = {row["org_code"]: row["region_code"][:6] for row in csv.DictReader(f)}
    shapes = {code: {tuple(point) for point in points} for code, points in districts().items()}
    for region in {county[code] for code in shapes}:
        members = [code for code in shapes if county[code] == region]
        reached, fresh = {members[0]}, [members[0]]
        while fresh:
            here = fresh.pop()
            near = [c for c in members if c not in reached and len(shapes[c] & shapes[here]) > 1]
            reached |= set(near)
            fresh += near
        assert reached == set(members), region


def test_border_is_the_same_line_from_both_sides() -> None:
    a, b = np.array([10.0, 20.0]), np.array([180.0, 90.0])
    assert np.array_equal(noisy.border(a, b), noisy.border(b, a)[::-1])
    assert len(noisy.border(a, b)) > 8


def test_cells_partition_the_box() -> None:
    sites = np.random.default_rng(3).uniform(0, 100, (12, 2))
    cells = [noisy.voronoi_cell(sites, i, (100.0, 100.0)) for i in range(12)]
    assert abs(sum(area(cell) for cell in cells) - 100 * 100) < 1e-6
