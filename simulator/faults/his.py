"""Faults of HIS-001 to HIS-008, HIS-013, HIS-020 and HIS-021: encounters, diagnoses, prescriptions."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.faults.his_rows import Hand, hours

ENC, DX, RX = "encounter", "diagnosis", "prescription_item"
HARMLESS = ("J06.900", "K29.500", "M54.500", "L30.900")  # diagnoses that no other rule asks about
PUT = ("N43.301", "N83.201", "P59.900")  # diagnoses that nobody of the city has but by a fault
LIMITED = ("C08CA01", "C08CA05", "C09AA02", "A10BA02", "M01AE01", "J01CA04", "J01DD08", "R05CB06")
HIGH_DOSE = 6.0
ALLERGENS = {"J01C": "青霉素类", "J01D": "头孢菌素类", "M01A": "非甾体抗炎药"}

#: The simulator's own reading: codes of its catalogue that ask for a sex or an age.
_PERSONS = """
    WITH newest AS (
        SELECT * FROM patient WHERE deliver_on <= $end
        QUALIFY row_number() OVER (PARTITION BY org_code, patient_local_id ORDER BY source_updated_at DESC, deliver_on DESC) = 1
    ), seen AS (
        SELECT d.row_no, left(d.icd10_code, 3) AS code, p.sex_code,
            date_part('year', age(CAST(d.dx_at AS DATE), p.birth_date)) AS years
        FROM diagnosis AS d
        INNER JOIN (
            SELECT DISTINCT org_code, encounter_id, patient_local_id FROM encounter WHERE deliver_on <= $end
        ) AS e USING (org_code, encounter_id)
        INNER JOIN newest AS p ON p.org_code = e.org_code AND p.patient_local_id = e.patient_local_id
        WHERE d.deliver_on <= $end AND left(d.icd10_code, 3) IN ('O80', 'Z34', 'N76', 'N83', 'N40', 'N43', 'P59')
    )
    SELECT row_no, 'HIS-003' AS rule FROM seen
    WHERE (code IN ('O80', 'Z34', 'N76', 'N83') AND sex_code = '1') OR (code IN ('N40', 'N43') AND sex_code = '2')
    UNION ALL
    SELECT row_no, 'HIS-004' FROM seen
    WHERE (code IN ('O80', 'Z34') AND (years < 10 OR years > 60)) OR (code = 'N40' AND years < 18) OR (code = 'P59' AND years > 1)
    ORDER BY ALL
"""
_ALLERGIC = """
    SELECT DISTINCT x.row_no FROM prescription_item AS x
    INNER JOIN encounter AS e USING (org_code, encounter_id)
    INNER JOIN allergy AS a ON a.org_code = e.org_code AND a.patient_local_id = e.patient_local_id
        AND a.allergen_code = left(x.drug_code, 4) AND a.recorded_at <= x.rx_at
    WHERE x.deliver_on <= $end ORDER BY 1
"""


def inject(hand: Hand) -> None:
    """What lies before the charges begin, so that no other table speaks of it."""
    encounters(hand)
    diagnoses(hand)
    prescriptions(hand)


def encounters(hand: Hand) -> None:
    world, group = hand.world, hand.encounters(ENC)
    early = hand.day(ENC, "started_at") < hand.operations_start - 2
    visits = hand.single(ENC, "encounter_id") & early & hand.has(ENC, ["AMB"], "class_code")
    start = hand.time(ENC, "started_at")
    for rule, by in (("HIS-001", -30.0), ("HIS-021", 40.0)):
        rows = hand.pick(ENC, rule, visits, group)
        world.put(ENC, rows, ended_at=instants(start[rows] + hours(by)))
        hand.note(ENC, rows, rule, "ended_at")
    total = world.array(ENC, "total_fee")
    rows = hand.pick(ENC, "HIS-013", visits, group)
    world.put(ENC, rows, insurance_pay=np.round(total[rows] + 100, 2))
    hand.note(ENC, rows, "HIS-013", "insurance_pay")
    sbp, dbp = world.array(ENC, "sbp_mmhg"), world.array(ENC, "dbp_mmhg")
    rows = hand.pick(ENC, "HIS-020", visits & (sbp > dbp), group)
    world.put(
        ENC, rows, sbp_mmhg=pa.array(dbp[rows].astype("int64")), dbp_mmhg=pa.array(sbp[rows].astype("int64"))
    )
    hand.note(ENC, rows, "HIS-020", "sbp_mmhg,dbp_mmhg")


def diagnoses(hand: Hand) -> None:
    """Codes against sex and age are logged by :func:`note_persons`; here they are put in."""
    world, group = hand.world, hand.encounters(DX)
    early = hand.old(DX) & (hand.day(DX, "dx_at") < hand.operations_start - 2)
    plain = hand.has(DX, HARMLESS, "icd10_code") & (hand.count(group) == 1) & early
    sex, born = _person(hand)
    for rule, chosen, code, name in (
        ("HIS-003", plain & (sex == "2"), "N43.301", "睾丸鞘膜积液"), ("HIS-003", plain & (sex == "1"), "N83.201", "卵巢囊肿"),
        ("HIS-004", plain & (born < np.datetime64("2000-01-01")), "P59.900", "新生儿黄疸"),
    ):  # fmt: skip
        rows = hand.pick(DX, rule, chosen, group)
        world.put(DX, rows, icd10_code=code, dx_name=name)
    single = hand.single(ENC, "encounter_id") & hand.has(ENC, ["AMB"], "class_code")
    lonely = plain & hand.has(DX, hand.encounters(ENC).filter(pa.array(single)), "org_code", "encounter_id")
    rows = hand.pick(DX, "HIS-002", lonely & hand.has(DX, HARMLESS, "icd10_code"), group)
    gone = hand.has(ENC, group.take(pa.array(rows)), "org_code", "encounter_id")
    hand.note(ENC, np.flatnonzero(gone), "HIS-002", "encounter_id")
    world.drop(DX, rows)


def _person(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Registered sex and birth date of the patient of each diagnosis, by the institution's own number."""
    visit = hand.at(ENC, hand.encounters(DX), "org_code", "encounter_id")
    local = hand.ids(ENC, "org_code", "patient_local_id").take(pa.array(np.maximum(visit, 0)))
    at = np.where(visit >= 0, hand.at("patient", local, "org_code", "patient_local_id"), -1)
    sex, born = (hand.world.array("patient", column)[at] for column in ("sex_code", "birth_date"))
    sex[at < 0], born[at < 0] = None, np.datetime64("NaT")
    return sex, born


def prescriptions(hand: Hand) -> None:
    world, group = hand.world, hand.encounters(RX)
    early = min(hand.dispensing_start, hand.operations_start) - 2
    old = hand.old(RX) & (hand.day(RX, "rx_at") < early)
    rows = hand.pick(RX, "HIS-005", old, group)
    world.put(RX, rows, days=180)
    hand.note(RX, rows, "HIS-005", "days")
    rows = hand.pick(RX, "HIS-006", old & hand.has(RX, LIMITED, "drug_code"), group)
    world.put(RX, rows, dose=np.round(world.array(RX, "dose")[rows] * HIGH_DOSE, 3))
    hand.note(RX, rows, "HIS-006", "dose")
    rows = hand.pick(RX, "HIS-007", old, group)
    world.put(RX, rows, qty=0.0)
    hand.note(RX, rows, "HIS-007", "qty")
    _allergies(hand, old, group)


def _allergies(hand: Hand, old: np.ndarray, group: pa.Array) -> None:
    """An allergy is on record a month before the medicine was given: that prescription fails, and later ones like it."""
    world = hand.world
    code = pc.utf8_slice_codeunits(hand.ids(RX, "drug_code"), 0, 4)
    allergic = pc.is_in(code, pa.array(list(ALLERGENS))).to_numpy(zero_copy_only=False)
    rows = hand.pick(RX, "HIS-008", old & allergic, group, 40)
    at, size = pa.array(rows), len(rows)
    visit = hand.at(ENC, group.take(at), "org_code", "encounter_id")
    classes = code.take(at).to_pylist()
    added = pa.table({
        "allergy_id": [f"GMX{i:05}" for i in range(size)],
        "patient_local_id": hand.ids(ENC, "patient_local_id").take(pa.array(visit)),
        "allergen_type_code": ["medication"] * size, "allergen_code": classes,
        "allergen_name": [ALLERGENS[c] for c in classes], "status_code": ["active"] * size,
        "recorded_at": instants(hand.time(RX, "rx_at")[rows] - hours(720)), "org_code": hand.ids(RX, "org_code").take(at),
        **{c: world.tables[RX][c].combine_chunks().take(at) for c in ("deliver_on", "resident")},
    })  # fmt: skip
    world.add("allergy", added.select(world.tables["allergy"].column_names))
    with _tables(hand, RX, ENC, "allergy") as con:
        found = con.execute(_ALLERGIC, {"end": world.window.end}).fetchall()
    hand.note(RX, np.array([r for (r,) in found], dtype="int64"), "HIS-008", "drug_code")


def _tables(hand: Hand, *names: str) -> duckdb.DuckDBPyConnection:
    """Tables of the world in DuckDB, the first with ``row_no``."""
    con = duckdb.connect()
    for i, name in enumerate(names):
        table = hand.world.tables[name]
        con.register(name, table if i else table.append_column("row_no", pa.array(np.arange(table.num_rows))))
    return con


def note_persons(hand: Hand) -> None:
    """Log every diagnosis against sex or age as registered: those put in, and those of a wrong registration."""
    with _tables(hand, DX, ENC, "patient") as con:
        found = con.execute(_PERSONS, {"end": hand.world.window.end}).fetchall()
    injected = hand.has(DX, PUT, "icd10_code")
    for rule in ("HIS-003", "HIS-004"):
        rows = np.unique(np.array([r for r, name in found if name == rule], dtype="int64"))
        hand.note(DX, rows[injected[rows]], rule, "icd10_code")
        hand.note(DX, rows[~injected[rows]], rule, "icd10_code", "natural")
