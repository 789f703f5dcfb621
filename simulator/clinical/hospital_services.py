"""What hospitals keep beside the care itself, in one call: charges, front pages, insurance, pharmacy, control, machines.

Every step draws from a stream of its own, so the city's other tables are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical import imaging_reports
from simulator.clinical.allergies import make_allergies
from simulator.clinical.draw import stream
from simulator.clinical.encounters import Encounters
from simulator.clinical.fees import make_bills, make_fee_items
from simulator.clinical.front_page import make_front_pages
from simulator.clinical.inpatients import make_inpatients
from simulator.clinical.insurance import make_insurance
from simulator.clinical.laboratory_control import make_critical_values, make_quality_control
from simulator.clinical.machines import make_cold_chain, make_equipment
from simulator.clinical.patients import Patients
from simulator.clinical.pharmacy import make_pharmacy
from simulator.clinical.window import Window

#: Table -> feed.
FEED_OF = {
    "fee_item": "his", "front_page": "his", "inpatient_encounter": "his", "allergy": "his",
    "critical_value_event": "lis", "qc_result": "lis",
    "imaging_report": "pacs", "imaging_study": "pacs", "cold_chain_reading": "iot", "equipment_reading": "iot",
    "stock_in": "pharmacy", "stock_out": "pharmacy", "stock_snapshot": "pharmacy", "drug_trace": "pharmacy",
    "settlement": "insurance", "settlement_item": "insurance", "deduction": "insurance",
}  # fmt: skip


def make_hospital_services(
    enc: Encounters, patients: Patients, world: Mapping[str, pa.Table], window: Window, rates: Mapping[str, Any], seed: int
) -> dict[str, pa.Table]:  # fmt: skip
    """The tables of :data:`FEED_OF`, and ``imaging_instance`` once more, with the dose. ``world``: what is there already."""

    def own(name: str) -> np.random.Generator:
        return stream(seed, "hospital", name)

    bills = make_bills(enc, window, rates, own("bills"))
    fee_items = make_fee_items(bills, own("fee_item"))
    instances, encounters = world["imaging_instance"], world["encounter"]
    return {
        "fee_item": fee_items,
        "front_page": make_front_pages(bills, enc, patients),
        "inpatient_encounter": make_inpatients(encounters),
        "allergy": make_allergies(patients, world["prescription_item"], encounters, window, own("allergy")),
        "critical_value_event": make_critical_values(
            world["lab_report"], world["lab_result"], window, rates, own("critical")
        ),
        "qc_result": make_quality_control(window, own("control")),
        "imaging_report": imaging_reports.make_reports(instances, encounters, window, own("imaging_report")),
        "imaging_study": imaging_reports.empty_studies(),
        "imaging_instance": imaging_reports.with_dose(instances, own("dose")),
        "cold_chain_reading": make_cold_chain(window, rates, own("cold_chain")),
        "equipment_reading": make_equipment(window, rates, own("equipment")),
        **make_pharmacy(world["prescription_item"], window, own("pharmacy")),
        **make_insurance(bills, fee_items, window, own("insurance")),
    }
