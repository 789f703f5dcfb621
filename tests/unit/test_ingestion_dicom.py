"""DICOM headers made with pydicom and then damaged: rows or rejects, never a crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ingestion.readers import dicom
from lake.contracts import contract
from tests.ingestion_world import Collected, landed

TABLE = contract("pacs").tables["imaging_instance"]


def image(path: Path, name: bytes = b"", charset: str | None = "GB18030") -> Path:
    """A small CT object; ``name`` goes into PatientName as bytes, whatever the character set claims."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    made.PatientID, made.PatientSex, made.PatientBirthDate = "P1", "M", "19580312"
    made.StudyDate, made.StudyTime, made.Modality = "20261118", "081500", "CT"
    made.SeriesNumber, made.InstanceNumber = "2", "17"
    made.PatientName = "X" * len(name)
    made.Rows = made.Columns = 8
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.SamplesPerPixel, made.PixelRepresentation = 7, 1, 0
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = b"\0" * 64
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    if name:
        padded = b"X" * len(name)
        assert data.count(padded) == 1
        data = data.replace(padded, name)
    if charset is not None:  # (0008,0005) put in by hand: pydicom would encode with it
        text = charset.encode() + b" " * (len(charset) % 2)
        element = b"\x08\x00\x05\x00CS" + len(text).to_bytes(2, "little") + text
        at = data.index(b"\x08\x00\x16\x00UI")
        data = data[:at] + element + data[at:]
    path.write_bytes(data)
    return path


def read(*paths: Path) -> Collected:
    sink = Collected()
    dicom.read_many([landed(p, number=i) for i, p in enumerate(paths)], TABLE, sink)
    return sink


@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 100", None])
def test_chinese_names_whatever_the_header_claims(tmp_path: Path, charset: str | None) -> None:
    row = read(image(tmp_path / "a.dcm", "王^小东".encode("gb18030") + b" ", charset)).tables[
        "imaging_instance"
    ][0]
    assert row["name"] == "王小东"
    assert (row["study_at"], row["instance_no"], row["transfer_syntax_uid"]) == (
        "20261118081500",
        "17",
        "1.2.840.10008.1.2.1",
    )
    assert row["file_bytes"] == str((tmp_path / "a.dcm").stat().st_size)


def test_latin_text_under_iso_ir_100_stays_latin(tmp_path: Path) -> None:
    row = read(image(tmp_path / "a.dcm", "Müller^Jörg ".encode("latin-1"), "ISO_IR 100")).tables[
        "imaging_instance"
    ][0]
    assert row["name"] == "Müller Jörg"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wang^XiaoDong=王^小东", "王小东"),
        ("Wang^XiaoDong", "Wang XiaoDong"),
        ("王小东", "王小东"),
        ("=王^小东=", "王小东"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "洪吉洞"),
    ],
)
def test_the_ideographic_group_is_the_name(text: str, expected: str) -> None:
    assert dicom.person_name(text) == expected


def test_damaged_files_do_not_stop_the_others(tmp_path: Path) -> None:
    good = image(tmp_path / "good.dcm", b"A^B ")
    truncated = tmp_path / "truncated.dcm"
    truncated.write_bytes(good.read_bytes()[:-80])
    cut_in_header = tmp_path / "cut.dcm"
    cut_in_header.write_bytes(good.read_bytes()[:260])
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"this is no image\n" * 40)
    bare = tmp_path / "bare.dcm"  # no preamble, no meta header
    bare.write_bytes(good.read_bytes()[good.read_bytes().index(b"\x08\x00\x05\x00CS") :])
    sink = read(good, truncated, cut_in_header, junk, bare)
    rows = {r["file_no"]: r for r in sink.tables["imaging_instance"]}
    assert [rows[i]["sop_instance_uid"] for i in (0, 1, 4)] == ["1.2.3.4"] * 3
    assert len(rows) + len(sink.rejects) == 5
    assert ("junk.dcm", "E218") in [(r.file.name, r.code) for r in sink.rejects]
