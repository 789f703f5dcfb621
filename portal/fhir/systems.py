"""Identifiers in FHIR and in the registry: which system means which number, and who has it.

``urn:oid:2.16.156.10011.1.3`` (resident id) and ``…1.19`` (health card) are those of the national CDA documents
(WS/T 500); the others are the group's own (governance rules, section 8).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lake import registry

if TYPE_CHECKING:
    from empi.online import Index

EMPI = "urn:hmg:empi"
RESIDENT_ID = "urn:oid:2.16.156.10011.1.3"
DOCUMENT = "urn:hmg:id:document"
HEALTH_CARD = "urn:oid:2.16.156.10011.1.19"
INSURANCE = "urn:hmg:id:insurance"
_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"

#: System -> (type in v2-0203, its name, type in the registry).
NUMBERS: dict[str, tuple[str, str, str]] = {
    RESIDENT_ID: ("NI", "居民身份证", "NI"),
    DOCUMENT: ("PPN", "护照或通行证", "NI"),
    HEALTH_CARD: ("HC", "电子健康卡", "HC"),
    INSURANCE: ("SN", "医保编号", "SN"),
}
#: Last part of an institution's system -> (source, its name).
_RECORDS = {
    "patient": ("his", "机构患者ID"),
    "archive": ("public_health", "健康档案编号"),
    "lis": ("lis", "检验系统患者ID"),
    "pacs": ("pacs", "影像系统患者ID"),
}
_PART_OF = {source: (part, label) for part, (source, label) in _RECORDS.items()}
_OF_ORG = re.compile(r"urn:hmg:org:([^:|]+):(patient|archive|lis|pacs)")


def record_system(source_system: str, org_code: str) -> str:
    """The system of the numbers that a source of an institution gives."""
    return f"urn:hmg:org:{org_code}:{_PART_OF[source_system][0]}"


def number(kind: str, value: str) -> dict[str, Any]:
    """Identifier of a number of the registry (``NI``, ``HC``, ``SN``); a passport or permit is told by its letters."""
    system = {"HC": HEALTH_CARD, "SN": INSURANCE}.get(kind) or (
        DOCUMENT if value[:1].isalpha() else RESIDENT_ID
    )
    code, label, _ = NUMBERS[system]
    kind_of = {"coding": [{"system": _TYPES, "code": code}], "text": label}
    return {"use": "official" if kind == "NI" else "usual", "type": kind_of, "system": system, "value": value}


def record(source_system: str, org_code: str, value: str) -> dict[str, Any]:
    """Identifier of a registration."""
    return {
        "use": "secondary",
        "type": {"coding": [{"system": _TYPES, "code": "MR"}], "text": _PART_OF[source_system][1]},
        "system": record_system(source_system, org_code),
        "value": value,
        "assigner": {"reference": f"Organization/{org_code}"},
    }


def is_known(system: str) -> bool:
    """Whether identifiers of this system are held here."""
    found = _OF_ORG.fullmatch(system)
    return system == EMPI or system in NUMBERS or bool(found and found.group(1) in registry.org_codes())


def spellings(value: str) -> set[str]:
    """A number in the forms that the registry may hold it in."""
    from empi.online import single

    cleaned = single.clean_id(value)
    return {n for n in (cleaned, single.id_18(cleaned), single.clean_card(value)) if n}


def holders(index: Index, system: str | None, value: str) -> list[str]:
    """Ids of those who have an identifier; without a system, whatever number it is. An unknown system has nobody."""
    if not value:
        return []
    if system is None:
        return index.lookup(value)
    if system == EMPI:
        current = index.current(value)
        return [current] if current else []
    if system in NUMBERS:
        wanted = {(NUMBERS[system][2], n) for n in spellings(value)}
        return [e for e in index.lookup(value) if not wanted.isdisjoint(index.numbers(e))]
    found = _OF_ORG.fullmatch(system)
    held = index.by_record(_RECORDS[found.group(2)][0], found.group(1), value) if found else None
    return [held] if held else []


def resident_id(value: str) -> str | None:
    """A resident id of 15 or 18 characters in its 18-character form, or None if it is none."""
    from empi.online import single

    return single.id_18(single.clean_id(value))
