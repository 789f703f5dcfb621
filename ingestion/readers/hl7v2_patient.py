"""ADT messages to ``patient`` rows: which part of PID, NK1 and EVN holds which field of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingestion.readers.hl7v2_text import Delimiters, Message, get, msh
from ingestion.readers.names import has_ideographs, joined

#: Contract field -> where ADT holds it; the contract's own names are those of the CSV extracts.
PLACES = {
    "patient_local_id": "PID-3",
    "name": "PID-5",
    "sex_code": "PID-8",
    "birth_date": "PID-7",
    "id_type_code": "PID-3.5",
    "id_no": "PID-3",
    "health_card_no": "PID-3",
    "insurance_no": "PID-3",
    "phone": "PID-13",
    "contact_name": "NK1-2",
    "contact_phone": "NK1-5",
    "addr_detail": "PID-11",
    "ethnicity_code": "PID-22",
    "marital_code": "PID-16",
    "mother_patient_id": "PID-21",
    "source_updated_at": "EVN-2",
}
NAMES = tuple(PLACES)

#: CX-5 (table 0203) of PID-3: what kind of identifier a repetition is.
LOCAL = ("MR", "PI", "PT", "")
NATIONAL = ("NI", "NNCHN", "NNCN", "PPN", "DL", "SB")
HEALTH_CARD = ("HC", "JHN")
INSURANCE = ("SN", "MI", "HI")


def identifiers(value: str, marks: Delimiters) -> dict[str, str]:
    """PID-3: identifier type (CX-5) -> id (CX-1), the first of each type."""
    found: dict[str, str] = {}
    for repetition in value.split(marks.repetition):
        parts = repetition.split(marks.component)
        if parts[0]:
            kind = parts[4].split(marks.subcomponent, 1)[0] if len(parts) > 4 else ""
            found.setdefault(kind, marks.unescape(parts[0].split(marks.subcomponent, 1)[0]))
    return found


def first_of(found: dict[str, str], kinds: tuple[str, ...]) -> str:
    return next((found[k] for k in kinds if k in found), "")


def local_id(value: str, marks: Delimiters) -> str:
    """The institution's own id: the repetition typed MR, else PI, else untyped, else the first that is no document."""
    if marks.component not in value and marks.repetition not in value:
        return marks.unescape(value.split(marks.subcomponent, 1)[0])
    found = identifiers(value, marks)
    others = NATIONAL + HEALTH_CARD + INSURANCE
    return first_of(found, LOCAL) or next((v for k, v in found.items() if k not in others), "")


def person_name(value: str, marks: Delimiters) -> str:
    """XPN: family, given, further given names; the ideographic repetition wins over the alphabetic one."""
    if marks.component not in value and marks.repetition not in value:
        return marks.unescape(value.split(marks.subcomponent, 1)[0])
    names = []
    for repetition in value.split(marks.repetition):
        parts = [p.split(marks.subcomponent, 1)[0] for p in repetition.split(marks.component)[:3]]
        names.append(marks.unescape(joined(parts)))
    return next((n for n in names if has_ideographs(n)), names[0])


def telephone(value: str, marks: Delimiters) -> str:
    """XTN-1, else the unformatted XTN-12, else area code and number (XTN-6, XTN-7)."""
    first = marks.component_of(value, 1)
    if first or marks.component not in value:
        return first
    area, number = marks.component_of(value, 6), marks.component_of(value, 7)
    return marks.component_of(value, 12) or area + number


def address(value: str, marks: Delimiters) -> str:
    """XAD: a Chinese address as one text from province to door, others in the order of the standard."""
    value = value.split(marks.repetition, 1)[0]
    if marks.component not in value:
        return marks.unescape(value.split(marks.subcomponent, 1)[0])
    parts = [marks.component_of(value, n) for n in (1, 2, 3, 4, 5)]
    if has_ideographs(value):
        street, other, city, province, _ = parts
        return "".join(p for p in (province, city, other, street) if p)
    return ", ".join(p for p in parts if p)


def handle(
    message: Message,
    header: list[str],
    marks: Delimiters,
    columns: list[Any],
    org: str,
    refuse: Callable[..., None],
) -> None:
    """Add one row, or refuse the message when it has no PID."""
    by_kind: dict[str, list[str]] = {}
    line = message.line
    for segment, at in zip(message.segments, message.lines, strict=True):
        if segment[:3] not in by_kind:
            by_kind[segment[:3]] = segment.split(marks.field)
            line = at if segment[:3] == "PID" else line
    pid = by_kind.get("PID")
    if pid is None:
        return refuse("E214", "PID", segment="PID")
    next_of_kin, event = by_kind.get("NK1", []), by_kind.get("EVN", [])
    ids = identifiers(get(pid, 3), marks)
    id_no = first_of(ids, NATIONAL) or marks.component_of(get(pid, 19), 1)
    kind = next((k for k in NATIONAL if k in ids), "NI" if id_no else "")
    row = (
        local_id(get(pid, 3), marks),
        person_name(get(pid, 5), marks),
        marks.component_of(get(pid, 8), 1),
        marks.component_of(get(pid, 7), 1),
        kind,
        id_no,
        first_of(ids, HEALTH_CARD),
        first_of(ids, INSURANCE),
        telephone(get(pid, 13), marks) or telephone(get(pid, 14), marks),
        person_name(get(next_of_kin, 2), marks),
        telephone(get(next_of_kin, 5), marks),
        address(get(pid, 11), marks),
        marks.component_of(get(pid, 22), 1) or marks.component_of(get(pid, 10), 1),
        marks.component_of(get(pid, 16), 1),
        marks.component_of(get(pid, 21), 1),
        marks.component_of(get(event, 2), 1) or marks.component_of(msh(header, 7), 1),
    )
    columns[0].add(row, line, org)
