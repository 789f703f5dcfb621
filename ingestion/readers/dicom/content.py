"""What structured reports and electrocardiograms say: dose, and the twelve leads' measures. Never the samples.

Dose: X-Ray Radiation Dose SR (PS3.16 TID 10001, 10011). ECG: waveform annotations (PS3.3 C.10.10), whose measures
are coded by SCP-ECG (EN 1064) or MDC (ISO 11073-10102).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

_ECG = "1.2.840.10008.5.1.4.1.1.9.1."
_DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
_DEPTH = 12  # a content tree is a few levels deep; what is deeper is broken

#: (code, scheme) of a content item -> column. DCM 113813 CT Dose Length Product Total, 113830 Mean CTDIvol,
#: 113722 Dose Area Product Total. Of several values (one per irradiation event) the greatest is kept.
_DOSES = {
    ("113813", "DCM"): "dlp_mgycm",
    ("113830", "DCM"): "ctdi_vol_mgy",
    ("113722", "DCM"): "dose_area_product_gym2",
}

#: (code, scheme) of an annotation -> column.
_MEASURES = {
    ("5.10.2.1-3", "SCPECG"): "rr_interval_ms",
    ("5.13.5-7", "SCPECG"): "pr_interval_ms",
    ("5.13.5-9", "SCPECG"): "qrs_duration_ms",
    ("5.13.5-11", "SCPECG"): "qt_interval_ms",
    ("5.10.2.5-5", "SCPECG"): "qtc_interval_ms",
    ("5.10.3-11", "SCPECG"): "p_axis_deg",
    ("5.10.3-13", "SCPECG"): "qrs_axis_deg",
    ("5.10.3-15", "SCPECG"): "t_axis_deg",
    ("2:16168", "MDC"): "rr_interval_ms",
    ("2:15872", "MDC"): "pr_interval_ms",
    ("2:16156", "MDC"): "qrs_duration_ms",
    ("2:16160", "MDC"): "qt_interval_ms",
    ("2:15876", "MDC"): "qtc_interval_ms",
    ("2:16128", "MDC"): "p_axis_deg",
    ("2:16132", "MDC"): "qrs_axis_deg",
    ("2:16136", "MDC"): "t_axis_deg",
}


@dataclass(frozen=True)
class Content:
    """Text values by column; both empty where an object says nothing of the kind."""

    dose: dict[str, str] = field(default_factory=dict)
    ecg: dict[str, str | None] = field(default_factory=dict)


def read(path: Path, sop_class_uid: str) -> Content:
    """The content of one object; pixels have none, so reports and waveforms only."""
    from pydicom import dcmread

    dataset = dcmread(path, stop_before_pixels=True, force=True)
    if sop_class_uid.startswith(_ECG):
        return Content(ecg=_ecg(dataset))
    if sop_class_uid == _DOSE_REPORT:
        return Content(dose=_dose(dataset))
    return Content()


def _code(item: Any, keyword: str) -> tuple[str, str]:
    codes = item.get(keyword)
    if not codes:
        return "", ""
    return str(codes[0].get("CodeValue", "")), str(codes[0].get("CodingSchemeDesignator", ""))


def _items(dataset: Any, depth: int = 0) -> Iterator[Any]:
    for item in dataset.get("ContentSequence") or []:
        yield item
        if depth < _DEPTH:
            yield from _items(item, depth + 1)


def _number(item: Any) -> str | None:
    measured = item.get("MeasuredValueSequence")
    value = str(measured[0].get("NumericValue", "")) if measured else ""
    try:
        return str(Decimal(value))
    except InvalidOperation:
        return None


def _dose(dataset: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in _items(dataset):
        name = _DOSES.get(_code(item, "ConceptNameCodeSequence"))
        value = _number(item) if name else None
        if name and value and (name not in found or Decimal(value) > Decimal(found[name])):
            found[name] = value
    return found


def _plain(value: Any) -> str | None:
    """A number without a float's tail: 1000.0 is 1000."""
    if value in (None, ""):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return str(number.to_integral()) if number == number.to_integral() else str(number.normalize())


def _ecg(dataset: Any) -> dict[str, str | None]:
    groups = dataset.get("WaveformSequence") or []
    found: dict[str, str | None] = {}
    texts: list[str] = []
    for item in dataset.get("WaveformAnnotationSequence") or []:
        name = _MEASURES.get(_code(item, "ConceptNameCodeSequence"))
        if name and name not in found and item.get("NumericValue") not in (None, ""):
            found[name] = _plain(item.NumericValue)
        elif item.get("UnformattedTextValue"):
            texts.append(str(item.UnformattedTextValue).strip())
    beat = found.pop("rr_interval_ms", None)
    if beat and "heart_rate_bpm" not in found and Decimal(beat) > 0:
        found["heart_rate_bpm"] = str(round(60_000 / Decimal(beat)))
    if groups:
        rate = groups[0].get("SamplingFrequency")
        samples = groups[0].get("NumberOfWaveformSamples")
        found["lead_count"] = _plain(groups[0].get("NumberOfWaveformChannels"))
        found["sample_rate_hz"] = _plain(rate)
        found["duration_s"] = _plain(round(float(samples) / float(rate), 3)) if rate and samples else None
    found["auto_diagnosis"] = "; ".join(texts) or None
    return found
