"""Addresses in the styles of the institutions that write them down."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.people.draw import Draw, Ints
from simulator.people.places import places
from simulator.people.text import lookup

# What stands before the house: 0 from the province on, 1 from the city, 2 from the county, 3 from the town,
# 4 village alone, 5 town without its kind (湖滨老洲社区), 6 town alone and nothing behind it.
STYLES = 7
_STYLE_WEIGHTS = np.array([0.10, 0.12, 0.22, 0.28, 0.12, 0.10, 0.06])
TOWN_ONLY = 6
HOUSES, ROOMS = 380, 8


@lru_cache(maxsize=1)
def _prefixes() -> list[str]:
    here, out = places(), []
    for style in range(STYLES):
        for number, village in enumerate(here.station_villages):
            centre = int(here.station_centre[number])
            town, county = here.centre_towns[centre], here.county_names[int(here.centre_county[centre])]
            short = town.removesuffix("街道").removesuffix("镇")
            out.append(
                (
                    f"{here.province_name}{here.city_name}{county}{town}{village}",
                    f"{here.city_name}{county}{town}{village}",
                    f"{county}{town}{village}",
                    f"{town}{village}",
                    village,
                    f"{short}{village}",
                    f"{county}{town}",
                )[style]
            )
    return out


@lru_cache(maxsize=1)
def _tails() -> list[str]:
    """House texts by (way of writing, house, room): number, group and number, building, full-width number."""
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    out: list[str] = []
    for house in range(1, HOUSES + 1):
        out.extend([f"{house}号"] * ROOMS)
    for house in range(1, HOUSES + 1):
        out.extend([f"{house % 12 + 1}组{house}号"] * ROOMS)
    for house in range(1, HOUSES + 1):
        out.extend(f"{house}号{1 + room // 4}单元{room % 4 + 1}0{1 + room // 4}室" for room in range(ROOMS))
    for house in range(1, HOUSES + 1):
        out.extend([f"{house}".translate(wide) + "号"] * ROOMS)
    for house in range(1, HOUSES + 1):
        out.extend([f"{house}"] * ROOMS)
    return out


def addresses(draw: Draw, topic: str, key: Ints, office: Ints, station: Ints, house: Ints) -> pa.Array:
    """Address text. An office (institution) writes two thirds of its addresses in its own style."""
    size = len(places().station_codes)
    house_style = draw.weighted("address/of-office", office, _STYLE_WEIGHTS[:TOWN_ONLY])
    free = draw.weighted(f"{topic}/style", key, _STYLE_WEIGHTS)
    style = np.where(draw.chance(f"{topic}/own", key, 0.66), house_style, free)
    rural = places().centre_rural[places().station_centre[station]]
    u = draw.uniform(f"{topic}/tail", key)
    way = np.where(
        rural,
        np.array([0, 0, 1, 1, 4])[(u * 5).astype(np.int64)],
        np.array([0, 0, 2, 2, 4])[(u * 5).astype(np.int64)],
    )
    way = np.where(u > 0.985, 3, way)
    tail = lookup(["", *_tails()], np.where(style == TOWN_ONLY, 0, 1 + way * HOUSES * ROOMS + house))
    return pc.binary_join_element_wise(lookup(_prefixes(), style * size + station), tail, "")
