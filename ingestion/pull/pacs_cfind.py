"""C-FIND in the study root model (PS3.4 C.4.1): what archives without DICOMweb answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from types import TracebackType
from typing import Any

from ingestion.pull.pacs_qido import SERIES_UID, STUDY_UID, Answer, Passing, retried, uid
from ingestion.pull.pacs_sources import Archive
from lake.errors import MedlakeError

_STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "TimezoneOffsetFromUTC",
    "AccessionNumber",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyInstanceUID",
    "StudyDescription",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "InstitutionName",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
_SERIES_KEYS = (
    "Modality",
    "SeriesNumber",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "ProtocolName",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "NumberOfSeriesRelatedInstances",
)
_PENDING = (0xFF00, 0xFF01)


class CFind:
    """One archive over DIMSE: one association, opened again when it breaks."""

    def __init__(self, archive: Archive) -> None:
        from pynetdicom import AE
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as model  # type: ignore[attr-defined]

        self.archive = archive
        self._model = model
        self._ae = AE(ae_title=archive.calling_aet)
        self._ae.add_requested_context(model)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = archive.timeout_seconds
        self._ae.connection_timeout = archive.timeout_seconds
        self._association: Any = None

    def __enter__(self) -> CFind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def _open(self) -> Any:
        if self._association is None or not self._association.is_established:
            a = self.archive
            self._association = self._ae.associate(a.host, a.port, ae_title=a.called_aet)
            if self._association.is_rejected:
                raise MedlakeError("E255", source=a.name, detail="the association is rejected (AE title)")
            if not self._association.is_established:
                raise Passing("no association")
            # a query is two writes: with Nagle's algorithm each would wait for a delayed acknowledgement
            self._association.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._association

    def _find(self, level: str, keys: tuple[str, ...], **match: str) -> list[Answer]:
        """All answers of one query. A query that breaks off is asked again from its beginning: half a list of
        answers must not look like a whole one."""
        from pydicom.dataset import Dataset

        wanted = Dataset()
        wanted.SpecificCharacterSet = "ISO_IR 192"
        wanted.QueryRetrieveLevel = level
        for key in keys:
            setattr(wanted, key, "")
        for key, value in match.items():
            setattr(wanted, key, value)

        def once() -> list[Answer]:
            found: list[Answer] = []
            for status, identifier in self._open().send_c_find(wanted, self._model):
                if not status:
                    self._drop()
                    raise Passing("the association broke off or timed out")
                if status.Status in _PENDING:
                    if identifier is not None:
                        found.append(answer_of(identifier))
                elif status.Status != 0x0000:
                    raise Passing(f"status 0x{status.Status:04X}")
            return found

        return list(retried(self.archive, once))

    def studies(self, day: date | None) -> Iterator[Answer]:
        """Studies of one day; of all days, undated ones too, for None."""
        match = {"StudyDate": day.strftime("%Y%m%d")} if day is not None else {}
        seen: set[str] = set()
        for answer in self._find("STUDY", _STUDY_KEYS, **match):
            if (key := uid(answer, STUDY_UID)) and key not in seen:
                seen.add(key)
                yield answer

    def study(self, study_instance_uid: str) -> Answer | None:
        found = self._find("STUDY", _STUDY_KEYS, StudyInstanceUID=study_instance_uid)
        return next((a for a in found if uid(a, STUDY_UID) == study_instance_uid), None)

    def series(self, study_instance_uid: str) -> list[Answer]:
        found = self._find("SERIES", _SERIES_KEYS, StudyInstanceUID=study_instance_uid)
        return [a | _study_uid(study_instance_uid) for a in found if uid(a, SERIES_UID)]


def _study_uid(value: str) -> Answer:
    return {STUDY_UID: {"vr": "UI", "Value": [value]}}


def answer_of(identifier: Any) -> Answer:
    """An identifier as DICOM JSON, its texts repaired where the declared character set cannot be true."""
    from pydicom.dataelem import RawDataElement

    from ingestion.readers.dicom.text import as_text

    declared = identifier.get("SpecificCharacterSet")
    charset = "\\".join(declared) if isinstance(declared, (list, tuple)) else str(declared or "")
    charset = (
        charset if isinstance(declared, str) or not hasattr(declared, "__iter__") else "\\".join(declared)
    )
    found: Answer = {}
    for tag in list(identifier.keys()):
        item = identifier.get_item(tag)
        raw = item.value if isinstance(item, RawDataElement) else None
        if isinstance(raw, bytes):
            value = as_text(int(tag), item.VR or identifier[tag].VR, raw, charset)
        else:
            held = identifier[tag].value
            value = (
                None
                if held in (None, "")
                else "\\".join(map(str, held))
                if identifier[tag].VM > 1
                else str(held)
            )
        representation = identifier[tag].VR
        node: dict[str, Any] = {"vr": representation}
        if value and representation == "PN":
            groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False))
            node["Value"] = [{k: v for k, v in groups.items() if v}]
        elif value:
            node["Value"] = value.split("\\")
        found[f"{int(tag):08X}"] = node
    return found
