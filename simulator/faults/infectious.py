"""Faults of IDR-001 to IDR-004 and IDR-006 to IDR-014."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, instants
from simulator.faults.copies import changed, history_end, look, place, renamed
from simulator.faults.record import World

TABLE = "idr_card"
DAY = np.timedelta64(86400, "s")
TIMES = ("diagnosed_at", "filled_at", "net_reported_at", "source_updated_at")
SILENCE = 64  # days without a card: nine weeks


def inject(world: World) -> None:
    silent_institution(world)
    unreported(world)
    twice(world)
    not_corrected(world)
    died(world)
    positive(world)
    plain = _plain(world)
    code, group = world.array(TABLE, "disease_code"), world.array(TABLE, "population_code")
    age = (_at(world, "diagnosed_at").astype("datetime64[D]") - world.array(TABLE, "birth_date")).astype(
        "int64"
    ) / 365.25
    sporadic = world.array(TABLE, "encounter_id") == None  # noqa: E711  (element-wise)
    rows = world.choose(
        TABLE, "IDR-010", plain & sporadic & np.isin(code, ("4000", "1400", "3600", "3500")) & (age < 14)
    )
    world.put(TABLE, rows, disease_code="2500", idr_disease_name="新生儿破伤风", disease_icd10_code="A33.x00")
    world.note(TABLE, rows, "IDR-010", "rule", "disease_code,birth_date")
    simple(
        world,
        "IDR-006",
        plain & sporadic & np.isin(code, ("4000", "3600")),
        "case_class_code",
        case_class_code="4",
    )
    simple(world, "IDR-007", plain & (age < 14), "parent_name", parent_name=None)
    simple(world, "IDR-008", plain & np.isin(group, ("nursery", "student")), "school_name", school_name=None)
    simple(world, "IDR-009", plain & (age > 20) & (age < 42), "population_code", population_code="retired")
    simple(world, "IDR-011", plain, "addr_region_code", addr_region_code=None)
    rows = world.choose(TABLE, "IDR-001", plain)
    late = {n: instants(_at(world, n)[rows] + 3 * DAY) for n in ("net_reported_at", "source_updated_at")}
    world.put(TABLE, rows, **late)
    world.note(TABLE, rows, "IDR-001", "rule", "net_reported_at")
    rows = world.choose(TABLE, "IDR-002", plain)
    world.put(TABLE, rows, onset_on=days(_at(world, "diagnosed_at")[rows].astype("datetime64[D]") + 2))
    world.note(TABLE, rows, "IDR-002", "rule", "onset_on,diagnosed_at")


def _at(world: World, column: str) -> np.ndarray:
    result: np.ndarray = world.array(TABLE, column).astype("datetime64[s]")
    return result


def _plain(world: World) -> np.ndarray:
    """First reports of the history that were no suspicion and whose reporting is well over."""
    first = (world.array(TABLE, "card_category_code") == "1") & (world.array(TABLE, "case_class_code") != "3")
    result: np.ndarray = first & (
        _at(world, "diagnosed_at").astype("datetime64[D]") + 14 < history_end(world)
    )
    return result


def simple(world: World, rule: str, candidates: np.ndarray, fields: str, **values: object) -> None:
    rows = world.choose(TABLE, rule, candidates)
    world.put(TABLE, rows, **values)
    world.note(TABLE, rows, rule, "rule", fields)


def _first_diagnoses(world: World, residents: np.ndarray) -> np.ndarray:
    """Row of each resident's first diagnosis of the disease that clinics report."""
    rows = world.tables["diagnosis"]
    hit = pc.and_(
        pc.starts_with(rows["icd10_code"], "A09"), pc.is_in(rows["resident"], pa.array(residents))
    ).to_numpy()
    at = np.flatnonzero(hit)
    who, when = world.array("diagnosis", "resident")[at], world.array("diagnosis", "dx_at")[at]
    order = np.lexsort((when, who))
    first = np.r_[True, who[order][1:] != who[order][:-1]] if len(at) else np.zeros(0, dtype=bool)
    return at[order[first]]


def _lose(world: World, rows: np.ndarray) -> None:
    """The cards are gone; whoever has none left of the clinics' disease is now a case that was not reported (IDR-004)."""
    clinic = world.array(TABLE, "disease_code") == "3900"
    who = world.array(TABLE, "resident")
    kept = np.ones(len(who), dtype=bool)
    kept[rows] = False
    lost = np.setdiff1d(who[rows[clinic[rows]]], who[kept & clinic])
    first = _first_diagnoses(world, lost)
    over = world.array("diagnosis", "dx_at")[first].astype("datetime64[D]") + 6 < world.end
    world.note("diagnosis", np.sort(first[over]), "IDR-004", "rule", "icd10_code")
    world.drop(TABLE, rows)


def silent_institution(world: World) -> None:
    """One institution with ordinary numbers of visits stops reporting for nine weeks (IDR-014)."""
    encounter = world.tables["encounter"]
    recent = (world.array("encounter", "started_at").astype("datetime64[D]") > world.end - 56) & (
        world.array("encounter", "deliver_on") <= world.end
    )
    seen = pc.unique(
        pc.binary_join_element_wise(encounter["org_code"], encounter["encounter_id"], "|").filter(
            pa.array(recent)
        )
    )
    counts = pc.value_counts(pc.list_element(pc.split_pattern(seen, "|"), 0))
    visits = {c["values"]: c["counts"] for c in counts.to_pylist()}
    if not visits or not world.tables[TABLE].num_rows:
        return
    usual = float(np.quantile(list(visits.values()), 0.25))
    busy = [o for o, n in sorted(visits.items()) if n > usual * 1.1 + 1]
    org = world.array(TABLE, "org_code")
    ever = [o for o in busy if o in set(org.tolist())]
    if not ever:
        return
    when = _at(world, "net_reported_at").astype("datetime64[D]") > world.end - SILENCE
    # The one with the fewest cards to lose.
    chosen = min(ever, key=lambda o: (int((when & (org == o)).sum()), o))
    rows = np.flatnonzero(when & (org == chosen))
    world.note_group("org_reporting", chosen, chosen, "IDR-014", "of_org_code")
    _lose(world, rows)


def unreported(world: World) -> None:
    """A case that a clinic diagnosed and never reported (IDR-004)."""
    clinic = (world.array(TABLE, "disease_code") == "3900") & _plain(world)
    rows = world.choose(TABLE, "IDR-004", clinic)
    who = world.array(TABLE, "resident")
    all_of = np.flatnonzero(np.isin(who, who[rows]) & (world.array(TABLE, "disease_code") == "3900"))
    _lose(world, all_of)


def twice(world: World) -> None:
    """The same case reported again within the month (IDR-003)."""
    sporadic = world.array(TABLE, "disease_code") != "2600"
    rows = world.choose(TABLE, "IDR-003", _plain(world) & sporadic)
    copy = renamed(world.tables[TABLE].take(pa.array(rows)), "card_id")
    later = {n: instants(_at(world, n)[rows] + 4 * DAY) for n in TIMES}
    world.note(TABLE, world.add(TABLE, changed(copy, **later)), "IDR-003", "rule", "card_id")


def not_corrected(world: World) -> None:
    """A suspicion that nobody confirmed or withdrew (IDR-012)."""
    suspected = (world.array(TABLE, "case_class_code") == "3") & (
        _at(world, "diagnosed_at").astype("datetime64[D]") + 14 < history_end(world)
    )
    rows = world.choose(TABLE, "IDR-012", suspected)
    world.note(TABLE, rows, "IDR-012", "rule", "case_class_code")
    at = place(
        world, TABLE, "original_card_id", world.tables[TABLE].take(pa.array(rows))["card_id"].to_pylist()
    )
    world.drop(TABLE, np.sort(at[at >= 0]))


def died(world: World) -> None:
    """Dead of a notifiable disease by the registry, alive by the report card (IDR-013)."""
    death, template = "death_registry", np.flatnonzero(_plain(world))
    old = (world.array(death, "died_on") - world.array(death, "birth_date")).astype("int64") > 366 * 25
    known = (world.array(death, "deliver_on") <= history_end(world)) & ~pc.is_null(
        world.tables[death]["id_no"]
    ).to_numpy()
    candidates = np.flatnonzero(
        old & known & (world.array(death, "died_on") - 420 > np.datetime64(world.window.public_health_start))
    )
    if not len(candidates) or not len(template):
        return
    rows = np.sort(world.rng.permutation(candidates)[: max(3, round(len(candidates) * 0.01))])
    world.put(death, rows, underlying_icd10_code="B24.x01")
    dead = world.tables[death].take(pa.array(rows))
    size, on = len(rows), look(world.array(death, "died_on"), rows) - 400
    at = on.astype("datetime64[s]") + np.timedelta64(10 * 3600, "s")
    hour = np.timedelta64(3600, "s")
    base = world.tables[TABLE].take(pa.array(np.resize(template, size)))
    card = changed(
        base, card_id=[f"{k}H" for k in dead["death_id"].to_pylist()], archive_id=None, patient_local_id=None, encounter_id=None,
        name=dead["name"].combine_chunks(), sex_code=dead["sex_code"].combine_chunks(), parent_name=None, school_name=None,
        class_name=None, birth_date=dead["birth_date"].combine_chunks(), id_no=dead["id_no"].combine_chunks(), phone=None,
        population_code="farmer", disease_code="0600", idr_disease_name="艾滋病", disease_icd10_code="B24.x01", case_class_code="2",
        acute_class_code=None, tb_class_code=None, onset_on=days(on - 3), diagnosed_at=instants(at), filled_at=instants(at + hour),
        net_reported_at=instants(at + 2 * hour), source_updated_at=instants(at + 2 * hour),
        deliver_on=[world.window.history_end] * size, resident=dead["resident"].combine_chunks(),
        org_code=dead["org_code"].combine_chunks(), addr_belong_code="1",
        doctor_id=pc.binary_join_element_wise(dead["org_code"].combine_chunks(), "G01", ""),
    )  # fmt: skip
    world.note(TABLE, world.add(TABLE, card), "IDR-013", "rule", "died_on")


def positive(world: World) -> None:
    """Nucleic acid of tubercle bacilli found in a patient whom nobody reported (IDR-005)."""
    report, result = "lab_report", "lab_result"
    ill = world.tables[TABLE].filter(pc.equal(world.tables[TABLE]["disease_code"], "2600"))["resident"]
    old = (world.array(report, "reported_at").astype("datetime64[D]") + 8 < world.end) & (
        world.array(report, "deliver_on") <= history_end(world)
    )
    old &= ~np.isin(world.array(report, "resident"), ill.to_numpy()) & (
        world.array(report, "status_code") == "F"
    )
    # The patient is the laboratory's own: a sample from elsewhere is linked to nobody by its number there.
    old &= world.array(report, "requesting_org_code") == world.array(report, "org_code")
    candidates = np.flatnonzero(old)
    rows = np.sort(world.rng.permutation(candidates)[: max(3, len(candidates) // 5000)])
    own, of_org, seq = (world.array(result, n) for n in ("report_id", "org_code", "seq"))
    for row in rows.tolist():  # a handful of reports
        report_id, org = (world.tables[report][n][row].as_py() for n in ("report_id", "org_code"))
        lines = np.flatnonzero((own == report_id) & (of_org == org))
        if not len(lines):
            continue
        last = int(lines[seq[lines].argmax()])
        number = int(seq[last]) + 1
        line = changed(
            world.tables[result].take(pa.array([last])), seq=number, item_code="XPERT", item_name="结核分枝杆菌核酸检测",
            loinc_code="38379-4", value_type="ST", value_text="阳性", unit=None, ref_range_text="阴性", abnormal_flag="A",
        )  # fmt: skip
        world.add(result, line)
        world.note_group("infection_test", org, f"{report_id}|{number}", "IDR-005", "value_text")
