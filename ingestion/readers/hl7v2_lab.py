"""ORU^R01 messages to ``lab_report`` (one row an OBR) and ``lab_result`` (one row an OBX) rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ingestion.readers.hl7v2_patient import NATIONAL, first_of, identifiers, local_id, person_name, telephone
from ingestion.readers.hl7v2_text import Delimiters, Message, get, msh

REPORT = (
    "report_id",
    "order_id",
    "message_control_id",
    "requesting_org_code",
    "patient_local_id",
    "name",
    "sex_code",
    "birth_date",
    "id_no",
    "phone",
    "encounter_id",
    "panel_code",
    "panel_name",
    "collected_at",
    "received_at_lab",
    "reported_at",
    "status_code",
)
RESULT = (
    "report_id",
    "seq",
    "item_code",
    "item_name",
    "loinc_code",
    "value_text",
    "value_num",
    "comparator",
    "unit",
    "ref_range_text",
    "ref_low",
    "ref_high",
    "abnormal_flag",
    "observed_at",
    "status_code",
)

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"^\s*(<=|>=|≤|≥|<|>|＜|＞)?\s*({_NUMBER})\s*[↑↓]*\s*$")
_RANGE = re.compile(rf"^\s*({_NUMBER})\s*(?:-{{1,3}}|~|～|－|—|–|至)\s*({_NUMBER})\s*$")
_BOUND = {"≤": "<=", "≥": ">=", "＜": "<", "＞": ">"}


@lru_cache(maxsize=65536)
def quantity(text: str) -> tuple[str | None, str | None]:
    """(number, comparator) of a result text: ``<0.5`` is 0.5 with ``<``, ``5.6↑`` is 5.6, words are neither."""
    found = _VALUE.match(text)
    if not found:
        return None, None
    sign = found.group(1)
    return found.group(2), _BOUND.get(sign, sign) if sign else None


@lru_cache(maxsize=65536)
def reference_range(text: str) -> tuple[str | None, str | None]:
    """(low, high) of a range text: ``3.5-9.5``, ``3.5~9.5``, ``<5.2`` (high only), ``≥1.04`` (low only)."""
    found = _RANGE.match(text)
    if found:
        return found.group(1), found.group(2)
    number, sign = quantity(text)
    if sign in ("<", "<="):
        return None, number
    if sign in (">", ">="):
        return number, None
    return None, None


def _value(obx: list[str], marks: Delimiters) -> str:
    """OBX-5 as text by its type: coded entries give their text, structured numerics are put together."""
    kind, value = get(obx, 2), get(obx, 5)
    if marks.component in value and kind in ("CE", "CWE", "CNE", "CF"):
        texts = [marks.component_of(v, 2) or marks.component_of(v, 1) for v in value.split(marks.repetition)]
        return "; ".join(t for t in texts if t)
    if kind == "SN" and marks.component in value:
        return "".join(marks.component_of(value, n) for n in (1, 2, 3, 4))
    if marks.repetition in value:
        value = "; ".join(value.split(marks.repetition))
    return marks.unescape(value)


def _report(
    header: list[str], pid: list[str], pv1: list[str], obr: list[str], marks: Delimiters
) -> tuple[str | None, ...]:
    one = marks.component_of
    ids = identifiers(get(pid, 3), marks)
    return (
        one(get(obr, 3), 1),
        one(get(obr, 2), 1),
        msh(header, 10),
        one(msh(header, 6), 1),
        local_id(get(pid, 3), marks),
        person_name(get(pid, 5), marks),
        one(get(pid, 8), 1),
        one(get(pid, 7), 1),
        one(get(pid, 19), 1) or first_of(ids, NATIONAL),
        telephone(get(pid, 13), marks),
        one(get(pv1, 19), 1),
        one(get(obr, 4), 1),
        one(get(obr, 4), 2),
        one(get(obr, 7), 1),
        one(get(obr, 14), 1),
        one(get(obr, 22), 1),
        one(get(obr, 25), 1),
    )


def _result(obx: list[str], report_id: str, seq: str, marks: Delimiters) -> tuple[str | None, ...]:
    one = marks.component_of
    item = get(obx, 3)
    text = _value(obx, marks)
    number, sign = quantity(text)
    range_text = marks.unescape(get(obx, 7))
    low, high = reference_range(range_text)
    return (
        report_id,
        seq,
        one(item, 1),
        one(item, 2),
        one(item, 4) or (one(item, 1) if one(item, 3) == "LN" else ""),
        text,
        number,
        sign,
        one(get(obx, 6), 1),
        range_text,
        low,
        high,
        one(get(obx, 8), 1),
        one(get(obx, 14), 1),
        one(get(obx, 11), 1),
    )


def handle(
    message: Message,
    header: list[str],
    marks: Delimiters,
    columns: list[Any],
    org: str,
    refuse: Callable[..., None],
) -> None:
    """Add the message's reports and results; refuse a message without PID or OBR, and a result before any OBR.

    OBX-1 numbers results within their OBR. Where two OBRs share a report number, or a sender repeats OBX-1,
    the result takes the next free number of the report: two results never share a key.
    """
    pid: list[str] = []
    pv1: list[str] = []
    report_id: str | None = None
    used: dict[str, set[str]] = {}
    refused = False
    reports, results = columns
    split = marks.field
    for segment, line in zip(message.segments, message.lines, strict=True):
        kind = segment[:3]
        if kind == "OBX":
            if report_id is None:
                refuse("E214", "OBX", at=line, segment="OBR" if pid else "PID")
                refused = True
                continue
            obx = segment.split(split)
            taken = used[report_id]
            seq = get(obx, 1)
            if not seq or seq in taken:
                seq = str(next(n for n in range(len(taken) + 1, 2 * len(taken) + 2) if str(n) not in taken))
            taken.add(seq)
            results.add(_result(obx, report_id, seq, marks), line, org)
        elif kind == "OBR" and pid:
            row = _report(header, pid, pv1, segment.split(split), marks)
            report_id = row[0] or ""
            used.setdefault(report_id, set())
            reports.add(row, line, org)
        elif kind == "PID":
            pid, pv1, report_id = segment.split(split), [], None
        elif kind == "PV1":
            pv1 = segment.split(split)
    if not used and not refused:
        missing = "OBR" if pid else "PID"
        refuse("E214", missing, segment=missing)
