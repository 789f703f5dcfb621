"""Persons as FHIR R4: Patient with links, searchsets, parameters. What the registry does not know is left out."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from portal.fhir import systems
from portal.fhir.requests import GENDERS, REGION

if TYPE_CHECKING:
    from empi.online import Hit, Index, Person

MATCH_GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
MATCH_GUARD = "urn:hmg:ext:match-guard"
_EN_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_GENDERS = {code: word for word, code in GENDERS.items()}


def _names(name: str) -> list[dict[str, Any]]:
    """The name in characters, its surname apart, and how it sounds."""
    from pypinyin import Style, lazy_pinyin

    from empi import names

    if name.isascii():
        return [{"use": "official", "text": name}]
    family = names.surname(name)
    made: dict[str, Any] = {"use": "official", "text": name, "family": family}
    if name[len(family) :]:
        made["given"] = [name[len(family) :]]
    spoken = ["".join(lazy_pinyin(p, style=Style.NORMAL)).capitalize() for p in (family, name[len(family) :])]
    sound = {"url": _EN_REPRESENTATION, "valueCode": "SYL"}
    return [made, {"extension": [sound], "text": " ".join(p for p in spoken if p)}]


def _address(golden: dict[str, Any]) -> list[dict[str, Any]]:
    made: dict[str, Any] = {"use": "home"}
    if golden.get("region_code"):
        made["extension"] = [{"url": REGION, "valueString": golden["region_code"]}]
    if golden.get("addr_detail"):
        made["text"] = golden["addr_detail"]
    return [made] if len(made) > 1 else []


def _reference(empi_id: str) -> dict[str, Any]:
    return {"reference": f"Patient/{empi_id}"}


def retired(empi_id: str, replaced_by: str) -> dict[str, Any]:
    """Of an id that was merged away only where it leads."""
    link = {"other": _reference(replaced_by), "type": "replaced-by"}
    return {"resourceType": "Patient", "id": empi_id, "active": False, "link": [link]}


def patient(index: Index, person: Person) -> dict[str, Any]:
    """The golden record: its trusted numbers, the numbers of its registrations, and links to what it replaces."""
    if person.replaced_by:
        return retired(person.empi_id, person.replaced_by)
    golden = person.golden
    records = [systems.record(*key) for key in person.records]
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "id": person.empi_id,
        "identifier": [
            {"use": "usual", "system": systems.EMPI, "value": person.empi_id},
            *(systems.number(kind, value) for kind, value in index.numbers_of(person)),
            *records,
        ],
        "active": person.is_active,
        "name": _names(golden["name"]) if golden.get("name") else [],
        "telecom": [{"system": "phone", "value": golden["phone"], "use": "mobile"}]
        if golden.get("phone")
        else [],
        "gender": _GENDERS.get(golden.get("sex_code") or "", "unknown"),
        "birthDate": golden.get("birth_date"),
        "address": _address(golden),
        "link": [
            *({"other": _reference(e), "type": "replaces"} for e in person.replaces),
            *(
                {
                    "other": {"type": "Patient", "identifier": {"system": r["system"], "value": r["value"]}},
                    "type": "seealso",
                }
                for r in records
            ),
        ],
    }
    if golden.get("death_date"):
        made["deceasedDateTime"] = golden["death_date"]
    elif golden.get("is_deceased"):
        made["deceasedBoolean"] = True
    return {k: v for k, v in made.items() if v not in (None, [])}


def _bundle(entries: list[dict[str, Any]], url: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"lastUpdated": datetime.now(UTC).isoformat(timespec="milliseconds")},
        "type": "searchset",
        "total": len(entries),
    }
    if url:
        made["link"] = [{"relation": "self", "url": url}]
    return made | ({"entry": entries} if entries else {})


def matches(index: Index, hits: list[Hit], base: str) -> dict[str, Any]:
    """The answer of ``$match``: the likeliest first, each with its chance and grade; a guard says what speaks against."""
    entries = []
    for hit in hits:
        person = index.person(hit.empi_id)
        if person is None:  # merged away between two reads
            continue
        told = [{"url": MATCH_GRADE, "valueCode": hit.grade}]
        if hit.guard:
            told.append({"url": MATCH_GUARD, "valueCode": hit.guard})
        entries.append(
            {
                "fullUrl": f"{base}/Patient/{person.empi_id}",
                "resource": patient(index, person),
                "search": {"extension": told, "mode": "match", "score": round(min(hit.score, 1.0), 6)},
            }
        )
    return _bundle(entries, None)


def found(index: Index, ids: list[str], base: str, url: str | None = None) -> dict[str, Any]:
    """Persons as a searchset."""
    persons = [p for e in ids if (p := index.person(e)) is not None]
    return _bundle(
        [
            {
                "fullUrl": f"{base}/Patient/{p.empi_id}",
                "resource": patient(index, p),
                "search": {"mode": "match"},
            }
            for p in persons
        ],
        url,
    )


def parameters(*given: tuple[str, str, Any]) -> dict[str, Any]:
    """A Parameters resource of (name, ``valueX`` or ``resource``, value)."""
    made: dict[str, Any] = {"resourceType": "Parameters"}
    if given:
        made["parameter"] = [{"name": name, kind: value} for name, kind, value in given]
    return made
