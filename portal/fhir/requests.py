"""Requests in FHIR read into what the registry asks for; whatever has another shape is refused with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from lake.errors import MedlakeError
from portal.fhir import systems

if TYPE_CHECKING:
    from empi.online import Query

GENDERS = {"male": "1", "female": "2"}
_EN_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
REGION = "urn:hmg:ext:region-code"
_DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")
_PATIENT = re.compile(r"(?:.*/)?Patient/([A-Za-z0-9\-.]{1,64})")


@dataclass(frozen=True)
class Parameters:
    """The parameters of an operation, from a Parameters resource or from a query string.

    ``values``: name -> values in order, each a ``(type, value)`` such as ``("valueBoolean", True)``, ``("resource", …)``.
    """

    values: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)

    def all(self, name: str, *kinds: str) -> list[Any]:
        """Every value of a parameter.

        Raises:
            MedlakeError: E339, one is of another type than these.
        """
        found = self.values.get(name, [])
        for kind, _ in found:
            if kind not in kinds:
                raise MedlakeError("E339", detail=f"{name}: {kind}")
        return [value for _, value in found]

    def one(self, name: str, *kinds: str) -> Any | None:
        """The value of a parameter that may stand once, or None.

        Raises:
            MedlakeError: E339, another type, or several.
        """
        found = self.all(name, *kinds)
        if len(found) > 1:
            raise MedlakeError("E339", detail=f"{name}: {len(found)}")
        return found[0] if found else None

    def text(self, name: str) -> str | None:
        """A text that may stand once; from a query string too."""
        return self.one(name, "valueString", "valueUri", "valueCode", "valueId", "valueIdentifier")

    def flag(self, name: str) -> bool:
        """A boolean that may stand once; false without."""
        given = self.one(name, "valueBoolean", "valueString")
        if given not in (None, True, False, "true", "false"):
            raise MedlakeError("E339", detail=f"{name}: boolean")
        return given in (True, "true")


def _object(node: Any, at: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise MedlakeError("E338", detail=at)
    return node


def _objects(node: dict[str, Any], name: str, at: str) -> Iterator[dict[str, Any]]:
    given = node.get(name, [])
    if not isinstance(given, list):
        raise MedlakeError("E338", detail=f"{at}.{name}")
    for place, item in enumerate(given):
        yield _object(item, f"{at}.{name}[{place}]")


def _text(node: dict[str, Any], name: str, at: str) -> str | None:
    given = node.get(name)
    if given is not None and not isinstance(given, str):
        raise MedlakeError("E338", detail=f"{at}.{name}")
    return given.strip() or None if given else None


def resource(body: bytes) -> dict[str, Any]:
    """The JSON of a body.

    Raises:
        MedlakeError: E338, it is none, or no object with a ``resourceType``.
    """
    try:
        node = json.loads(body)
        if b"\\ud" in body.lower():
            json.dumps(node, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise MedlakeError("E338", detail="JSON") from error
    if not isinstance(_object(node, "JSON").get("resourceType"), str):
        raise MedlakeError("E338", detail="resourceType")
    return dict(node)


def parameters(body: bytes) -> Parameters:
    """A Parameters resource; a bare Patient stands for the parameter ``resource`` (FHIR R4, operations 3.2.0.3).

    Raises:
        MedlakeError: E338, it has another shape.
    """
    node = resource(body)
    if node["resourceType"] == "Patient":
        return Parameters({"resource": [("resource", node)]})
    if node["resourceType"] != "Parameters":
        raise MedlakeError("E338", detail="resourceType Parameters")
    found: dict[str, list[tuple[str, Any]]] = {}
    for part in _objects(node, "parameter", "Parameters"):
        name = _text(part, "name", "Parameters.parameter")
        kinds = [k for k in part if k == "resource" or k.startswith("value")]
        if name is None or len(kinds) != 1:
            raise MedlakeError("E338", detail="Parameters.parameter: name, and one value or resource")
        found.setdefault(name, []).append((kinds[0], part[kinds[0]]))
    return Parameters(found)


def from_query(items: list[tuple[str, str]]) -> Parameters:
    """The same of a query string or a form."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for name, value in items:
        found.setdefault(name, []).append(("valueString", value))
    return Parameters(found)


def _name(node: dict[str, Any], at: str) -> str | None:
    """The name as it is written; a transcription is not the name."""
    text = _text(node, "text", at)
    if text is None:
        given = node.get("given", [])
        if not isinstance(given, list) or not all(isinstance(g, str) for g in given):
            raise MedlakeError("E338", detail=f"{at}.given")
        parts = [p for p in (_text(node, "family", at), *given) if p]
        text = ("" if all(not p.isascii() for p in parts) else " ").join(parts) or None
    return text


def _is_transcription(node: dict[str, Any], at: str) -> bool:
    found = [e for e in _objects(node, "extension", at) if e.get("url") == _EN_REPRESENTATION]
    return any(e.get("valueCode") != "IDE" for e in found)


def _best_name(node: dict[str, Any], at: str) -> str | None:
    order = {"official": 0, "usual": 1, None: 2}
    names = [n for n in _objects(node, "name", at) if not _is_transcription(n, at) and n.get("use") != "old"]
    names.sort(key=lambda n: order.get(n.get("use") if isinstance(n.get("use"), str) else None, 3))
    return next((text for n in names if (text := _name(n, f"{at}.name"))), None)


def _phone(node: dict[str, Any], at: str) -> str | None:
    """A telephone, the mobile one first."""
    found = [
        t
        for t in _objects(node, "telecom", at)
        if t.get("system") in ("phone", "sms", None) and t.get("use") != "old"
    ]
    found.sort(key=lambda t: t.get("use") != "mobile")
    return next((value for t in found if (value := _text(t, "value", f"{at}.telecom"))), None)


def _address(node: dict[str, Any], at: str) -> tuple[str | None, str | None]:
    """Region code and text of the home address."""
    found = [a for a in _objects(node, "address", at) if a.get("use") != "old"]
    found.sort(key=lambda a: a.get("use") != "home")
    for one in found:
        place = f"{at}.address"
        region = next(
            (
                _text(e, "valueString", place)
                for e in _objects(one, "extension", place)
                if e.get("url") == REGION
            ),
            None,
        )
        lines = one.get("line", [])
        if not isinstance(lines, list) or not all(isinstance(x, str) for x in lines):
            raise MedlakeError("E338", detail=f"{place}.line")
        text = _text(one, "text", place) or "".join(
            [_text(one, n, place) or "" for n in ("state", "city", "district")] + lines
        )
        return region, text or None
    return None, None


def identifier(node: dict[str, Any], at: str) -> tuple[str | None, str]:
    """System and value of an Identifier.

    Raises:
        MedlakeError: E338, it has no value.
    """
    value = _text(node, "value", at)
    if value is None:
        raise MedlakeError("E338", detail=f"{at}.value")
    return _text(node, "system", at), value


def _kind(node: dict[str, Any], at: str) -> str | None:
    """Which number an identifier is (``NI``, ``HC``, ``SN``): by its system, else by its type, else by its look."""
    system, value = identifier(node, at)
    if system is not None:
        return systems.NUMBERS[system][2] if system in systems.NUMBERS else None
    codings = list(_objects(_object(node.get("type", {}), f"{at}.type"), "coding", f"{at}.type"))
    codes = {c.get("code") for c in codings if isinstance(c.get("code"), str)}
    for code, _, kind in systems.NUMBERS.values():
        if code in codes:
            return kind
    return None if codes or systems.resident_id(value) is None else "NI"


def query(patient: Any, org_code: str) -> Query:
    """The person that a Patient describes, as the registry asks for one; what is not there is not asked for.

    Raises:
        MedlakeError: E338, an element has another type than FHIR's; E340, nothing to go by.
    """
    from empi.online import Query

    node = _object(patient, "Parameters.parameter.resource")
    if node.get("resourceType") != "Patient":
        raise MedlakeError("E338", detail="resource: resourceType Patient")
    numbers: dict[str, str] = {}
    for one in _objects(node, "identifier", "Patient"):
        kind = _kind(one, "Patient.identifier")
        if kind and one.get("use") != "old":
            numbers.setdefault(kind, identifier(one, "Patient.identifier")[1])
    born = _text(node, "birthDate", "Patient")
    if born is not None and not _DAY.fullmatch(born):
        raise MedlakeError("E338", detail="Patient.birthDate")
    contact: dict[str, Any] = next(_objects(node, "contact", "Patient"), {})
    region, address = _address(node, "Patient")
    gender = _text(node, "gender", "Patient")
    given: dict[str, Any] = {
        "name": _best_name(node, "Patient"),
        "sex_code": GENDERS.get(gender) if gender else None,
        "birth_date": _day(born),
        "id_no": numbers.get("NI"),
        "health_card_no": numbers.get("HC"),
        "insurance_no": numbers.get("SN"),
        "phone": _phone(node, "Patient"),
        "contact_name": _name(
            _object(contact.get("name", {}), "Patient.contact.name"), "Patient.contact.name"
        ),
        "contact_phone": _phone(contact, "Patient.contact"),
        "addr_region_code": region,
        "addr_detail": address,
    }
    if not any(v for k, v in given.items() if k not in ("sex_code", "addr_region_code")):
        raise MedlakeError("E340")
    return Query(**given, org_code=org_code)


def _day(text: str | None) -> date | None:
    """A whole date; a year or a month alone is no day to compare."""
    if text is None or len(text) < 10:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise MedlakeError("E338", detail="Patient.birthDate") from error


def referenced(node: Any, at: str) -> tuple[str | None, tuple[str | None, str] | None]:
    """The id and the identifier in a Reference to a Patient.

    Raises:
        MedlakeError: E338, it is none.
    """
    reference = _text(_object(node, at), "reference", at)
    found = _PATIENT.fullmatch(reference) if reference else None
    if reference and not found:
        raise MedlakeError("E338", detail=f"{at}: Patient/<id>")
    named = node.get("identifier")
    return (found.group(1) if found else None), (
        identifier(_object(named, at), at) if named is not None else None
    )
