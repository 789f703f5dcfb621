"""The whole clinical world of a city in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.archive import make_archives, make_deaths
from simulator.clinical.cards import make_cards, make_care
from simulator.clinical.cohort import make_cohort
from simulator.clinical.diagnoses import make_diagnoses, make_prescriptions
from simulator.clinical.disease_services import TABLES as DISEASE_TABLES
from simulator.clinical.disease_services import make_disease_services
from simulator.clinical.encounters import make_encounters
from simulator.clinical.exams import make_exams
from simulator.clinical.family_services import make_family_services
from simulator.clinical.followup import make_course
from simulator.clinical.hospital_services import FEED_OF as HOSPITAL_FEED_OF
from simulator.clinical.hospital_services import make_hospital_services
from simulator.clinical.imaging import make_imaging
from simulator.clinical.labs import make_labs
from simulator.clinical.office import FEED_OF as OFFICE_FEED_OF
from simulator.clinical.patients import make_patients, patient_rows
from simulator.clinical.physiology import Physiology
from simulator.clinical.referrals import make_referrals
from simulator.clinical.telemetry import make_telemetry
from simulator.clinical.visits import make_visits
from simulator.clinical.window import Window

FEED_OF = {
    "patient": "his", "encounter": "his", "diagnosis": "his", "prescription_item": "his", "referral": "referral",
    "lab_report": "lis", "lab_result": "lis", "imaging_instance": "pacs", "vital_reading": "iot", "device_binding": "iot",
    "ph_archive": "public_health", "htn_card": "public_health", "htn_visit": "public_health", "dm_card": "public_health",
    "dm_visit": "public_health", "ph_exam": "public_health", "death_registry": "public_health",
    **dict.fromkeys((
        "birth_record", "newborn_visit", "child_card", "child_visit", "vaccination_record", "preg_card", "prenatal_visit",
        "delivery", "postpartum_visit", "tcm_child", "tcm_elder", "fd_contract", "fd_service",
    ), "public_health"),
    **dict.fromkeys(DISEASE_TABLES, "public_health"),
    "audit_event": "access_log",
    **HOSPITAL_FEED_OF,
    **OFFICE_FEED_OF,
}  # fmt: skip


@dataclass(frozen=True)
class Register:
    """What the simulator needs of the organisation register (dbt/seeds/org.csv)."""

    level: dict[str, int]
    name: dict[str, str]
    short_name: dict[str, str]
    parent: dict[str, str]

    @classmethod
    def of(cls, orgs: pa.Table) -> Register:
        rows = orgs.to_pylist()
        return cls(
            {r["org_code"]: int(r["org_level_code"]) for r in rows},
            {r["org_code"]: r["org_name"] for r in rows},
            {r["org_code"]: r["org_short_name"] for r in rows},
            {r["org_code"]: r["parent_org_code"] for r in rows if r["parent_org_code"]},
        )

    @property
    def hospital_of(self) -> dict[str, str]:
        """Short name of the hospital that each centre refers to."""
        return {
            code: self.short_name[parent] for code, parent in self.parent.items() if self.level[code] == 1
        }


def make_world(
    city: Any, register: Register, window: Window, rates: Mapping[str, Any], seed: int
) -> dict[str, pa.Table]:
    """Table name -> rows known up to the window's horizon, in standard codes. `rates`: profile section `clinical`."""
    cohort = make_cohort(city.residents, window, rates, seed)
    body = Physiology.of(cohort, seed)
    archives = make_archives(city, cohort, window, rates, seed)
    care = make_care(archives, cohort, window, rates, seed)
    course = make_course(care, cohort, window, rates, seed)
    patients = make_patients(city, register.level, window)
    enc = make_encounters(city, patients, cohort, window, rates, seed)
    exams = make_exams(archives, cohort, body, window, rates, seed)
    known_to_lab, known_to_imaging = (make_patients(city, register.level, window, s) for s in ("lis", "pacs"))
    report, result = make_labs(enc, exams, patients, known_to_lab, cohort, body, window, rates, seed)
    binding, reading = make_telemetry(care, archives, cohort, window, rates, seed)
    centre_of = city.residents["centre_code"].to_pylist()
    world = {
        "patient": patient_rows(patients, city, window),
        "encounter": enc.table,
        "diagnosis": make_diagnoses(enc, cohort, window, seed),
        "prescription_item": make_prescriptions(enc, cohort, window, rates, seed),
        "referral": make_referrals(enc, register.parent, centre_of, window, rates, seed),
        "lab_report": report,
        "lab_result": result,
        "imaging_instance": make_imaging(
            enc, patients, known_to_imaging, cohort, register.name, window, rates, seed
        ),
        "device_binding": binding,
        "vital_reading": reading,
        "ph_archive": archives.table,
        **make_cards(care, archives, cohort, window, seed),
        **make_visits(course, care, archives, cohort, register.hospital_of, window, seed),
        "ph_exam": exams,
        "death_registry": make_deaths(city, cohort, window, seed),
    }
    world |= make_disease_services(city, register.hospital_of, archives, cohort, world, window, rates, seed)
    world |= make_family_services(
        city, register.parent, register.hospital_of, archives, cohort, care, world, window, seed
    )
    world |= make_hospital_services(enc, patients, world, window, rates, seed)
    last = pa.scalar(window.horizon, pa.date32())
    return {name: table.filter(pc.less_equal(table["deliver_on"], last)) for name, table in world.items()}
