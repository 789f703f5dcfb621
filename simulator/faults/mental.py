"""Faults of SMI-001 to SMI-011, and HTN-008 on the form for mental disorders."""

from __future__ import annotations

import numpy as np

from simulator.clinical.draw import instants
from simulator.faults.copies import history_end, settled
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World
from simulator.faults.tcm import closed_year

CARD, VISIT = "smi_card", "smi_visit"
NEEDED = 4  # visits a year
DAY = 86400


def inject(world: World) -> None:
    missed_visits(world)
    not_revisited(world)
    known = world.array(VISIT, "deliver_on") <= history_end(world)
    kind = world.array(VISIT, "visit_class_code")
    settled_ = known & (kind == "3")
    simple(
        world,
        "SMI-003",
        known & (kind == "1"),
        "is_referred",
        is_referred=False,
        referral_reason=None,
        referral_org=None,
    )
    simple(world, "HTN-008", known & (kind == "1"), "referral_org", referral_org=None)
    rows = world.choose(VISIT, "SMI-005", known & world.array(VISIT, "is_reported").astype(bool))
    at = world.array(VISIT, "reported_at")[rows].astype("datetime64[s]") + np.timedelta64(3 * DAY, "s")
    world.put(VISIT, rows, reported_at=instants(at))
    world.note(VISIT, rows, "SMI-005", "rule", "reported_at")
    simple(world, "SMI-001", settled_, "insight_code", insight_code="3")
    simple(world, "SMI-006", settled_, "accident_count,impact", accident_count=1)
    simple(
        world,
        "SMI-008",
        settled_ & (world.array(VISIT, "visit_way_code") == "2"),
        "hospitalized_code",
        hospitalized_code="1",
    )
    simple(world, "SMI-010", settled_, "danger_level_code", danger_level_code="7")
    cards(world)
    curious(world)


def simple(world: World, rule: str, candidates: np.ndarray, fields: str, **values: object) -> None:
    rows = world.choose(VISIT, rule, candidates)
    world.put(VISIT, rows, **values)
    world.note(VISIT, rows, rule, "rule", fields)


def cards(world: World) -> None:
    """Six diagnoses only, a confirming institution and consent (SMI-007); nobody examined and nobody refused (SMI-009)."""
    alone = settled(world, CARD, "card_id")
    rows = world.choose(CARD, "SMI-007", alone)
    world.put(CARD, rows, smi_icd10_code=["F41.101" if i % 2 else "F20.900" for i in range(len(rows))],
              is_consented=[bool(i % 2) for i in range(len(rows))])  # fmt: skip
    world.note(CARD, rows, "SMI-007", "rule", "smi_icd10_code,is_consented")
    refused = alone & world.array(CARD, "is_exam_refused").astype(bool) & _managed(world)
    rows = world.choose(CARD, "SMI-009", refused)
    world.put(CARD, rows, is_exam_refused=False)
    world.note(CARD, rows, "SMI-009", "rule", "is_exam_refused")


def curious(world: World) -> None:
    """Somebody without a duty in the programme opened a record and was let in (SMI-011)."""
    table = "audit_event"
    known = np.flatnonzero(world.array(table, "deliver_on") <= history_end(world))
    rows = np.sort(world.rng.permutation(known)[: max(3, round(len(known) * 0.01))])
    world.put(table, rows, actor_role="药师", purpose="其他", result="ok")
    world.note(table, rows, "SMI-011", "rule", "actor_role,tables")


def _managed(world: World) -> np.ndarray:
    """Open cards from before the closed year."""
    year = world.array(CARD, "carded_on").astype("datetime64[Y]").astype("int64") + 1970
    result: np.ndarray = (world.array(CARD, "status_code") == "active") & (year < closed_year(world))
    return result


def missed_visits(world: World) -> None:
    """Three visits in the closed year instead of four or more (SMI-002); early visits are kept, so no other rule breaks."""
    near = neighbours(world, VISIT, "visited_on")
    kind, own = world.array(VISIT, "visit_class_code"), world.array(VISIT, "archive_id").astype(str)
    in_year = near.day.astype("datetime64[Y]").astype("int64") + 1970 == closed_year(world)
    free = in_year & (kind == "3") & (near.of(kind, "previous", "3") == "3")
    names, of = np.unique(own, return_inverse=True)
    too_many = np.bincount(of, in_year, len(names)).astype("int64") - NEEDED + 1
    can = names[np.bincount(of, free, len(names)) >= too_many]
    few = np.isin(world.array(CARD, "archive_id").astype(str), can)
    rows = world.choose(CARD, "SMI-002", few & settled(world, CARD, "card_id") & _managed(world))
    world.note(CARD, rows, "SMI-002", "rule", "card_id")
    lost: list[int] = []
    for archive in world.array(CARD, "archive_id")[rows].tolist():  # a handful of people
        spare = int(too_many[np.searchsorted(names, archive)])
        lost += np.flatnonzero(free & (own == archive))[: max(spare, 0)].tolist()
        world.touched.setdefault(VISIT, set()).add(archive)
    world.drop(VISIT, np.array(sorted(lost), dtype="int64"))


def not_revisited(world: World) -> None:
    """A state between, and no visit in the two weeks after (SMI-004)."""
    near = neighbours(world, VISIT, "visited_on")
    kind = world.array(VISIT, "visit_class_code")
    again = (near.gap_after() <= 21) & (near.day + 27 < history_end(world))
    rows = world.choose(VISIT, "SMI-004", (kind == "2") & again)
    world.note(VISIT, rows, "SMI-004", "rule", "visit_class_code,next_visit_on")
    world.drop(VISIT, near.following[rows])
