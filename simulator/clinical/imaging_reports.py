"""Reports of the imaging studies, and the dose that a scanner writes into its headers."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, flags, instants, numbers, pick
from simulator.clinical.window import Window

# A study is made twenty minutes to two hours after its encounter began; one without is a stranger's.
_STUDIES = """
    SELECT s.*, CASE WHEN s.study_at - e.started_at <= INTERVAL 2 HOUR THEN e.encounter_id END AS encounter_id
    FROM (
        SELECT study_instance_uid, org_code, any_value(accession_no) AS accession_no,
            any_value(patient_local_id) AS patient_local_id,
            any_value(modality_code) AS modality_code, any_value(body_part) AS body_part, min(study_at) AS study_at,
            any_value(study_description) AS description, any_value(resident) AS resident
        FROM instance GROUP BY ALL
    ) AS s
    ASOF LEFT JOIN (SELECT DISTINCT org_code, patient_local_id, encounter_id, started_at FROM encounter) AS e
        ON e.org_code = s.org_code AND e.patient_local_id = s.patient_local_id
        AND e.started_at <= s.study_at - INTERVAL 20 MINUTE
    ORDER BY s.study_instance_uid
"""


def make_reports(
    instances: pa.Table, encounters: pa.Table, window: Window, rng: np.random.Generator
) -> pa.Table:
    """``imaging_report``: one per study, within hours, by two doctors."""
    with duckdb.connect() as con:
        con.register("instance", instances)
        con.register("encounter", encounters)
        study = con.execute(_STUDIES).to_arrow_table()
    size = study.num_rows
    at = study["study_at"].combine_chunks().to_numpy(zero_copy_only=False).astype("datetime64[s]")
    reported = at + rng.integers(1800, 8 * 3600, size).astype("timedelta64[s]")
    audited = reported + rng.integers(300, 3600, size).astype("timedelta64[s]")
    none, positive = np.zeros(size, dtype="int64"), rng.random(size) < 0.45
    org = study["org_code"].combine_chunks()
    return pa.table({
        "exam_no": pc.binary_join_element_wise("RP", study["accession_no"].combine_chunks(), ""),
        "study_instance_uid": study["study_instance_uid"], "accession_no": study["accession_no"],
        "patient_local_id": study["patient_local_id"], "encounter_id": study["encounter_id"],
        "modality_code": study["modality_code"], "exam_item_name": study["description"], "body_part": study["body_part"],
        "finding": pick(["未见明显异常。", "可见局部异常，详见描述。"], positive.astype("int64")),
        "impression": pick(["未见明显异常", "考虑炎性改变，建议复查"], positive.astype("int64")), "is_positive": flags(positive),
        "report_doctor_id": pc.binary_join_element_wise(org, "R01", ""),
        "audit_doctor_id": pc.binary_join_element_wise(org, "R02", ""), "exam_at": instants(at),
        "reported_at": instants(reported), "audited_at": instants(audited), "status_code": pick(["final"], none),
        "source_updated_at": instants(audited), "org_code": org, "deliver_on": days(window.deliver_on(audited)),
        "resident": study["resident"],
    })  # fmt: skip


def with_dose(instances: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Instances with ``ctdi_vol_mgy``: one value per CT study, null for other modalities."""
    study = pc.dictionary_encode(instances["study_instance_uid"].combine_chunks()).indices.to_numpy()
    dose = rng.uniform(4, 16, int(study.max()) + 1 if len(study) else 0)[study]
    other = pc.not_equal(instances["modality_code"], "CT").to_numpy()
    return instances.append_column("ctdi_vol_mgy", numbers(dose, 2, other))


def empty_studies() -> pa.Table:
    """``imaging_study`` as an archive lists it; what the files of a study say is read from them. No rows: faults add some."""
    kinds = {
        "study_instance_uid": pa.string(), "accession_no": pa.string(), "patient_local_id": pa.string(),
        "study_at": pa.timestamp("s"), "modalities": pa.string(), "series_count": pa.int64(), "instance_count": pa.int64(),
        "source_updated_at": pa.timestamp("s"), "org_code": pa.string(), "deliver_on": pa.date32(),
    }  # fmt: skip
    return pa.schema(list(kinds.items())).empty_table()
