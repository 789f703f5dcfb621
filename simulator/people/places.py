"""Centres, stations and regions of the city, read from the group's own register."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lake.settings import PROJECT_ROOT

_SEEDS = PROJECT_ROOT / "dbt" / "seeds"


@dataclass(frozen=True)
class Places:
    """Parallel lists; stations point to centres, centres to counties (positions in the lists).

    ``orgs`` is the list that registrations point into: lead hospital, second-level hospitals, centres.
    """

    orgs: tuple[str, ...]
    county_codes: tuple[str, ...]
    county_names: tuple[str, ...]
    outside_codes: tuple[str, ...]
    centre_codes: tuple[str, ...]
    centre_towns: tuple[str, ...]
    centre_share: NDArray[np.float64]
    centre_county: NDArray[np.int64]
    centre_org: NDArray[np.int64]
    centre_rural: NDArray[np.bool_]
    centre_hospital: NDArray[np.int64]
    station_codes: tuple[str, ...]
    station_regions: tuple[str, ...]
    station_villages: tuple[str, ...]
    station_centre: NDArray[np.int64]
    city_name: str
    province_name: str = "汉江省"


def _rows(name: str) -> list[dict[str, str]]:
    with (_SEEDS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=1)
def places() -> Places:
    """The register as arrays; its order (file order) is part of the city's determinism."""
    orgs, regions = _rows("org.csv"), _rows("region.csv")
    names = {r["region_code"]: r["region_name"] for r in regions}
    city = next(r for r in regions if r["level"] == "city")
    prefix = city["region_code"][:4]
    county = [
        r["region_code"] for r in regions if r["level"] == "county" and r["region_code"].startswith(prefix)
    ]
    outside = [
        r["region_code"]
        for r in regions
        if r["level"] == "county" and not r["region_code"].startswith(prefix)
    ]
    hospitals = [r for r in orgs if r["org_kind"] in ("lead_hospital", "hospital")]
    centres = [r for r in orgs if r["org_kind"].endswith("_centre")]
    stations = [r for r in orgs if r["org_kind"] == "station"]
    org_codes = [r["org_code"] for r in [*hospitals, *centres]]
    centre_codes = [r["org_code"] for r in centres]
    share = np.array([float(r["population_share"]) for r in centres])
    towns = [names[r["region_code"]] for r in centres]
    counties = [names[c] for c in county]
    return Places(
        orgs=tuple(org_codes),
        county_codes=tuple(county),
        county_names=tuple(counties),
        outside_codes=tuple(outside),
        centre_codes=tuple(centre_codes),
        # region.csv writes towns with their county's name in front
        centre_towns=tuple(
            t.removeprefix(names[r["region_code"][:6]]) for t, r in zip(towns, centres, strict=True)
        ),
        centre_share=share / share.sum(),
        centre_county=np.array([county.index(r["region_code"][:6]) for r in centres]),
        centre_org=np.array([org_codes.index(c) for c in centre_codes]),
        centre_rural=np.array([r["org_kind"] == "township_centre" for r in centres]),
        centre_hospital=np.array([org_codes.index(r["parent_org_code"]) for r in centres]),
        station_codes=tuple(r["org_code"] for r in stations),
        station_regions=tuple(r["region_code"] for r in stations),
        station_villages=tuple(names[r["region_code"]].removeprefix(r["district_name"]) for r in stations),
        station_centre=np.array([centre_codes.index(r["parent_org_code"]) for r in stations]),
        city_name=city["region_name"],
    )
