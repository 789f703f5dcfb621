"""What people decide about codes, headers and zones: checked, written to the overlay, audited."""

from __future__ import annotations

from datetime import date
from typing import Any
from zoneinfo import available_timezones

from ingestion import codemaps, reviewed, units
from lake import audit
from lake.contracts import contract
from lake.errors import MedlakeError


def _record(kind: str, row: dict[str, str]) -> dict[str, Any]:
    reviewed.append(kind, row)
    details: dict[str, Any] = {k: v for k, v in row.items() if k not in ("reviewer", "note") and v}
    audit.record(
        f"accept_{kind}",
        actor=row["reviewer"],
        purpose="terminology",
        tables=[],
        fields=[],
        rows=1,
        result="accepted",
        **details,
    )
    return dict(row)


def _days(valid_from: date | None, valid_to: date | None) -> dict[str, str]:
    return {
        "valid_from": valid_from.isoformat() if valid_from else "",
        "valid_to": valid_to.isoformat() if valid_to else "",
    }


def accept(
    code_system: str,
    source_code: str,
    code: str,
    *,
    reviewer: str,
    reviewed_on: date,
    feed: str,
    org_code: str,
    valid_from: date | None,
    valid_to: date | None,
    note: str,
) -> dict[str, Any]:
    source_code, reviewer = source_code.strip(), reviewer.strip()
    signed = {"reviewer": reviewer, "reviewed_on": reviewed_on.isoformat(), "note": note}
    if not reviewer or not source_code:
        raise MedlakeError("E229", place=code_system)
    if code_system == "ucum":
        if code not in units.units():
            raise MedlakeError(
                "E260", place="ucum", standard=code, code_system="ucum", source_code=source_code
            )
        return _record("unit_spelling", {"spelling": source_code, "ucum": code, **signed})
    standard = {r["code"] for r in codemaps.standard_codes(code_system)}
    is_standard = source_code.lower() in {c.lower() for c in standard}
    if feed:
        contract(feed)
    if code not in standard or (is_standard and not (feed or org_code)):
        raise MedlakeError(
            "E260", place=code_system, standard=code, code_system=code_system, source_code=source_code
        )
    row = {
        "code_system": code_system,
        "source_code": source_code,
        "code": code,
        "feed": feed,
        "org_code": org_code,
    }
    return _record("code_map", row | _days(valid_from, valid_to) | signed)


def accept_header(
    feed: str, table: str, header: str, field: str, *, reviewer: str, reviewed_on: date, note: str
) -> dict[str, Any]:
    found = contract(feed).tables.get(table)
    if (
        found is None
        or field not in {f.name for f in found.fields}
        or not reviewer.strip()
        or not header.strip()
    ):
        raise MedlakeError(
            "E260", place=f"{feed}.{table}", standard=field, code_system=f"{feed}.{table}", source_code=header
        )
    row = {"feed": feed, "table": table, "header": header.strip(), "field": field}
    signed = {"reviewer": reviewer, "reviewed_on": reviewed_on.isoformat(), "note": note}
    return _record("header_synonym", row | signed)


def accept_zone(
    feed: str,
    zone: str,
    *,
    reviewer: str,
    reviewed_on: date,
    org_code: str,
    table: str,
    field: str,
    valid_from: date | None,
    valid_to: date | None,
    note: str,
) -> dict[str, Any]:
    contract(feed)
    if zone not in available_timezones() or not reviewer.strip():
        raise MedlakeError("E229", place=f"time_zone {zone}")
    row = {"feed": feed, "org_code": org_code, "table": table, "field": field, "zone": zone}
    signed = {"reviewer": reviewer, "reviewed_on": reviewed_on.isoformat(), "note": note}
    return _record("time_zone", row | _days(valid_from, valid_to) | signed)
