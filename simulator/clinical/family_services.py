"""Services for families in one call: children, mothers, traditional medicine, family doctors.

Every step draws from a stream of its own, so the city's other tables are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from simulator.clinical import children, children_births, contracts, maternal, maternal_records, tcm
from simulator.clinical.archive import Archives
from simulator.clinical.cards import Care
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import stream
from simulator.clinical.served import Served
from simulator.clinical.window import Window


def make_family_services(
    city: Any, parent: dict[str, str], hospital_of: dict[str, str], archives: Archives, cohort: Cohort, care: Care,
    world: Mapping[str, pa.Table], window: Window, seed: int,
) -> dict[str, pa.Table]:  # fmt: skip
    """The thirteen tables. ``world``: tables that are there already (prescriptions; cards of other programmes)."""
    served = Served.of(archives, cohort, window)
    rng = stream(seed, "family", "children")
    births = children.make_births(city, served, rng)
    kids = children.make_children(served, rng)
    visits = children.make_visits(kids, served, hospital_of, rng)
    preg = maternal.make_pregnancies(kids, births, served, world, stream(seed, "family", "pregnancies"))
    mothers, delivery_of = maternal_records.make_records(preg, births, served, parent, hospital_of, seed)
    newborn = stream(seed, "family", "births")
    records = children_births.make_records(city, kids, births, delivery_of, served, parent, newborn)
    out = {
        "birth_record": records,
        "newborn_visit": children_births.make_newborn_visits(kids, births, served, seed),
        "child_card": children.make_cards(kids, births, served),
        "child_visit": visits,
        "vaccination_record": children_births.make_doses(kids, served, seed),
        **mothers,
        "tcm_child": children.make_guidance(kids, visits, served, stream(seed, "family", "tcm_child")),
        "tcm_elder": tcm.make_elders(served, stream(seed, "family", "tcm_elder")),
    }
    return out | contracts.make_contracts(served, care, {**world, **out}, seed)
