"""All faults in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from simulator.clinical.draw import stream
from simulator.clinical.window import Window
from simulator.faults import (
    archives,
    deliveries,
    diabetes,
    diseases,
    examination,
    family,
    hospital,
    hypertension,
    malformed,
    natural,
    natural_state,
    office,
)
from simulator.faults.record import World
from simulator.writers.public_health import WORKBOOK_HISTORY


def put_faults(
    tables: dict[str, pa.Table], window: Window, rates: Mapping[str, Any], seed: int
) -> tuple[World, malformed.Damage]:
    """`rates`: profile section `faults`. Returns the faulty world with its log, and the damaged records by file."""
    combined = {name: table.combine_chunks() for name, table in tables.items()}
    world = World(combined, window, stream(seed, "faults"), dict(rates))
    if rates.get("rules_enabled", True):
        hypertension.inject(world)
        diabetes.inject(world)
        examination.inject(world)
        archives.inject(world)
        archives.scientific_ids(world, WORKBOOK_HISTORY)
        family.inject(world, seed)
        diseases.inject(world, seed)
        hospital.inject(world, seed)
        office.stays(world, seed)
    office.make(world, seed)
    if rates.get("rules_enabled", True):
        office.inject(world, seed)
        deliveries.inject(world)
    natural.note_archives(world)
    family.note(world)
    diseases.note(world)
    hospital.note(world)
    con = natural_state.states(world, [*office.SERVED_ON, office.STAY])
    if rates.get("rules_enabled", True):
        office.licences(world, con, seed)
    office.note(world, con)
    natural_state.note(world)
    natural.note_updates(world)
    malformed.imaging(world)
    malformed.duplicates(world)
    damage = malformed.build(world) if rates.get("malformed", True) else {}
    return world, damage
