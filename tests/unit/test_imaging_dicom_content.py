"""Dose reports and electrocardiograms: what they say comes out, whatever else is in them does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from ingestion.readers import dicom
from lake.contracts import table_contract
from tests.ingestion_world import Collected, landed
from tests.unit.test_imaging_dicom_walk import made

DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"


def code(value: str, meaning: str, scheme: str = "DCM") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def number(concept: tuple[str, str], value: str, unit: str) -> Dataset:
    item = Dataset()
    item.ValueType = "NUM"
    item.ConceptNameCodeSequence = code(*concept)
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = value, code(unit, unit, "UCUM")
    item.MeasuredValueSequence = Sequence([measured])
    return item


def container(*items: Dataset) -> Dataset:
    made_ = Dataset()
    made_.ValueType = "CONTAINER"
    made_.ContentSequence = Sequence(items)
    return made_


def dose_report(path: Path) -> Path:
    """A CT dose report in the shape of TID 10011: totals, and two irradiation events within their containers."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID(DOSE_REPORT)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3.9")
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.3", "1.2.3.5", "SR"
    data.PatientID, data.StudyDate, data.StudyTime = "P1", "20261118", "081500"
    mean = ("113830", "Mean CTDIvol")
    events = [container(container(number(mean, v, "mGy"))) for v in ("8.25", "12.5")]
    total = container(number(("113813", "CT Dose Length Product Total"), "412.70", "mGy.cm"))
    data.ContentSequence = Sequence([total, *events])
    data.save_as(path, enforce_file_format=True)
    return path


def read(*paths: Path) -> Collected:
    sink = Collected()
    files = [landed(p, number=i) for i, p in enumerate(paths)]
    dicom.read_many(files, table_contract("imaging_instance"), sink)
    return sink


def only(sink: Collected, table: str) -> dict[str, Any]:
    (row,) = sink.tables[table]
    return row


def test_a_dose_report_gives_the_total_and_the_greatest_event(tmp_path: Path) -> None:
    sink = read(dose_report(tmp_path / "dose.dcm"))
    for table in ("imaging_instance", "imaging_series"):
        row = only(sink, table)
        assert (row["dlp_mgycm"], row["ctdi_vol_mgy"]) == ("412.70", "12.5")


def test_an_images_dose_is_the_images_and_not_the_series(tmp_path: Path) -> None:
    path = tmp_path / "ct.dcm"
    made(ExplicitVRLittleEndian).save_as(path, enforce_file_format=True)
    sink = read(path)
    assert only(sink, "imaging_instance")["ctdi_vol_mgy"] == "12.5"
    assert only(sink, "imaging_series")["ctdi_vol_mgy"] is None


def test_a_twelve_lead_ecg_gives_its_measures(tmp_path: Path) -> None:
    found = get_testdata_file("waveform_ecg.dcm")
    sink = read(Path(str(found)))
    row = only(sink, "ecg_exam")
    measured = {n: row[n] for n in ("pr_interval_ms", "qrs_duration_ms", "qt_interval_ms", "qtc_interval_ms")}
    assert measured == {
        "pr_interval_ms": "161",
        "qrs_duration_ms": "75",
        "qt_interval_ms": "368",
        "qtc_interval_ms": "370",
    }
    assert (row["p_axis_deg"], row["qrs_axis_deg"], row["t_axis_deg"]) == ("74", "52", "57")
    assert row["heart_rate_bpm"] == "61"  # from the RR interval of 982 ms
    assert (row["lead_count"], row["sample_rate_hz"], row["duration_s"]) == ("12", "1000", "10")
    assert (row["exam_no"], row["auto_diagnosis"]) == ("03028041970546", "RITMO SINUSALE; ECG NORMALE")
    assert row["acquired_at"] == "20130125105919" and row["format_code"] == "dicom"
    assert only(sink, "imaging_study")["study_instance_uid"] == row["study_instance_uid"]


def test_a_text_report_has_no_dose_and_no_ecg() -> None:
    sink = read(Path(str(get_testdata_file("test-SR.dcm"))))
    assert "ecg_exam" not in sink.tables
    assert only(sink, "imaging_instance")["dlp_mgycm"] is None


def test_study_and_series_rows_do_not_depend_on_which_objects_a_delivery_holds(tmp_path: Path) -> None:
    paths = []
    for n in range(1, 5):
        data = made(ExplicitVRLittleEndian)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.4.{n}")
        data.SeriesInstanceUID, data.SeriesNumber = f"1.2.3.{n % 2}", n % 2
        data.CTDIvol, data.InstanceNumber, data.BodyPartExamined = n * 1.5, n, f"PART{n % 2}"
        paths.append(tmp_path / f"{n}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    place = {"file_no", "source_file"}

    def rows(*chosen: Path) -> dict[str, set[tuple[tuple[str, Any], ...]]]:
        sink = read(*chosen)
        names = ("imaging_study", "imaging_series")
        return {
            t: {tuple((k, v) for k, v in sorted(r.items()) if k not in place) for r in sink.tables[t]}
            for t in names
        }

    whole = rows(*paths)
    assert [len(whole[t]) for t in ("imaging_study", "imaging_series")] == [1, 2]
    first, second = rows(*paths[:2]), rows(*reversed(paths[2:]))
    assert first == second == whole
