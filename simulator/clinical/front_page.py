"""Front pages of the stays of the last weeks: the hospital's own, and the list that goes to the insurance."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import catalogue
from simulator.clinical.draw import DAY, age_on, flags, instants, numbers, pick, to_days
from simulator.clinical.encounters import Encounters
from simulator.clinical.fees import ITEMS, Bills, key
from simulator.clinical.patients import Patients

#: Part of the bill -> column of the front page.
PARTS = {"01": "fee_service", "03": "fee_nursing", "06": "fee_lab", "07": "fee_imaging", "13": "fee_western_drug",
         "09": "fee_treatment"}  # fmt: skip
VERSIONS = ("hqms", "ins")
READMITTED_WITHIN = 31


def days_in(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Days of a stay: discharge less admission, at least one."""
    result: np.ndarray = np.maximum((end.astype(DAY) - start.astype(DAY)).astype("int64"), 1)
    return result


def comes_back(who: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Stays after which the same patient (of one institution) is admitted again within 31 days."""
    order = np.lexsort((start, who))
    same = who[order][1:] == who[order][:-1]
    gap = (start[order][1:].astype(DAY) - end[order][:-1].astype(DAY)).astype("int64")
    out = np.zeros(len(who), dtype=bool)
    out[order[:-1]] = same & (gap <= READMITTED_WITHIN)
    return out


def make_front_pages(bills: Bills, enc: Encounters, patients: Patients) -> pa.Table:
    """``front_page``: two versions per stay that agree with each other, the charges and the encounter."""
    stay = np.flatnonzero(bills.klass == 2)
    head, at = bills.rows.take(pa.array(stay)), bills.at[stay]
    person = patients.table.take(pa.array(enc.patient[at]))
    birth = to_days(person["birth_date"])
    start, end = bills.start[stay], bills.end[stay]
    ids = pc.dictionary_encode(key(head["org_code"], head["patient_local_id"])).indices.to_numpy()
    age = np.where(
        np.isnat(birth),
        np.nan,
        age_on(np.where(np.isnat(birth), start.astype(DAY), birth), start.astype(DAY)),
    )
    cat = catalogue()
    died = pc.fill_null(pc.equal(head["disposition_code"], "dead"), False).to_numpy()
    paid = np.minimum(bills.paid[stay], bills.total[stay])
    page = pa.table({
        "inpatient_id": head["encounter_id"],
        "medical_record_no": pc.binary_join_element_wise("BA", head["encounter_id"].combine_chunks(), ""),
        "patient_local_id": head["patient_local_id"], "name": person["name"], "sex_code": person["sex_code"],
        "birth_date": person["birth_date"], "age_years": numbers(age), "admitted_at": instants(start),
        "discharged_at": instants(end), "discharge_way_code": pick(["1", "5"], died.astype("int64")),
        "los_days": numbers(days_in(start, end)), "main_icd10_code": pick(cat.icd10, enc.condition[at]),
        "main_dx_name": pick(cat.name, enc.condition[at]), "is_readmit31_planned": flags(comes_back(ids, start, end)),
        "total_fee": numbers(bills.total[stay] / 100, 2), "self_pay": numbers((bills.total[stay] - paid) / 100, 2),
        **{PARTS[item[0]]: numbers(bills.parts[stay, i] / 100, 2) for i, item in enumerate(ITEMS)},
        "attending_doctor_id": head["doctor_id"], "source_updated_at": head["source_updated_at"],
        "org_code": head["org_code"], "deliver_on": head["deliver_on"], "resident": head["resident"],
    })  # fmt: skip
    return pa.concat_tables(
        page.append_column("version_code", pa.array([v] * page.num_rows, pa.string())) for v in VERSIONS
    )
