"""Allergies to medicines that a HIS keeps of its patients."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, instants, pick, serial_ids
from simulator.clinical.fees import key
from simulator.clinical.patients import Patients
from simulator.clinical.window import Window

#: ATC class of four characters -> what the form says.
ALLERGENS = {"J01C": "青霉素类", "J01D": "头孢菌素类", "M01A": "非甾体抗炎药", "J01E": "磺胺类"}
SHARE = 0.012


def make_allergies(
    patients: Patients,
    prescriptions: pa.Table,
    encounters: pa.Table,
    window: Window,
    rng: np.random.Generator,
) -> pa.Table:
    """``allergy``: nobody was ever given what they are known not to bear."""
    size = len(patients.org)
    chosen = np.flatnonzero(
        (rng.random(size) < SHARE) & (patients.since <= np.datetime64(window.history_end))
    )
    kind = rng.integers(0, len(ALLERGENS), len(chosen))
    local = patients.table["local_id"].combine_chunks().take(pa.array(chosen))
    org = pa.array(patients.org[chosen].tolist(), pa.string())
    at = pc.index_in(key(prescriptions["org_code"], prescriptions["encounter_id"]),
                     key(encounters["org_code"], encounters["encounter_id"]))  # fmt: skip
    given = pc.binary_join_element_wise(
        key(prescriptions["org_code"], encounters["patient_local_id"].combine_chunks().take(at)),
        pc.utf8_slice_codeunits(prescriptions["drug_code"].combine_chunks(), 0, 4), "|",
    )  # fmt: skip
    code = pick(list(ALLERGENS), kind)
    borne = pc.is_in(pc.binary_join_element_wise(key(org, local), code, "|"), given)
    when = np.maximum(patients.since[chosen], np.datetime64(window.history_start)).astype(
        "datetime64[s]"
    ) + np.timedelta64(36000, "s")
    rows = np.arange(len(chosen))
    return pa.table({
        "allergy_id": serial_ids("GM", rows + 1, 7), "patient_local_id": local,
        "allergen_type_code": pick(["medication"], rows * 0), "allergen_code": code,
        "allergen_name": pick(list(ALLERGENS.values()), kind), "status_code": pick(["active"], rows * 0),
        "recorded_at": instants(when), "org_code": org, "deliver_on": days(window.deliver_on(when)),
        "resident": pa.array(patients.resident[chosen]),
    }).filter(pc.invert(borne))  # fmt: skip
