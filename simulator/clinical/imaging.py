"""Imaging studies of the last days: one row per DICOM instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import catalogue
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, days, instants, pick, serial_ids, stream
from simulator.clinical.encounters import Encounters
from simulator.clinical.patients import Patients, stray_days
from simulator.clinical.window import Window

# Uids under 2.25 would need a UUID; the example root of the standard's own texts is used instead.
UID_ROOT = "1.2.826.0.1.3680043.10.1777"
SOP_CLASS = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1", "CT": "1.2.840.10008.5.1.4.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1", "MR": "1.2.840.10008.5.1.4.1.1.4",
}  # fmt: skip
MANUFACTURERS = ["联影 UIH", "GE MEDICAL SYSTEMS", "SIEMENS", "Mindray"]


@dataclass(frozen=True)
class _Studies:
    """One entry per study; `patient` indexes the HIS patients followed by the strays."""

    patient: np.ndarray
    who: np.ndarray
    org: np.ndarray
    modality: np.ndarray
    at: np.ndarray


def _of_encounters(
    rng: np.random.Generator,
    enc: Encounters,
    residents: int,
    first: np.datetime64,
    window: Window,
    per_year: float,
) -> _Studies:
    """Studies ordered in encounters. Health centres have X-ray and ultrasound; CT and MR stand in hospitals."""
    cat, modalities = catalogue(), list(catalogue().raw["imaging"])
    has = np.array([len(x) > 0 for x in cat.imaging])[enc.condition] & (enc.start.astype(DAY) >= first)
    span = (np.datetime64(window.horizon) - first).astype("int64") + 1
    pull = (
        has
        * np.select([enc.level == 1, enc.level == 2], [0.25, 1.0], 1.2)
        * np.where(enc.klass == 2, 3.0, 1.0)
    )
    share = np.minimum(pull * residents * per_year * span / 365.25 / max(pull.sum(), 1e-9), 1.0)
    row = np.flatnonzero(rng.random(len(share)) < share)
    options = np.full((len(cat.icd10), 2), -1)
    for i, names in enumerate(cat.imaging):
        options[i, : len(names[:2])] = [modalities.index(name) for name in names[:2]]
    pair = options[enc.condition[row]]
    modality = np.where((rng.random(len(row)) < 0.35) & (pair[:, 1] >= 0), pair[:, 1], pair[:, 0])
    simple = (enc.level[row] == 1) & np.isin(modality, [modalities.index("CT"), modalities.index("MR")])
    modality = np.where(simple, modalities.index("DX"), modality)
    at = enc.start[row] + rng.integers(1200, 7200, len(row)).astype("timedelta64[s]")
    return _Studies(enc.patient[row], enc.who[row], enc.org[row], modality, at)


def _of_strays(
    rng: np.random.Generator,
    strays: Patients,
    offset: int,
    cohort: Cohort,
    first: np.datetime64,
    window: Window,
) -> _Studies:
    """A plain X-ray of each patient whom only the archive knows; as many as fall into its short window."""
    share = ((np.datetime64(window.horizon) - first).astype("int64") + 1) / 365.0
    day = stray_days(rng, strays, cohort, first, np.datetime64(window.horizon))
    recent = (strays.since >= first) & (strays.since <= np.datetime64(window.horizon))
    row = np.flatnonzero(~np.isnat(day) & (recent | (rng.random(len(day)) < share)))
    at = day[row].astype("datetime64[s]") + rng.integers(8 * 3600, 17 * 3600, len(row)).astype(
        "timedelta64[s]"
    )
    return _Studies(
        row + offset, strays.resident[row], strays.org[row], np.zeros(len(row), dtype="int64"), at
    )


def make_imaging(
    enc: Encounters, patients: Patients, strays: Patients, cohort: Cohort, org_names: Mapping[str, str], window: Window,
    rates: Mapping[str, Any], seed: int,
) -> pa.Table:  # fmt: skip
    """`imaging_instance` rows (with the patient's registration data that the header carries)."""
    rng = stream(seed, "imaging")
    first = np.datetime64(window.history_end - timedelta(days=int(rates["imaging_history_days"]) - 1))
    parts = [
        _of_encounters(rng, enc, len(cohort), first, window, float(rates["imaging_per_year"])),
        _of_strays(rng, strays, len(patients), cohort, first, window),
    ]
    s = _Studies(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in _Studies.__dataclass_fields__)
    )
    order = np.lexsort((s.patient, s.at))
    s = _Studies(*(getattr(s, name)[order] for name in _Studies.__dataclass_fields__))
    modality, at, modalities = s.modality, s.at, list(catalogue().raw["imaging"])
    raw = catalogue().raw["imaging"]
    count = np.array([raw[m]["instances"] for m in modalities])[modality]
    study = np.repeat(np.arange(len(at)), count)
    instance = np.arange(len(study)) - np.repeat(np.cumsum(count) - count, count) + 1
    reg = patients.plus(strays).table.take(pa.array(s.patient[study]))
    org = s.org[study]
    study_uid = serial_ids(f"{UID_ROOT}.1.{seed % 100000}.", 1 + study, 1)
    series_uid = pc.binary_join_element_wise(study_uid, "1", ".")
    maker = (study * 7 + modality[study]) % len(MANUFACTURERS)
    orgs = sorted(set(org.tolist()))
    index = (
        np.searchsorted(np.array(orgs, dtype=str), org.astype(str)) if orgs else np.zeros(0, dtype="int64")
    )
    return pa.table({
        "sop_instance_uid": serial_ids(pc.binary_join_element_wise(series_uid, "", "."), instance, 1),
        "series_instance_uid": series_uid, "study_instance_uid": study_uid,
        "accession_no": serial_ids(pick(modalities, modality[study]), 1 + study, 8),
        "patient_local_id": reg["local_id"], "issuer_of_patient_id": pa.array(org.tolist(), pa.string()),
        "name": reg["name"], "sex_code": reg["sex_code"], "birth_date": reg["birth_date"],
        "modality_code": pick(modalities, modality[study]),
        "body_part": pick([raw[m]["body_part"] for m in modalities], modality[study]),
        "study_at": instants(at[study]), "study_description": pick([raw[m]["description"] for m in modalities], modality[study]),
        "series_no": pa.array(np.ones(len(study), dtype="int64")), "instance_no": pa.array(instance),
        "institution_name": pick([org_names[code] for code in orgs], index), "manufacturer": pick(MANUFACTURERS, maker),
        "station_name": pc.binary_join_element_wise(pick(modalities, modality[study]), "01", "_"),
        "sop_class_uid": pick([SOP_CLASS[m] for m in modalities], modality[study]),
        "org_code": pa.array(org.tolist(), pa.string()), "deliver_on": days(window.deliver_on(at[study])),
        "resident": pa.array(s.who[study]),
    })  # fmt: skip
