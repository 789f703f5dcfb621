"""What the rules find, and the request that it becomes: the same key from the lane and from the batch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lake.crypto import sm3_hex
from lake.work import Request

CRITICAL, INFECTIOUS, COLD_CHAIN = "critical_value", "infectious_positive", "cold_chain_alarm"
_KEY_LENGTH, _SUBJECT_LENGTH = 200, 200


@dataclass(frozen=True)
class Result:
    """A laboratory result that needs people. ``at`` is when it was reported, never later than receipt (UTC)."""

    kind: str
    rule_id: str
    item: str
    item_zh: str
    org_code: str
    report_id: str
    seq: str
    item_code: str
    at: datetime
    value_text: str
    unit: str
    encounter_id: str
    patient_local_id: str
    requesting_org_code: str
    dept_code: str
    is_first_report: bool = False
    pathogen: str = ""
    disease_code: str = ""
    confirmation: str = ""
    is_restricted: bool = False


@dataclass(frozen=True)
class Episode:
    """A sensor out of its range: the first reading out (as the device told it) and the last one seen so far."""

    org_code: str
    sensor_id: str
    seq: int
    device_at: str
    since: datetime
    until: datetime
    temp_c: float
    low_c: float
    high_c: float


def key(kind: str, *parts: str) -> str:
    """The name of a request, shortened by a digest where the parts are too long for the column."""
    whole = "|".join((kind, *parts))
    return whole if len(whole) <= _KEY_LENGTH else f"{kind}|{parts[0][:32]}|{sm3_hex(whole.encode())}"


def result_key(r: Result) -> str:
    """One request a report and item; where only the first report counts, one an encounter and item."""
    if r.kind == INFECTIOUS:
        return key(
            r.kind, r.org_code, r.report_id, r.pathogen, *(["confirmed"] if r.confirmation == "done" else [])
        )
    if r.is_first_report and r.encounter_id:
        return key(r.kind, r.org_code, "first", r.encounter_id, r.item)
    return key(r.kind, r.org_code, r.report_id, r.item_code or f"#{r.seq}")


def result_request(r: Result, received_at: datetime | None, origin: str) -> Request:
    """A positive HIV test says which report and nothing else: who may see more looks there.

    Without ``received_at`` (the batch) the item counts from when it was asked for.
    """
    payload: dict[str, Any] = {"report_id": r.report_id, "rule_id": r.rule_id}
    payload |= {"received_at": received_at.isoformat()} if received_at else {}
    payload |= {"requesting_org_code": r.requesting_org_code} if r.requesting_org_code else {}
    if r.kind == INFECTIOUS:
        payload |= {"pathogen": r.pathogen, "disease_code": r.disease_code, "confirmation": r.confirmation}
        payload |= {"level": 5} if r.is_restricted else {}
    if not r.is_restricted:
        payload |= {
            "seq": r.seq,
            "item_code": r.item_code,
            "item_zh": r.item_zh,
            "value_text": r.value_text,
            "unit": r.unit,
            "encounter_id": r.encounter_id,
            "patient_local_id": r.patient_local_id,
            "dept_code": r.dept_code,
        }
    subject = f"lab_report/{r.org_code}/{r.report_id}"[:_SUBJECT_LENGTH]
    return Request(result_key(r), r.kind, r.org_code, "error", subject, r.at, origin, payload)


def episode_subject(org_code: str, sensor_id: str) -> str:
    return f"cold_chain_reading/{org_code}/{sensor_id}"[:_SUBJECT_LENGTH]


def episode_request(e: Episode, received_at: datetime | None, origin: str) -> Request:
    payload: dict[str, Any] = {
        "sensor_id": e.sensor_id,
        "temp_c": e.temp_c,
        "low_c": e.low_c,
        "high_c": e.high_c,
        "since": e.since.isoformat(),
    }
    payload |= {"received_at": received_at.isoformat()} if received_at else {}
    name = key(COLD_CHAIN, e.org_code, e.sensor_id, str(e.seq), e.device_at)
    subject = episode_subject(e.org_code, e.sensor_id)
    return Request(name, COLD_CHAIN, e.org_code, "error", subject, e.since, origin, payload)
