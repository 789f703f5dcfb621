"""Faults of MAT-001 to MAT-019; MAT-020 comes from the world itself (a drug prescribed to a woman with child)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, numbers
from simulator.clinical.served import family
from simulator.faults.copies import (
    at_noon,
    changed,
    history_end,
    in_ids,
    look,
    men,
    place,
    renamed,
    settled,
    wanted,
)
from simulator.faults.record import World, shifted

CARD, VISIT, DELIVERY, AFTER = "preg_card", "prenatal_visit", "delivery", "postpartum_visit"
TABLES = (CARD, VISIT, DELIVERY, AFTER)
DAY = "datetime64[D]"


def inject(world: World) -> None:
    """A woman gets at most one fault in all her records: their rules look across tables."""
    one: set[str] = set()
    world.touched |= dict.fromkeys(TABLES, one)
    still_pregnant(world)
    window_missed(world)
    six_weeks_missed(world)
    began_too_soon(world)
    wrong_cards(world)
    wrong_visits(world)
    after_delivery(world)
    late_home_visit(world)
    of_impossible_people(world)


def still_pregnant(world: World) -> None:
    """Delivered months ago, and the delivery never arrived: the card says she is still with child (MAT-005)."""
    card_of = place(world, DELIVERY, "card_id", world.tables[CARD]["card_id"].to_pylist())
    born = world.array(DELIVERY, "delivered_at").astype(DAY)
    lmp = world.array(CARD, "lmp_on")
    old = (card_of >= 0) & (look(born, card_of) < history_end(world) - 75)
    visits, day = world.array(VISIT, "card_id").astype(str), world.array(VISIT, "visited_on")
    week = (day - look(lmp, place(world, CARD, "card_id", visits.tolist()))).astype("int64") // 7
    # The last window of the schedule falls due as well: she was seen in it.
    full = in_ids(world, CARD, "card_id", set(visits[(week >= 37) & (week <= 40)].tolist()))
    rows = world.choose(CARD, "MAT-005", old & full & settled(world, CARD, "card_id"))
    world.put(CARD, rows, status_code="active", ended_on=None, end_reason_code=None)
    world.note(CARD, rows, "MAT-005", "rule", "status_code")
    gone = np.sort(card_of[rows])
    ids = set(world.array(DELIVERY, "delivery_id")[gone].tolist())
    world.drop(DELIVERY, gone)
    for table in (AFTER, "birth_record"):
        world.put(table, np.flatnonzero(in_ids(world, table, "delivery_id", ids)), delivery_id=None)


def window_missed(world: World) -> None:
    """The visit of weeks 21 to 24 did not take place (MAT-007)."""
    weeks, day = world.array(VISIT, "gest_weeks"), world.array(VISIT, "visited_on")
    card = place(world, CARD, "card_id", world.tables[VISIT]["card_id"].to_pylist())
    lmp = look(world.array(CARD, "lmp_on"), card)
    due = (lmp + 180 < history_end(world)) & (lmp + 147 >= day.min()) if len(day) else weeks > 0
    rows = world.choose(VISIT, "MAT-007", (weeks >= 21) & (weeks <= 24) & due)
    world.note(CARD, np.sort(card[rows]), "MAT-007", "rule", "card_id")
    world.drop(VISIT, rows)


def six_weeks_missed(world: World) -> None:
    """No check six weeks after the delivery (MAT-017)."""
    born = world.array(DELIVERY, "delivered_at").astype(DAY)
    rows = world.choose(DELIVERY, "MAT-017", born < history_end(world) - 75)
    ids = set(world.array(DELIVERY, "delivery_id")[rows].tolist())
    gone = in_ids(world, AFTER, "delivery_id", ids) & (world.array(AFTER, "visit_kind_code") == "day42")
    world.drop(AFTER, np.flatnonzero(gone))
    world.note(DELIVERY, rows, "MAT-017", "rule", "delivered_at")


def began_too_soon(world: World) -> None:
    """A second booking whose last period lies days after the delivery, closed again as a mistake (MAT-014)."""
    at = place(world, DELIVERY, "card_id", world.tables[CARD]["card_id"].to_pylist())
    born = look(world.array(DELIVERY, "delivered_at").astype(DAY), at)
    archive, lmp = world.array(CARD, "archive_id").astype(str), world.array(CARD, "lmp_on")
    order = np.lexsort((lmp, archive))
    last = np.zeros(len(order), dtype=bool)
    last[order] = np.r_[archive[order][1:] != archive[order][:-1], True] if len(order) else last[order]
    fits = (at >= 0) & last & (born < history_end(world) - 90)
    rows = world.choose(CARD, "MAT-014", fits & settled(world, CARD, "card_id"))
    again = renamed(world.tables[CARD].take(pa.array(rows)), "card_id")
    since = born[rows] + 6
    again = changed(
        again, lmp_on=days(since), edd_on=days(since + 280), carded_on=days(since + 44), gest_weeks=6.0,
        ended_on=days(since + 50), end_reason_code="other", source_updated_at=at_noon(since + 50),
    )  # fmt: skip
    world.note(CARD, world.add(CARD, again), "MAT-014", "rule", "lmp_on")


def wrong_cards(world: World) -> None:
    """What is typed wrong on the booking card."""
    one = settled(world, CARD, "card_id")

    lmp = world.array(CARD, "lmp_on")
    rows = world.choose(CARD, "MAT-003", one)
    world.put(CARD, rows, edd_on=shifted(lmp[rows], 320))
    world.note(CARD, rows, "MAT-003", "rule", "edd_on,lmp_on")

    weeks = world.array(CARD, "gest_weeks")
    rows = world.choose(CARD, "MAT-004", one & (weeks <= 9))
    world.put(CARD, rows, gest_weeks=numbers(weeks[rows] + 3))
    world.note(CARD, rows, "MAT-004", "rule", "gest_weeks")

    rows = world.choose(CARD, "MAT-006", one & (lmp < history_end(world) - 130))
    world.put(CARD, rows, carded_on=shifted(lmp[rows], 99), gest_weeks=14.0)
    world.note(CARD, rows, "MAT-006", "rule", "carded_on,gest_weeks")

    rows = world.choose(CARD, "MAT-013", one)
    world.put(CARD, rows, gravidity=1, parity=1, vaginal_births=1, cesarean_births=0, artificial_abortions=1)
    world.note(CARD, rows, "MAT-013", "rule", "gravidity")

    rows = world.choose(CARD, "MAT-019", one)
    odd = np.arange(len(rows)) % 2 == 1
    # Orange without referral, or syphilis without the purple that infections ask for.
    factors = ["梅毒" if o else "妊娠合并糖尿病" for o in odd]
    world.put(CARD, rows, is_high_risk=True, is_special_mgmt=True, is_referred=[bool(o) for o in odd],
              risk_color_codes=["黄" if o else "橙" for o in odd], risk_factors=factors)  # fmt: skip
    world.note(CARD, rows, "MAT-019", "rule", "risk_color_codes,is_referred")


def wrong_visits(world: World) -> None:
    """What is typed wrong, or was not done, at an antenatal visit."""
    known = world.array(VISIT, "deliver_on") <= world.end
    weeks, fundal = world.array(VISIT, "gest_weeks"), world.array(VISIT, "fundal_cm")

    rows = world.choose(VISIT, "MAT-008", known & (weeks <= 13))
    world.put(VISIT, rows, gest_weeks=numbers(weeks[rows] + 5))
    world.note(VISIT, rows, "MAT-008", "rule", "gest_weeks")

    rows = world.choose(VISIT, "MAT-009", known & (weeks >= 22) & (weeks <= 35))
    world.put(VISIT, rows, fundal_cm=numbers(fundal[rows] - 9))
    world.note(VISIT, rows, "MAT-009", "rule", "fundal_cm")

    calm = known & ~world.array(VISIT, "is_referred").astype(bool)
    rows = world.choose(VISIT, "MAT-010", calm & ~np.isnan(world.array(VISIT, "fetal_heart_bpm")))
    world.put(VISIT, rows, fetal_heart_bpm=[(14.0, 172.0, 98.0)[i % 3] for i in range(len(rows))])
    world.note(VISIT, rows, "MAT-010", "rule", "fetal_heart_bpm")

    rows = world.choose(VISIT, "MAT-011", calm)
    world.put(VISIT, rows, sbp_mmhg=152.0, dbp_mmhg=96.0)
    world.note(VISIT, rows, "MAT-011", "rule", "is_referred")

    rows = world.choose(VISIT, "MAT-012", known)
    world.put(VISIT, rows, hgb_g_l=98.0, guidance=None)
    world.note(VISIT, rows, "MAT-012", "rule", "guidance")

    if "idr_card" in world.tables:  # without the reporting cards nobody can tell what was reported
        rows = world.choose(VISIT, "MAT-015", known & (world.array(VISIT, "visit_no") == 1))
        kind = np.arange(len(rows)) % 3
        world.put(VISIT, rows, hbsag_result_code=["pos" if k == 0 else "neg" for k in kind], is_mtct_blocked=None,
                  syphilis_result_code=["pos" if k == 1 else "neg" for k in kind],
                  hiv_result_code=["not_done" if k == 2 else "neg" for k in kind])  # fmt: skip
        world.note(VISIT, rows, "MAT-015", "rule", "hiv_result_code,syphilis_result_code,hbsag_result_code")


def after_delivery(world: World) -> None:
    """An antenatal visit dated ten days after the delivery (MAT-018)."""
    at = place(world, DELIVERY, "card_id", world.tables[VISIT]["card_id"].to_pylist())
    born = look(world.array(DELIVERY, "delivered_at").astype(DAY), at)
    late = (at >= 0) & (born < history_end(world) - 20) & (world.array(VISIT, "gest_weeks") >= 30)
    rows = world.choose(VISIT, "MAT-018", late)
    cards = place(world, CARD, "card_id", [world.array(VISIT, "card_id")[r] for r in rows])
    day = born[rows] + 10
    weeks = (day - look(world.array(CARD, "lmp_on"), cards)).astype("int64") // 7
    again = changed(
        renamed(world.tables[VISIT].take(pa.array(rows)), "visit_id"), visited_on=days(day), gest_weeks=numbers(weeks),
        next_visit_on=days(day + 7), recorded_at=at_noon(day + 1), visit_no=9,
    )  # fmt: skip
    world.note(VISIT, world.add(VISIT, again), "MAT-018", "rule", "visited_on")


def late_home_visit(world: World) -> None:
    """The first visit later than a week after leaving hospital (MAT-016)."""
    left = world.array(AFTER, "discharged_on")
    early = (world.array(AFTER, "visit_kind_code") == "week1") & (left < history_end(world) - 20)
    rows = world.choose(AFTER, "MAT-016", early)
    day = left[rows] + (9 + np.arange(len(rows)) % 5).astype("timedelta64[D]")
    world.put(AFTER, rows, visited_on=days(day), recorded_at=at_noon(day + 1))
    world.note(AFTER, rows, "MAT-016", "rule", "visited_on")


def of_impossible_people(world: World) -> None:
    """Cards under a husband's archive (MAT-001), of a woman of seventy and without a risk that age asks for (MAT-002)."""
    birth, end = world.array("ph_archive", "birth_date"), history_end(world)
    age = (end - birth).astype("timedelta64[D]").astype("float64") / 365.25
    alive = settled(world, "ph_archive", "archive_id") & (world.array("ph_archive", "status_code") == "0")
    sound = ~in_ids(world, "ph_archive", "archive_id", world.touched.get("ph_archive", ()))
    women = alive & (world.array("ph_archive", "sex_code") == "2")
    for rule, who, fields in (
        ("MAT-001", men(world), "archive_id"), ("MAT-002", women & (age > 66) & (age < 80), "carded_on"),
    ):  # fmt: skip
        rows = np.sort(world.rng.permutation(np.flatnonzero(who & sound))[: wanted(world, CARD, rule)])
        world.note(CARD, _mistaken(world, rows, end), rule, "rule", fields)
    # A woman of 35 or more whose card says nothing about risk.
    mine = look(birth, place(world, "ph_archive", "archive_id", world.tables[CARD]["archive_id"].to_pylist()))
    booked = world.array(CARD, "carded_on")
    old = (booked - mine).astype("timedelta64[D]").astype("float64") / 365.25 >= 35.1
    rows = world.choose(
        CARD, "MAT-002", old & settled(world, CARD, "card_id") & ~np.isnat(world.array(CARD, "lmp_on"))
    )
    world.put(CARD, rows, is_high_risk=None, risk_color_codes=None, risk_factors=None)
    world.note(CARD, rows, "MAT-002", "rule", "is_high_risk")


def _mistaken(world: World, archive_rows: np.ndarray, end: np.datetime64) -> np.ndarray:
    """Booking cards of people who cannot be with child, closed three days later."""
    table = world.tables[CARD]
    if not len(archive_rows) or not table.num_rows:
        return np.zeros(0, dtype="int64")
    people = world.tables["ph_archive"].take(pa.array(archive_rows))
    day = end - (200 + 17 * np.arange(len(archive_rows)) % 400).astype("timedelta64[D]")
    copy = table.take(pa.array(np.zeros(len(archive_rows), dtype="int64")))
    number = pa.array([f"{i:04d}" for i in range(len(archive_rows))])
    ids = pc.binary_join_element_wise("YCFC", people["archive_id"].combine_chunks(), number, "")
    added = changed(
        copy, card_id=ids, **{n: people[n].combine_chunks() for n in ("archive_id", "org_code", "doctor_id", "resident")},
        carded_on=days(day), lmp_on=None, edd_on=None, gest_weeks=9.0, gravidity=1, parity=0, vaginal_births=0,
        cesarean_births=0, natural_abortions=0, is_high_risk=False, risk_color_codes="绿", risk_factors=None,
        past_history="无", is_special_mgmt=False, is_referred=False, referral_org=None, status_code="ended",
        ended_on=days(day + 3), end_reason_code="other", source_updated_at=at_noon(day + 3),
        deliver_on=[world.window.history_end] * len(archive_rows),
    )  # fmt: skip
    return world.add(CARD, added)


def note_drugs(world: World) -> None:
    """Log every prescription of a drug that is forbidden in pregnancy, between last period and delivery (MAT-020)."""
    table = world.tables["prescription_item"]
    pattern = "^(" + "|".join(family()["maternal"]["forbidden"]) + ")"
    rows = np.flatnonzero(pc.match_substring_regex(table["drug_code"], pattern).to_numpy())
    who, day = table["resident"].to_numpy()[rows], world.array("prescription_item", "rx_at").astype(DAY)[rows]
    # The state at the end: the newest delivered version of each card, which comes last.
    known = world.array(CARD, "deliver_on") <= world.end
    cards = {c: r for r, c in enumerate(world.tables[CARD]["card_id"].to_pylist()) if known[r]}
    at = np.array(sorted(cards.values()), dtype="int64")
    lmp, ended = world.array(CARD, "lmp_on")[at], world.array(CARD, "ended_on")[at]
    mother = world.tables[CARD]["resident"].to_numpy()[at]
    births = place(world, DELIVERY, "card_id", world.tables[CARD].take(pa.array(at))["card_id"].to_pylist())
    born = np.where(
        births >= 0, look(world.array(DELIVERY, "delivered_at").astype(DAY), births), np.datetime64("NaT")
    )
    until = np.where(~np.isnat(born), born, np.where(~np.isnat(ended), ended, lmp + 294))
    # Few prescriptions and few cards of the same women: sort both by woman, look at each card's stretch.
    order = np.argsort(who, kind="stable")
    low, high = np.searchsorted(who[order], mother, "left"), np.searchsorted(who[order], mother, "right")
    hit: set[int] = set()
    for card in np.flatnonzero((high > low) & ~np.isnat(lmp)).tolist():
        mine = order[low[card] : high[card]]
        hit.update(rows[mine[(day[mine] >= lmp[card]) & (day[mine] <= until[card])]].tolist())
    world.note(
        "prescription_item", np.array(sorted(hit), dtype="int64"), "MAT-020", "rule", "drug_code", "natural"
    )
