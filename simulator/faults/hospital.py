"""Faults of the hospital tables, in their order and from a stream of their own."""

from __future__ import annotations

import dataclasses

from simulator.clinical.draw import stream
from simulator.faults import (
    his,
    his_charges,
    imaging,
    insurance,
    laboratory,
    laboratory_control,
    pharmacy,
    telemetry,
)
from simulator.faults.his_rows import Hand
from simulator.faults.record import World


def inject(world: World, seed: int) -> None:
    """All rules of HIS, LIS, PAC, IOT, PHM and INS; tables and log are the world's, the dice are not."""
    hand = Hand(dataclasses.replace(world, rng=stream(seed, "faults", "hospital")))
    insurance.overlaps(hand)
    his_charges.pages(hand)
    insurance.lists(hand)
    his.inject(hand)
    his_charges.inject(hand)
    insurance.inject(hand)
    laboratory.inject(hand)
    laboratory_control.inject(hand)
    imaging.inject(hand)
    telemetry.inject(hand)
    pharmacy.inject(hand)


def note(world: World) -> None:
    """What is wrong in hospital tables without anybody having put it there, read on the state at the end."""
    hand = Hand(world)
    his.note_persons(hand)
    laboratory.note_natural(hand)
    imaging.note_natural(hand)
