"""Faults of CHD-001 to CHD-020."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days, instants, numbers
from simulator.clinical.served import add_months, family
from simulator.faults.copies import at_noon, changed, history_end, in_ids, look, men, place, renamed, settled
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World

CARD, VISIT, BIRTH, NEWBORN, DOSE = (
    "child_card",
    "child_visit",
    "birth_record",
    "newborn_visit",
    "vaccination_record",
)
TABLES = (CARD, VISIT, BIRTH, NEWBORN, DOSE, "tcm_child")
DAY = "datetime64[D]"


def inject(world: World) -> None:
    """A child gets at most one fault in all its records: their rules look at neighbours and across tables."""
    one: set[str] = set()
    world.touched |= dict.fromkeys(TABLES, one)
    no_card(world)
    not_visited(world)
    stage_missed(world)
    doses(world)
    wrong_cards(world)
    wrong_births(world)
    wrong_growth(world)
    wrong_stage(world)
    not_done(world)
    not_followed(world)


def _months(world: World) -> np.ndarray:
    stages = family()["children"]["stages"]
    return np.array(
        [stages[s]["months"] for s in world.tables[VISIT]["stage_code"].to_pylist()], dtype="int64"
    )


def _card_rows(world: World, table: str) -> np.ndarray:
    return place(world, CARD, "archive_id", world.tables[table]["archive_id"].to_pylist())


def no_card(world: World) -> None:
    """A live birth that nobody opened a card for (CHD-019). Mothers with a fault of their own are left alone."""
    birth = world.array(CARD, "birth_date")
    single = (world.array(CARD, "conception_code") == "1") & (birth < history_end(world) - 60)
    record = place(world, BIRTH, "archive_id", world.tables[CARD]["archive_id"].to_pylist())
    delivery = look(world.array(BIRTH, "delivery_id"), record)
    single &= (record >= 0) & np.array([d is not None for d in delivery], dtype=bool)
    mothers = world.touched["delivery"]
    single &= np.array([m not in mothers for m in world.array(CARD, "mother_archive_id")], dtype=bool)
    rows = world.choose(CARD, "CHD-019", single & settled(world, CARD, "card_id"))
    mothers.update(world.array(CARD, "mother_archive_id")[rows].tolist())
    noted = place(world, "delivery", "delivery_id", delivery[rows].tolist())
    world.note("delivery", np.sort(noted), "CHD-019", "rule", "delivered_at")
    world.drop(CARD, rows)


def not_visited(world: World) -> None:
    """Nobody came within a week of leaving hospital (CHD-001)."""
    known = np.array([a is not None for a in world.array(BIRTH, "archive_id")], dtype=bool)
    known &= world.array(BIRTH, "deliver_on") <= history_end(world)
    rows = world.choose(
        BIRTH, "CHD-001", known & (world.array(BIRTH, "discharged_on") < history_end(world) - 20)
    )
    gone = in_ids(world, NEWBORN, "archive_id", set(world.array(BIRTH, "archive_id")[rows].tolist()))
    world.drop(NEWBORN, np.flatnonzero(gone))
    world.note(BIRTH, rows, "CHD-001", "rule", "discharged_on")


def stage_missed(world: World) -> None:
    """A check-up of the schedule did not take place (CHD-002)."""
    months, card = _months(world), _card_rows(world, VISIT)
    day = world.array(VISIT, "visited_on")
    wide = np.select([months <= 12, months <= 36], [30, 60], 180).astype("timedelta64[D]")
    reached = add_months(look(world.array(CARD, "birth_date"), card), months)
    begun = np.maximum(
        look(world.array(CARD, "carded_on"), card), day.min() if len(day) else np.datetime64("1900-01-01")
    )
    due = (card >= 0) & (reached - wide >= begun) & (reached + wide + 6 < history_end(world))
    open_ = (world.array(CARD, "status_code") == "active") & settled(world, CARD, "card_id")
    rows = world.choose(VISIT, "CHD-002", due & look(open_, card))
    world.note(CARD, np.sort(card[rows]), "CHD-002", "rule", "card_id")
    world.drop(VISIT, rows)


def doses(world: World) -> None:
    """A dose that is long overdue (CHD-016), and one that was given too early (CHD-017)."""
    card, number = _card_rows(world, DOSE), world.array(DOSE, "dose_no")
    name, given = world.array(DOSE, "vaccine_name"), world.array(DOSE, "given_at").astype(DAY)
    birth = look(world.array(CARD, "birth_date"), card)
    begun = given.min() if len(given) else np.datetime64("1900-01-01")
    open_ = (world.array(CARD, "status_code") == "active") & settled(world, CARD, "card_id")
    third = np.array(["乙型肝炎" in n for n in name], dtype=bool) & (number == 3)
    due = (card >= 0) & look(open_, card) & (birth >= begun) & (birth + 260 < history_end(world))
    rows = world.choose(DOSE, "CHD-016", third & due)
    world.note(CARD, np.sort(card[rows]), "CHD-016", "rule", "birth_date")
    world.drop(DOSE, rows)

    number, at = world.array(DOSE, "dose_no"), world.array(DOSE, "given_at")
    first = np.array(["麻腮风" in n for n in world.array(DOSE, "vaccine_name")], dtype=bool) & (number == 1)
    rows = world.choose(DOSE, "CHD-017", first & (at.astype(DAY) > begun + 70))
    world.put(DOSE, rows, given_at=instants(at[rows].astype("datetime64[s]") - np.timedelta64(50, "D")))
    world.note(DOSE, rows, "CHD-017", "rule", "given_at")


def wrong_cards(world: World) -> None:
    """Light at birth and no high-risk child (CHD-009), a father as mother (CHD-018), seven and still managed (CHD-020)."""
    one, birth = settled(world, CARD, "card_id"), world.array(CARD, "birth_date")
    rows = world.choose(CARD, "CHD-009", one & ~world.array(CARD, "is_high_risk").astype(bool))
    world.put(CARD, rows, birth_weight_g=2300.0)
    world.note(CARD, rows, "CHD-009", "rule", "is_high_risk")

    # Only where no delivery is on record, which would miss its child.
    delivered = set(world.tables["delivery"]["archive_id"].to_pylist())
    linked = np.array(
        [m is not None and m not in delivered for m in world.array(CARD, "mother_archive_id")], dtype=bool
    )
    rows = world.choose(CARD, "CHD-018", one & linked)
    fathers = world.array("ph_archive", "archive_id")[
        world.rng.permutation(np.flatnonzero(men(world)))[: len(rows)]
    ]
    rows = rows[: len(fathers)]
    world.put(CARD, rows, mother_archive_id=fathers.tolist())
    world.note(CARD, rows, "CHD-018", "rule", "mother_archive_id")

    rows = world.choose(CARD, "CHD-020", one & (add_months(birth, 84) < history_end(world)))
    world.put(CARD, rows, status_code="active", ended_on=None)
    world.note(CARD, rows, "CHD-020", "rule", "status_code")


def wrong_births(world: World) -> None:
    """Weight in kilograms or an Apgar score of 11 (CHD-008)."""
    weight = world.array(BIRTH, "birth_weight_g")
    rows = world.choose(BIRTH, "CHD-008", np.full(len(weight), True))
    odd = np.arange(len(rows)) % 2 == 1
    world.put(BIRTH, rows, birth_weight_g=numbers(np.where(odd, weight[rows], weight[rows] / 1000), 2),
              apgar_1=np.where(odd, 11, 9))  # fmt: skip
    world.note(BIRTH, rows, "CHD-008", "rule", "birth_weight_g,apgar_1")


def wrong_growth(world: World) -> None:
    """Grams for kilograms (CHD-005), shorter than last time (CHD-006), lighter and nobody asks why (CHD-007)."""
    weight = world.array(VISIT, "weight_kg")
    known = world.array(VISIT, "deliver_on") <= world.end
    rows = world.choose(VISIT, "CHD-005", known)
    world.put(VISIT, rows, weight_kg=numbers(weight[rows] * 1000, 0))
    world.note(VISIT, rows, "CHD-005", "rule", "weight_kg")

    near, months = neighbours(world, VISIT, "visited_on"), _months(world)
    height, stage = world.array(VISIT, "height_cm"), near.of(months, "previous", 0)
    half_year = known & np.isin(months, [30, 36]) & (stage == months - 6)
    rows = world.choose(VISIT, "CHD-006", half_year)
    world.put(VISIT, rows, height_cm=numbers(height[near.previous[rows]] - 0.8, 1))
    world.note(VISIT, rows, "CHD-006", "rule", "height_cm")

    calm = world.array(VISIT, "development_code") == "1"
    rows = world.choose(VISIT, "CHD-007", half_year & (months == 36) & calm)
    world.put(VISIT, rows, weight_kg=numbers(weight[near.previous[rows]] * 0.94, 2), guidance=None)
    world.note(VISIT, rows, "CHD-007", "rule", "weight_kg,guidance")


def wrong_stage(world: World) -> None:
    """The form of another age (CHD-003); the same stage twice (CHD-004)."""
    day, months = world.array(VISIT, "visited_on"), _months(world)
    rows = world.choose(VISIT, "CHD-003", (months == 12) & (day < history_end(world) - 60))
    world.put(VISIT, rows, visited_on=days(day[rows] + 45), recorded_at=at_noon(day[rows] + 46))
    world.note(VISIT, rows, "CHD-003", "rule", "stage_code,visited_on")

    day = world.array(VISIT, "visited_on")
    rows = world.choose(VISIT, "CHD-004", day < history_end(world) - 10)
    again = renamed(world.tables[VISIT].take(pa.array(rows)), "visit_id")
    again = changed(again, visited_on=days(day[rows] + 2), recorded_at=at_noon(day[rows] + 4))
    added = world.add(VISIT, again)
    world.note(VISIT, np.concatenate([rows, added]), "CHD-004", "rule", "stage_code")


def not_done(world: World) -> None:
    """Haemoglobin (CHD-010), hearing (CHD-012), eyes or vision (CHD-013) not examined."""
    months, day = _months(world), world.array(VISIT, "visited_on")
    due = day < history_end(world) - 6
    rows = world.choose(VISIT, "CHD-010", due & np.isin(months, [18, 30]))
    world.put(VISIT, rows, hgb_g_l=None)
    world.note(VISIT, rows, "CHD-010", "rule", "hgb_g_l")

    rows = world.choose(VISIT, "CHD-012", due & np.isin(months, [6, 12, 24, 36]))
    world.put(VISIT, rows, hearing_code=[None if i % 2 else "3" for i in range(len(rows))])
    world.note(VISIT, rows, "CHD-012", "rule", "hearing_code")

    rows = world.choose(VISIT, "CHD-013", due)
    world.put(VISIT, rows, eye_code=None, is_eye_care=None, vision_left=None, vision_right=None)
    world.note(VISIT, rows, "CHD-013", "rule", "eye_code,vision_left")


def not_followed(world: World) -> None:
    """Anaemia (CHD-011) or a failed assessment (CHD-015) without consequence; a fontanelle that opened again (CHD-014)."""
    months, day = _months(world), world.array(VISIT, "visited_on")
    rows = world.choose(VISIT, "CHD-011", np.isin(months, [8, 18, 30, 48]) & (day < history_end(world)))
    world.put(VISIT, rows, hgb_g_l=102.0, guidance=None, dx_text=None)
    world.note(VISIT, rows, "CHD-011", "rule", "dx_text,guidance")

    near, closed = neighbours(world, VISIT, "visited_on"), world.array(VISIT, "fontanelle_code")
    known = world.array(VISIT, "deliver_on") <= world.end
    rows = world.choose(
        VISIT, "CHD-014", known & (closed == "1") & (near.of(closed, "previous", None) == "1")
    )
    world.put(VISIT, rows, fontanelle_code="2", fontanelle_cm=0.8)
    world.note(VISIT, rows, "CHD-014", "rule", "fontanelle_code")

    passed = world.array(VISIT, "development_code") == "1"
    rows = world.choose(VISIT, "CHD-015", passed & (months >= 12) & (day < history_end(world) - 100))
    world.put(VISIT, rows, development_code="2")
    world.note(VISIT, rows, "CHD-015", "rule", "development_code,is_referred")
