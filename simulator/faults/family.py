"""Faults of the services for families, in their order and from a stream of their own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import stream
from simulator.faults import children, contracts, maternal, tcm
from simulator.faults.copies import in_ids
from simulator.faults.record import World


def inject(world: World, seed: int) -> None:
    """All rules of CHD, MAT, TCM and FDC; tables and log are the world's, the dice are not."""
    clear(world)
    own = dataclasses.replace(world, rng=stream(seed, "faults", "family"))
    maternal.inject(own)
    children.inject(own)
    tcm.inject(own)
    contracts.inject(own)


def note(world: World) -> None:
    """What is wrong in the services without anybody having put it there, read on the state at the end."""
    maternal.note_drugs(world)
    tcm.note_not_assessed(world)
    contracts.note_unsigned(world)


def clear(world: World) -> None:
    """Archives with a fault in their identity have no services, as those faults ask for.

    A child without card would be missed by its mother's delivery, so her pregnancies go with it; and with them her
    contract, which may name a package for mothers.
    """
    wrong = world.touched.get("ph_archive", set())
    if not wrong:
        return
    child = in_ids(world, "child_card", "archive_id", wrong)
    mothers = set(world.tables["child_card"].filter(pa.array(child))["mother_archive_id"].to_pylist()) - {
        None
    }
    gone = wrong | mothers
    lost = set(world.tables["delivery"].filter(pc.is_in(world.tables["delivery"]["archive_id"], pa.array(sorted(gone))))[
        "delivery_id"].to_pylist())  # fmt: skip
    for table in (*children.TABLES, tcm.ELDER):
        world.drop(table, np.flatnonzero(in_ids(world, table, "archive_id", wrong)))
    for table in (*maternal.TABLES, contracts.TABLE, contracts.SERVICE):
        world.drop(table, np.flatnonzero(in_ids(world, table, "archive_id", gone)))
    for table in ("child_card", "birth_record"):
        world.put(
            table, np.flatnonzero(in_ids(world, table, "mother_archive_id", wrong)), mother_archive_id=None
        )
    world.put(
        "birth_record", np.flatnonzero(in_ids(world, "birth_record", "delivery_id", lost)), delivery_id=None
    )
