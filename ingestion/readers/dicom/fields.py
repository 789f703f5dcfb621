"""Which DICOM element fills which column: the contracts' names on the left, keywords of PS3.6 on the right.

A column that a contract does not have is not filled; an element that has no column stays in the landed file.
"""

from __future__ import annotations

from functools import lru_cache

#: Values taken as they stand, for whichever of the tables has the column.
PLAIN = {
    "sop_instance_uid": "SOPInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "accession_no": "AccessionNumber",
    "patient_local_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "sex_code": "PatientSex",
    "birth_date": "PatientBirthDate",
    "modality_code": "Modality",
    "body_part": "BodyPartExamined",
    "study_description": "StudyDescription",
    "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "series_no": "SeriesNumber",
    "instance_no": "InstanceNumber",
    "institution_name": "InstitutionName",
    "manufacturer": "Manufacturer",
    "manufacturer_model": "ManufacturerModelName",
    "station_name": "StationName",
    "sop_class_uid": "SOPClassUID",
    "study_id": "StudyID",
    "kvp_kv": "KVP",
    "ctdi_vol_mgy": "CTDIvol",
    "dose_area_product_dgycm2": "ImageAndFluoroscopyAreaDoseProduct",
    "device_serial_no": "DeviceSerialNumber",
}

#: Person names: one of the groups, without the carets.
NAMES = {"name": "PatientName", "referring_physician": "ReferringPhysicianName"}

#: Instants made of a date and a time element, with the header's own offset if it gives one.
INSTANTS = {
    "study_at": ("StudyDate", "StudyTime"),
    "series_at": ("SeriesDate", "SeriesTime"),
    "acquired_at": ("AcquisitionDate", "AcquisitionTime"),
}
ACQUIRED = "AcquisitionDateTime"
OFFSET = "TimezoneOffsetFromUTC"
CHARSET = "SpecificCharacterSet"

#: Counts that some archives put into headers themselves.
ANNOUNCED = {
    "series_count": "NumberOfStudyRelatedSeries",
    "instance_count": "NumberOfStudyRelatedInstances",
}


@lru_cache(maxsize=1)
def tags() -> dict[str, tuple[int, str]]:
    """Keyword -> (tag, value representation), from pydicom's copy of the dictionary."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    words = [*PLAIN.values(), *NAMES.values(), OFFSET, ACQUIRED, CHARSET, *ANNOUNCED.values()]
    words += [w for pair in INSTANTS.values() for w in pair]
    found: dict[str, tuple[int, str]] = {}
    for word in words:
        tag = tag_for_keyword(word)
        if tag is None:
            raise KeyError(word)
        found[word] = (tag, dictionary_VR(tag))
    return found
