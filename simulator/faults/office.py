"""Faults of staff, attachments and stays: GEN-005, GEN-010, EXM-030 and HTN-023; and what holds of them by itself."""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, instants, numbers, stream
from simulator.clinical.office import make_attachments, make_staff
from simulator.faults.copies import changed
from simulator.faults.record import World

STAFF, PICTURE, EXAM, STAY = "staff", "attachment", "ph_exam", "inpatient_encounter"
VISITS = ("htn_visit", "dm_visit")
#: Table -> day of the service that a doctor answers for.
SERVED_ON = {
    **dict.fromkeys(("htn_card", "dm_card", "smi_card", "copd_card", "child_card", "preg_card"), "carded_on"),
    **dict.fromkeys((*VISITS, "copd_visit", "chronic_one_table", "child_visit", "newborn_visit", "prenatal_visit",
                     "postpartum_visit", "smi_visit", "tb_visit", "tcm_child"), "visited_on"),
    "ph_exam": "exam_on", "tcm_elder": "assessed_on", "copd_screen": "screened_on", "fd_contract": "signed_on",
    "fd_service": "done_on", "tb_close": "stopped_on",
}  # fmt: skip
LATE_DAYS = 40  # an upload is late after 30 days and 4 of grace
PAIRS = 0.02  # of the photographs, pairs that show the same
FEWEST, MOST = 3, 60  # records of a doctor whose licence ran out
HOME_VISIT, CLINIC = "2", "1"


def make(world: World, seed: int) -> None:
    """Staff and attachments of the records as they are by now."""
    own, others = stream(seed, "office", STAFF), stream(seed, "office", PICTURE)
    world.tables[STAFF] = make_staff(world.tables, world.window, own).combine_chunks()
    world.tables[PICTURE] = make_attachments(
        world.tables[EXAM], world.tables["htn_visit"], world.window, others
    ).combine_chunks()


def stays(world: World, seed: int) -> None:
    """A stay in a hospital where the resident is registered, around a follow-up at the centre (HTN-023)."""
    own = dataclasses.replace(world, rng=stream(seed, "faults", "office"))
    visit, patient = world.tables[VISITS[0]], world.tables["patient"]
    old = world.array(VISITS[0], "deliver_on") <= np.datetime64(world.window.history_end)
    face = np.isin(world.array(VISITS[0], "visit_way_code").astype(str), (CLINIC, HOME_VISIT))
    hospital = np.flatnonzero(pc.starts_with(patient["org_code"], "H").to_numpy())
    registered = dict(zip(patient["resident"].to_numpy()[hospital].tolist(), hospital.tolist(), strict=True))
    known = np.isin(visit["resident"].to_numpy(), sorted(registered))
    rows = own.choose(VISITS[0], "HTN-023", old & face & known)
    if not len(rows) or not world.tables[STAY].num_rows:
        return
    at = pa.array([registered[r] for r in visit["resident"].to_numpy()[rows].tolist()])
    day = world.array(VISITS[0], "visited_on")[rows].astype("datetime64[s]")
    hour, size = np.timedelta64(3600, "s"), len(rows)
    ids = [f"ZYH{i:08d}" for i in range(size)]
    out = instants(day + 82 * hour)
    added = changed(
        world.tables[STAY].take(pa.array(np.zeros(size, dtype="int64"))), inpatient_id=ids,
        encounter_id=pa.nulls(size, pa.string()),
        admission_no=ids, patient_local_id=patient["patient_local_id"].take(at).combine_chunks(),
        admitted_at=instants(day - 38 * hour),
        discharged_at=out, discharge_dept_code=world.tables[STAY]["admit_dept_code"][0].as_py(), discharge_way_code="1",
        los_days=numbers(np.full(size, 5.0)), total_fee=numbers(np.full(size, 4820.0)),
        insurance_pay=numbers(np.full(size, 3100.0)),
        status_code="discharged", source_updated_at=out, org_code=patient["org_code"].take(at).combine_chunks(),
        deliver_on=[world.window.history_end] * size, resident=patient["resident"].take(at).combine_chunks(),
    )  # fmt: skip
    world.add(STAY, added)
    world.note(VISITS[0], rows, "HTN-023", "rule", "visited_on,visit_way_code")


def inject(world: World, seed: int) -> None:
    """What is wrong in the office's own tables."""
    own = dataclasses.replace(world, rng=stream(seed, "faults", "attachment"))
    recordings(own)
    photographs(own)


def recordings(world: World) -> None:
    """Examinations whose electrocardiogram is missing, a year old, or somebody else's (EXM-030)."""
    exams = world.tables[EXAM]
    once = pc.value_counts(exams["exam_id"].combine_chunks())
    single = once.filter(pc.equal(once.field("counts"), 1)).field("values")
    fits = (
        pc.is_in(exams["exam_id"], single).to_numpy()
        & (world.array(EXAM, "exam_type_code") == "elder")
        & pc.is_valid(exams["ecg_result_code"]).to_numpy()
        & (world.array(EXAM, "exam_on") < np.datetime64(world.window.history_end) - LATE_DAYS)
        & (world.array(EXAM, "deliver_on") <= np.datetime64(world.window.history_end))
    )
    rows = world.choose(EXAM, "EXM-030", fits)
    pictures = world.tables[PICTURE]
    is_ecg = pc.equal(pictures["kind_code"], "ecg").to_numpy()
    name = pc.binary_join_element_wise(pictures["org_code"], pictures["record_key"], "|").to_pylist()
    place = {name[i]: i for i in np.flatnonzero(is_ecg).tolist()}
    chosen = exams.take(pa.array(rows))
    wanted = pc.binary_join_element_wise(chosen["org_code"], chosen["exam_id"], "|").to_pylist()
    at = np.array([place[name] for name in wanted], dtype="int64")
    turn = np.arange(len(at)) % 3
    borrowed = np.flatnonzero(turn == 2)
    ids = pictures["attachment_id"].to_pylist()
    taken = pictures["taken_at"].combine_chunks().to_numpy(zero_copy_only=False).astype("datetime64[s]")
    for row, value in ((int(at[i]), ids[int(at[i - 1])]) for i in borrowed):  # a handful of rows
        world.put(PICTURE, np.array([row]), attachment_id=value)
    old = np.sort(at[turn == 1])
    world.put(PICTURE, old, taken_at=instants(taken[old] - np.timedelta64(365 * 86400, "s")))
    world.note(EXAM, rows, "EXM-030", "rule", "ecg_result_code,abd_us_result_code,chest_dr_result_code")
    world.drop(PICTURE, np.sort(at[turn == 0]))


def photographs(world: World) -> None:
    """Photographs of two people's home visits that show the same but for a bit (GEN-010)."""
    pictures = world.tables[PICTURE]
    photo = pc.equal(pictures["kind_code"], "photo").to_numpy()
    old = world.array(PICTURE, "deliver_on") <= np.datetime64(world.window.history_end)
    rows = world.rng.permutation(np.flatnonzero(photo & old))
    pairs = min(max(round(PAIRS * len(rows) / 2), 2), len(rows) // 2)
    who = pictures["resident"].to_numpy()
    hashes = pictures["phash"].to_pylist()
    noted: list[int] = []
    for first, second in rows[: 2 * pairs].reshape(-1, 2).tolist():  # a few pairs
        if who[first] != who[second]:
            like = f"{int(hashes[first], 16) ^ 1 << int(world.rng.integers(0, 64)):016x}"
            world.put(PICTURE, np.array([second]), phash=like)
            noted += [first, second]
    world.note(PICTURE, np.sort(np.array(noted, dtype="int64")), "GEN-010", "rule", "phash,attachment_id")


def licences(world: World, con: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Two doctors with few recent records: one whose licence ran out before them, one who had left (GEN-005)."""
    served = " UNION ALL ".join(
        f"SELECT doctor_id, {day} AS day FROM {t}" for t, day in sorted(SERVED_ON.items())
    )
    since = world.window.history_end.toordinal() - 30
    few = con.execute(f"""
        WITH late AS (SELECT doctor_id, count(*) AS n FROM ({served})
                      WHERE day > DATE '0001-01-01' + {since - 1} AND day <= last_day() GROUP BY doctor_id)
        SELECT doctor_id FROM late WHERE n BETWEEN {FEWEST} AND {MOST} AND NOT regexp_matches(doctor_id, 'G9[0-9]$')
        ORDER BY doctor_id""").fetchall()
    rng = stream(seed, "faults", "licences")
    chosen = [few[i][0] for i in sorted(rng.permutation(len(few))[:2].tolist())]
    day = np.datetime64(world.window.history_end) - 30
    for doctor, column in zip(chosen, ("license_valid_until", "left_on"), strict=False):
        row = np.flatnonzero(pc.equal(world.tables[STAFF]["staff_id"], doctor).to_numpy())
        world.put(STAFF, row, **{column: days(np.array([day]))})
        if column == "left_on":
            world.put(STAFF, row, status_code="left")


def note(world: World, con: duckdb.DuckDBPyConnection) -> None:
    """Records of a doctor who was not employed or not licensed that day, follow-ups within a stay."""
    con.register("office_staff", world.tables[STAFF])
    for table, day in SERVED_ON.items():
        found = con.execute(f"""
            SELECT t.row_no FROM {table} AS t JOIN office_staff AS s ON s.staff_id = t.doctor_id
            WHERE t.{day} < s.hired_on OR t.{day} > s.left_on OR t.{day} > s.license_valid_until ORDER BY 1""").fetchall()
        world.note(
            table, np.array([r for (r,) in found], dtype="int64"), "GEN-005", "rule", f"doctor_id,{day}"
        )
    done = world.truth().filter(pc.equal(world.truth()["rule_id"], "HTN-023")).to_pylist()
    known = {(r["table_name"], r["org_code"], r["record_key"]) for r in done}
    for table in VISITS:
        found = con.execute(f"""
            SELECT DISTINCT t.row_no, t.org_code, t.visit_id FROM {table} AS t JOIN {STAY} AS i ON i.resident = t.resident
            WHERE t.visit_way_code IN ('{CLINIC}', '{HOME_VISIT}') AND t.visited_on > i.admitted_at::DATE
                AND t.visited_on < coalesce(i.discharged_at::DATE, last_day()) ORDER BY 1""").fetchall()
        rows = [r for r, org, key in found if (table, org, key) not in known]
        world.note(
            table, np.array(rows, dtype="int64"), "HTN-023", "rule", "visited_on,visit_way_code", "natural"
        )
