"""Real DICOM files with tiny pixels. A loop over files: each is a file of its own."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from simulator.writers.base import Drop

IMPLEMENTATION = UID("1.2.826.0.1.3680043.10.1777.9")
SEX = {"1": "M", "2": "F"}


def _template() -> FileDataset:
    """One dataset that every file re-uses: only the header values change from file to file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "MEDSIM"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = np.arange(64, dtype="uint8").tobytes()
    return data


def _fill(data: FileDataset, row: dict[str, Any]) -> None:
    """Header of one instance. `charset` is what the header declares, the bytes of texts are GB18030 anyway."""
    at: datetime = row["study_at"]
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = row["sop_class_uid"]
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = row["sop_instance_uid"]
    data.StudyInstanceUID, data.SeriesInstanceUID = row["study_instance_uid"], row["series_instance_uid"]
    data.AccessionNumber, data.Modality = row["accession_no"], row["modality_code"]
    data.StudyDate = data.SeriesDate = at.strftime("%Y%m%d")
    data.StudyTime = at.strftime("%H%M%S")
    data.PatientID, data.IssuerOfPatientID = row["patient_local_id"], row["issuer_of_patient_id"]
    data.PatientBirthDate = row["birth_date"].strftime("%Y%m%d") if row["birth_date"] else ""
    data.PatientSex = SEX.get(row["sex_code"], "O")
    data.BodyPartExamined, data.StationName = row["body_part"], row["station_name"]
    data.SeriesNumber, data.InstanceNumber = str(row["series_no"]), str(row["instance_no"])
    data.SpecificCharacterSet = "GB18030"
    data.PatientName, data.StudyDescription = row["name"] or "", row["study_description"]
    data.InstitutionName, data.Manufacturer = row["institution_name"], row["manufacturer"]
    if row["ctdi_vol_mgy"] is None:
        data.pop("CTDIvol", None)
    else:
        data.CTDIvol = row["ctdi_vol_mgy"]


def _declare(path: Any, charset: str | None) -> None:
    """Change the declared character set in the written file, leaving the GB18030 bytes: the usual mislabelling."""
    raw = path.read_bytes()
    tag = b"\x08\x00\x05\x00CS"
    at = raw.index(tag)
    length = int.from_bytes(raw[at + 6 : at + 8], "little")
    value = (charset or "").encode()
    value += b" " * (len(value) % 2)
    element = tag + len(value).to_bytes(2, "little") + value if charset is not None else b""
    path.write_bytes(raw[:at] + element + raw[at + 8 + length :])


def write(drop: Drop, rows: pa.Table) -> None:
    """`rows`: imaging_instance and two more columns.

    `charset`: as declared, 'none' for no such tag; `damage`: empty, 'truncated' or 'zero'.
    """
    data = _template()
    rows = rows.sort_by(
        [(name, "ascending") for name in ("deliver_on", "org_code", "study_instance_uid", "instance_no")]
    )
    for row in rows.to_pylist():
        data_date: date = row["deliver_on"]
        if not drop.wants(data_date, "pacs"):
            continue
        study = row["study_instance_uid"].rsplit(".", 1)[1]
        path = drop.path(data_date, "pacs", row["org_code"], f"ST{int(study):07d}")
        path.mkdir(exist_ok=True)
        path = path / f"IM{row['instance_no']:04d}.dcm"
        _fill(data, row)
        dcmwrite(path, data, enforce_file_format=False)
        if row["charset"] != "GB18030":
            _declare(path, None if row["charset"] == "none" else row["charset"])
        if row["damage"] == "truncated":
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 3])
        elif row["damage"] == "zero":
            path.write_bytes(b"")
        drop.files += 1
