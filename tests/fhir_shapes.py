"""What FHIR R4 lets stand in the resources that we write: elements, types, required ones and code lists.

Written down from the R4 specification (hl7.org/fhir/R4: Patient, Bundle, Parameters, OperationOutcome,
CapabilityStatement and their data types), for those elements that the registry uses. Whatever else appears is a problem.
"""

from __future__ import annotations

import re
from typing import Any

_DATE = r"\d{4}(-\d{2}(-\d{2})?)?"
_PRIMITIVES: dict[str, str] = {
    "string": r"[\s\S]+",
    "uri": r"\S+",
    "code": r"\S+( \S+)*",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "date": _DATE,
    "dateTime": _DATE + r"(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?",
    "instant": r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})",
}
_ISSUES = (
    "invalid structure required value invariant security login unknown expired forbidden suppressed processing "
    "not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension too-costly "
    "business-rule conflict transient lock-error no-store exception timeout incomplete throttled informational"
)
#: Type -> element -> type; ``*`` many, ``!`` required, ``=a b`` one of these codes.
_TYPES: dict[str, dict[str, str]] = {
    "Extension": {"url": "uri!", "valueCode": "code", "valueString": "string"},
    "Coding": {"system": "uri", "code": "code", "display": "string"},
    "CodeableConcept": {"coding": "Coding*", "text": "string"},
    "Meta": {"lastUpdated": "instant"},
    "Identifier": {
        "use": "code=usual official temp secondary old", "type": "CodeableConcept", "system": "uri",
        "value": "string", "assigner": "Reference",
    },
    "Reference": {"reference": "string", "type": "uri", "identifier": "Identifier", "display": "string"},
    "HumanName": {
        "extension": "Extension*", "use": "code=usual official temp nickname anonymous old maiden",
        "text": "string", "family": "string", "given": "string*",
    },
    "ContactPoint": {
        "system": "code=phone fax email pager url sms other", "value": "string", "use": "code=home work temp old mobile",
    },
    "Address": {"extension": "Extension*", "use": "code=home work temp old billing", "text": "string"},
    "PatientLink": {"other": "Reference!", "type": "code!=replaced-by replaces refer seealso"},
    "PatientContact": {"name": "HumanName", "telecom": "ContactPoint*"},
    "Patient": {
        "resourceType": "code!", "id": "id", "identifier": "Identifier*", "active": "boolean", "name": "HumanName*",
        "telecom": "ContactPoint*", "gender": "code=male female other unknown", "birthDate": "date",
        "deceasedBoolean": "boolean", "deceasedDateTime": "dateTime", "address": "Address*", "link": "PatientLink*",
        "contact": "PatientContact*",
    },
    "BundleLink": {"relation": "string!", "url": "uri!"},
    "BundleSearch": {"extension": "Extension*", "mode": "code=match include outcome", "score": "share"},
    "BundleEntry": {"fullUrl": "uri", "resource": "resource", "search": "BundleSearch"},
    "Bundle": {
        "resourceType": "code!", "id": "id", "meta": "Meta", "type": "code!=searchset", "total": "count",
        "link": "BundleLink*", "entry": "BundleEntry*",
    },
    "Parameter": {
        "name": "string!", "resource": "resource", "valueString": "string", "valueBoolean": "boolean",
        "valueIdentifier": "Identifier", "valueReference": "Reference",
    },
    "Parameters": {"resourceType": "code!", "parameter": "Parameter*"},
    "Issue": {
        "severity": "code!=fatal error warning information", "code": f"code!={_ISSUES}", "details": "CodeableConcept",
        "diagnostics": "string",
    },
    "OperationOutcome": {"resourceType": "code!", "issue": "Issue*!"},
    "Software": {"name": "string!"},
    "Implementation": {"description": "string!", "url": "uri"},
    "Security": {"description": "string"},
    "Interaction": {"code": "code!=read vread update patch delete history-instance history-type create search-type"},
    "SearchParam": {
        "name": "string!", "type": "code!=number date string token reference composite quantity uri special",
        "documentation": "string",
    },
    "Operation": {"name": "string!", "definition": "uri!", "documentation": "string"},
    "RestResource": {
        "type": "code!", "interaction": "Interaction*", "versioning": "code=no-version versioned versioned-update",
        "searchParam": "SearchParam*", "operation": "Operation*",
    },
    "Rest": {"mode": "code!=client server", "security": "Security", "resource": "RestResource*"},
    "CapabilityStatement": {
        "resourceType": "code!", "status": "code!=draft active retired unknown", "date": "dateTime!",
        "kind": "code!=instance capability requirements", "software": "Software", "implementation": "Implementation",
        "fhirVersion": "code!", "format": "code*!", "rest": "Rest*",
    },
}  # fmt: skip
_RULE = re.compile(r"(?P<type>\w+)(?P<many>\*)?(?P<required>!)?(=(?P<codes>.*))?")


def _check(node: Any, type_: str, codes: str | None, at: str) -> list[str]:
    if type_ == "resource":
        type_ = str(node.get("resourceType")) if isinstance(node, dict) else "?"
    if type_ in _TYPES:
        return _object(node, _TYPES[type_], at)
    if type_ == "boolean":
        good = isinstance(node, bool)
    elif type_ == "count":
        good = isinstance(node, int) and not isinstance(node, bool) and node >= 0
    elif type_ == "share":
        good = isinstance(node, int | float) and not isinstance(node, bool) and 0 <= node <= 1
    else:
        good = isinstance(node, str) and bool(re.fullmatch(_PRIMITIVES.get(type_, "(?!)"), node))
        good = good and (codes is None or node in codes.split())
    return [] if good else [f"{at}: {node!r} is no {type_}"]


def _object(node: Any, elements: dict[str, str], at: str) -> list[str]:
    if not isinstance(node, dict) or not node:
        return [f"{at}: not an object with content"]
    found = [f"{at}.{name}: no such element" for name in node.keys() - elements.keys()]
    for name, text in elements.items():
        rule = _RULE.fullmatch(text)
        assert rule is not None
        place = f"{at}.{name}"
        if name not in node:
            found += [f"{place}: required"] if rule["required"] else []
        elif rule["many"] and (not isinstance(node[name], list) or not node[name]):
            found.append(f"{place}: not a list with content")
        else:
            for item in node[name] if rule["many"] else [node[name]]:
                found += _check(item, rule["type"], rule["codes"], place)
    choices = [name for name in node if name.startswith(("value", "deceased"))]
    return [*found, f"{at}: {choices}"] if len(choices) > 1 and at else found


def problems(resource: Any) -> list[str]:
    """What FHIR R4 would not let stand in a resource, each with its place."""
    return _check(
        resource, "resource", None, str(resource.get("resourceType")) if isinstance(resource, dict) else "?"
    )
