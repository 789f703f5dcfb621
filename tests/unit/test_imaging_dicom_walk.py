"""The header walker against pydicom: what it reads is the same, what it cannot read it leaves to pydicom."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ingestion.readers.dicom import header, walk

CHARSET = 0x00080005
FILES = sorted(Path(p) for p in get_testdata_files() if Path(p).is_file())


def by_pydicom(path: Path) -> walk.Elements:
    """The elements that pydicom finds before the pixels, as the walker gives them."""
    dataset = dcmread(path, stop_before_pixels=True)
    found: walk.Elements = {}
    for tag in list(dataset.keys()):
        item = dataset.get_item(tag)
        if isinstance(item, RawDataElement) and item.VR != "SQ" and int(tag) < 0x7FE00008:
            found[int(tag)] = (item.VR or "", item.value or b"")
    return found


def values(elements: walk.Elements) -> dict[int, bytes]:
    """What is filled; the character set apart, which pydicom has made a value of already."""
    return {t: v for t, (_, v) in elements.items() if v and t != CHARSET}


def test_every_packaged_file_is_read_the_same_or_left_to_pydicom() -> None:
    walked = 0
    with header.quiet():
        for path in FILES:
            try:
                elements, syntax = walk.header(path)
            except walk.Unusual:
                continue
            walked += 1
            expected = by_pydicom(path)
            assert values(elements) == values(expected), path.name
            assert syntax == dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert walked > 50


def made(syntax: str, *, private: bool = True, nested: int = 2) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = UID("1.2.3.4")
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    data.PatientID, data.Modality, data.StudyDate = "P1", "CT", "20261118"
    data.CTDIvol = 12.5
    inner = Dataset()
    inner.CodeValue = "X"
    for _ in range(nested):
        outer = Dataset()
        outer.ConceptNameCodeSequence = Sequence([inner, inner])
        outer["ConceptNameCodeSequence"].is_undefined_length = True
        inner = outer
        inner.is_undefined_length_sequence_item = True
    data.ProcedureCodeSequence = Sequence([inner])
    data["ProcedureCodeSequence"].is_undefined_length = True
    if private:
        block = data.private_block(0x0009, "MEDSIM 1", create=True)
        block.add_new(0x01, "LO", "dose plan A")
        block.add_new(0x02, "FL", 0.1)
        block.add_new(0x03, "OB", bytes(range(200)))
    data.Rows = data.Columns = 4
    data.PixelData = b"\0" * 32
    data["PixelData"].VR = "OW"
    return data


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_nested_sequences_and_private_elements_in_each_syntax(tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "a.dcm"
    made(syntax).save_as(path, enforce_file_format=True)
    found = header.read(path)
    assert (found.text("PatientID"), found.text("Modality"), found.text("CTDIvol")) == ("P1", "CT", "12.5")
    assert found.syntax == syntax
    private = found.private() or ""
    assert '"00090010":"MEDSIM 1"' in private and '"00091001":"dose plan A"' in private
    assert '"00091003":{"bytes":200}' in private
    if syntax == ExplicitVRLittleEndian:
        assert '"00091002":"0.1"' in private


def test_a_header_longer_than_one_block_is_read_to_its_end(tmp_path: Path) -> None:
    data = made(ExplicitVRLittleEndian)
    data.private_block(0x0009, "MEDSIM 1").add_new(0x04, "OB", bytes(300_000))
    path = tmp_path / "long.dcm"
    data.save_as(path, enforce_file_format=True)
    elements, _ = walk.header(path)
    assert elements[0x00280010][1] == b"\x04\x00" and len(elements[0x00091004][1]) == 300_000


def test_cut_anywhere_a_header_gives_pydicoms_elements_or_is_left_to_it(tmp_path: Path) -> None:
    whole = tmp_path / "whole.dcm"
    made(ExplicitVRLittleEndian).save_as(whole, enforce_file_format=True)
    content = whole.read_bytes()
    part = tmp_path / "part.dcm"
    cut_in_header = 0
    with header.quiet():
        for length in range(132, len(content) - 44, 3):
            part.write_bytes(content[:length])
            try:
                elements, _ = walk.header(part)
            except walk.Unusual:
                cut_in_header += 1
                continue
            try:
                expected = by_pydicom(part)
            except struct.error:  # cut within the pixels' own length: pydicom gives up, the header is whole
                expected = by_pydicom(whole)
            assert values(elements) == values(expected)
    assert cut_in_header > 100
