"""What this server can do, as CapabilityStatement (FHIR R4). Open to everybody: it tells of nobody."""

from __future__ import annotations

from datetime import date
from typing import Any

#: When what stands below last changed.
CHANGED = date(2026, 11, 23)

_HL7 = "http://hl7.org/fhir/OperationDefinition"
_OPERATIONS = (
    ("match", f"{_HL7}/Patient-match", "凭证权限 empi / scope empi"),
    ("merge", f"{_HL7}/Patient-merge", "FHIR R5；凭证权限 empi-merge / scope empi-merge"),
    ("unmerge", "urn:hmg:operation:patient-unmerge", "撤销合并；凭证权限 empi-merge / scope empi-merge"),
    ("ihe-pix", "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix", "IHE PIXm ITI-83"),
    ("lookup", "urn:hmg:operation:patient-lookup", "一码查询：code，可选 org / one code to the resident"),
)


def statement(base: str) -> dict[str, Any]:
    """The CapabilityStatement of the service below ``base``."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": CHANGED.isoformat(),
        "kind": "instance",
        "software": {"name": "Medlake 医湖"},
        "implementation": {"description": "居民主索引 / registry of residents", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "description": "Authorization: Bearer <token>；medlake tokens create --feeds empi"
                },
                "resource": [
                    {
                        "type": "Patient",
                        "interaction": [{"code": "read"}, {"code": "search-type"}],
                        "versioning": "no-version",
                        "searchParam": [
                            {"name": "identifier", "type": "token", "documentation": "system|value"},
                            {"name": "_id", "type": "token"},
                        ],
                        "operation": [
                            {"name": name, "definition": definition, "documentation": documentation}
                            for name, definition, documentation in _OPERATIONS
                        ],
                    }
                ],
            }
        ],
    }
