"""Errors as OperationOutcome: the status, FHIR's own code for the kind of problem, and our number in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from lake.errors import MedlakeError

ERROR_SYSTEM = "urn:hmg:error"

#: Number -> (HTTP status, issue type). Codes: http://hl7.org/fhir/R4/valueset-issue-type.html
KINDS: dict[str, tuple[int, str]] = {
    "E103": (503, "transient"),
    "E273": (401, "login"),
    "E321": (422, "business-rule"),
    "E322": (404, "not-found"),
    "E323": (409, "conflict"),
    "E335": (503, "transient"),
    "E336": (503, "transient"),
    "E337": (503, "transient"),
    "E338": (400, "structure"),
    "E339": (400, "invalid"),
    "E340": (422, "required"),
    "E341": (404, "not-found"),
    "E342": (403, "forbidden"),
    "E343": (429, "throttled"),
    "E344": (413, "too-long"),
    "E345": (415, "not-supported"),
    "E346": (400, "value"),
    "E347": (503, "no-store"),
    "E348": (422, "multiple-matches"),
}

#: What the server says without a number of its own.
_PLAIN: dict[int, tuple[str, str]] = {
    404: ("not-found", "没有这个地址 / no such address"),
    405: ("not-supported", "不支持的方法 / method not supported"),
}
_FAILED = ("exception", "服务出错，已记入日志 / the request failed; the error is in the log")


class FhirResponse(JSONResponse):
    """A resource as ``application/fhir+json``."""

    media_type = "application/fhir+json"


def issue(severity: str, code: str, text: str, **more: Any) -> dict[str, Any]:
    """An OperationOutcome with one issue."""
    made = {"severity": severity, "code": code, "details": {"text": text}} | more
    return {"resourceType": "OperationOutcome", "issue": [made]}


def of(error: MedlakeError, text: str | None = None) -> tuple[int, dict[str, Any]]:
    """Status and OperationOutcome of a numbered error. ``text``: the words that a standard prescribes instead of ours."""
    status, code = KINDS.get(error.code, (500, "exception"))
    made = issue(
        "error", code, text or error.en, diagnostics=f"{error.zh}。{error.remedy_zh} / {error.remedy_en}"
    )
    made["issue"][0]["details"]["coding"] = [{"system": ERROR_SYSTEM, "code": error.code}]
    return status, made


def problem(status: int) -> FhirResponse:
    """What the server has to say of a path or a method, or of a failure."""
    code, text = _PLAIN.get(status, _FAILED)
    return FhirResponse(issue("error", code, text), status)


def refused(
    error: MedlakeError, status: int | None = None, *, headers: Mapping[str, str] | None = None
) -> FhirResponse:
    """A numbered error as response."""
    own, resource = of(error)
    return FhirResponse(resource, status or own, headers)
