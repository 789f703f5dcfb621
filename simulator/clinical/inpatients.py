"""Stays in hospital as the wards keep them: one row per stay, the newest state that the encounter has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants, numbers, pick
from simulator.clinical.front_page import days_in

SECOND = "datetime64[s]"
STATES = ("in_hospital", "discharged")


def make_inpatients(encounters: pa.Table) -> pa.Table:
    """``inpatient_encounter``: a version for each of an inpatient encounter's; a stay that goes on has no discharge."""
    stays = encounters.filter(pc.equal(encounters["class_code"], "IMP")).combine_chunks()
    start, end = (
        stays[c].combine_chunks().to_numpy(zero_copy_only=False).astype(SECOND)
        for c in ("started_at", "ended_at")
    )
    over = ~np.isnat(end)
    ids = stays["encounter_id"].combine_chunks()
    died = pc.fill_null(pc.equal(stays["disposition_code"], "dead"), False).to_numpy()
    return pa.table({
        "inpatient_id": ids, "encounter_id": ids, "admission_no": pc.binary_join_element_wise("ZY", ids, ""),
        "patient_local_id": stays["patient_local_id"], "admitted_at": stays["started_at"],
        "admit_dept_code": stays["dept_code"], "attending_doctor_id": stays["doctor_id"], "discharged_at": instants(end),
        "discharge_dept_code": pc.if_else(pa.array(over), stays["dept_code"].combine_chunks(), None),
        "discharge_way_code": pick(["1", "5"], np.where(over, died.astype("int64"), -1)),
        "los_days": numbers(np.where(over, days_in(start, np.where(over, end, start)), np.nan)),
        "total_fee": stays["total_fee"], "insurance_pay": stays["insurance_pay"],
        "status_code": pick(STATES, over.astype("int64")), "source_updated_at": stays["source_updated_at"],
        "org_code": stays["org_code"], "deliver_on": stays["deliver_on"], "resident": stays["resident"],
    })  # fmt: skip
