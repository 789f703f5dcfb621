"""What each FHIR interaction does: from a read request to an answer, with what the audit is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from lake.errors import MedlakeError
from portal.fhir import outcome, requests, resources, systems
from portal.fhir.requests import Parameters

if TYPE_CHECKING:
    from empi.online import Index

#: Most persons in one answer.
MAX_COUNT = 50


@dataclass(frozen=True)
class Call:
    """Who asks the registry for what. ``base``: the URL below which this service stands."""

    index: Index
    org_code: str
    actor: str
    base: str
    key: str | None = None  # the caller's own name for a change


@dataclass(frozen=True)
class Answer:
    """A response, and for the audit: whom it is about and by which fields they were asked for."""

    resource: dict[str, Any]
    status: int = 200
    persons: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    result: str = "ok"


Operation = Callable[[Call, Parameters], Answer]


def _persons(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def match(call: Call, given: Parameters) -> Answer:
    """``Patient/$match``: persons who may be the one described.

    Raises:
        MedlakeError: E338–E340, the request cannot be read.
    """
    query = requests.query(given.one("resource", "resource"), call.org_code)
    count = given.one("count", "valueInteger", "valuePositiveInt", "valueUnsignedInt")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise MedlakeError("E339", detail="count: 1 …")
    certain = given.flag("onlyCertainMatches")
    hits = call.index.match(query, count=min(count or 10, MAX_COUNT), only_certain=certain)
    bundle = resources.matches(call.index, hits, call.base)
    asked = [name for name, value in query.__dict__.items() if value and name != "org_code"]
    return Answer(bundle, persons=_persons(bundle), fields=asked)


def read(call: Call, given: Parameters) -> Answer:
    """``Patient/{id}``: the golden record; of a retired id where it leads.

    Raises:
        MedlakeError: E341, the id was never issued.
    """
    person = call.index.person(str(given.text("_id")))
    if person is None:
        raise MedlakeError("E341")
    return Answer(resources.patient(call.index, person), persons=[person.empi_id], fields=["empi_id"])


def _token(text: str, name: str) -> tuple[str | None, str]:
    """``system|value`` of a search; a bare value has any system."""
    system, bar, value = text.rpartition("|")
    if not value.strip() or (bar and not system):
        raise MedlakeError("E339", detail=f"{name}: system|value")
    return system or None, value.strip()


def search(call: Call, given: Parameters) -> Answer:
    """``Patient?identifier=…``: commas mean or, a parameter given again means and; ``_id`` likewise.

    Raises:
        MedlakeError: E339, no identifier, or a parameter that this search does not have.
    """
    unknown = set(given.values) - {"identifier", "_id", "_format", "_count"}
    if unknown or not {"identifier", "_id"} & set(given.values):
        raise MedlakeError("E339", detail=", ".join(sorted(unknown)) or "identifier")
    groups = [
        {e for token in text.split(",") for e in systems.holders(call.index, *_token(token, "identifier"))}
        for text in given.all("identifier", "valueString")
    ]
    groups += [
        {e for e in text.split(",") if call.index.current(e) is not None}
        for text in given.all("_id", "valueString")
    ]
    ids = sorted(set.intersection(*groups))[:MAX_COUNT]
    url = f"{call.base}/Patient?" + urlencode(
        [(name, value) for name, all_ in given.values.items() for _, value in all_]
    )
    bundle = resources.found(call.index, ids, call.base, url)
    return Answer(bundle, persons=_persons(bundle), fields=sorted(given.values))


def lookup(call: Call, given: Parameters) -> Answer:
    """``Patient/$lookup``: one code, whatever number it is, to the resident.

    Raises:
        MedlakeError: E339, no code.
    """
    code, org_code = given.text("code"), given.text("org")
    if not code or not code.strip():
        raise MedlakeError("E339", detail="code")
    ids = call.index.lookup(code, org_code=org_code)[:MAX_COUNT]
    bundle = resources.found(call.index, ids, call.base)
    return Answer(bundle, persons=_persons(bundle), fields=["code"])


#: What PIXm prescribes: the status, FHIR's code, and the words (ITI-83, 2:3.83.4.2.2).
_PIX = {
    "source": (400, "code-invalid", "sourceIdentifier Assigning Authority not found"),
    "patient": (404, "not-found", "sourceIdentifier Patient Identifier not found"),
    "target": (403, "code-invalid", "targetSystem not found"),
}


def _pix(case: str) -> Answer:
    status, code, text = _PIX[case]
    return Answer(outcome.issue("error", code, text), status, fields=["identifier"], result=case)


def pix(call: Call, given: Parameters) -> Answer:
    """``Patient/$ihe-pix`` (PIXm, ITI-83): the other identifiers of whoever has this one, and the resident's id.

    Raises:
        MedlakeError: E339, ``sourceIdentifier`` is missing or has no system.
    """
    source = given.text("sourceIdentifier")
    if source is None:
        raise MedlakeError("E339", detail="sourceIdentifier")
    system, value = _token(source, "sourceIdentifier")
    if system is None:
        raise MedlakeError("E339", detail="sourceIdentifier: system|value")
    targets = {t for text in given.all("targetSystem", "valueString", "valueUri") for t in text.split(",")}
    if not systems.is_known(system):
        return _pix("source")
    if not all(systems.is_known(t) for t in targets):
        return _pix("target")
    ids = systems.holders(call.index, system, value)
    if not ids:
        return _pix("patient")
    told: list[tuple[str, str, Any]] = []
    for empi_id in ids[:MAX_COUNT]:
        person = call.index.person(empi_id)
        for one in resources.patient(call.index, person)["identifier"] if person else []:
            is_source = one["system"] == system and one["value"] in {value, *systems.spellings(value)}
            if not is_source and (not targets or one["system"] in targets):
                told.append(("targetIdentifier", "valueIdentifier", one))
        if not targets or systems.EMPI in targets:
            told.append(("targetId", "valueReference", {"reference": f"{call.base}/Patient/{empi_id}"}))
    return Answer(resources.parameters(*told), persons=ids, fields=["identifier"])
