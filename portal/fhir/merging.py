"""``Patient/$merge`` and ``$unmerge``: people's decisions, applied at once in the operational registry.

Parameters as in FHIR R5 (Patient-merge): the source is retired, the target stays. Over HTTP one client speaks, so two
persons who both have a health archive in use are never merged here: two people decide in the work list.
"""

from __future__ import annotations

from typing import Any

from lake.errors import MedlakeError
from portal.fhir import outcome, requests, resources, systems
from portal.fhir.operations import Answer, Call
from portal.fhir.requests import Parameters


def _side(call: Call, given: Parameters, side: str) -> str:
    """The id of the source or the target, by reference or by identifiers.

    Raises:
        MedlakeError: E339, neither is given; E348, they lead to nobody, to several, or to different persons.
    """
    reference = given.one(side, "valueReference")
    named, identifiers = requests.referenced(reference, side) if reference is not None else (None, None)
    tokens = [requests.identifier(node, side) for node in given.all(f"{side}-identifier", "valueIdentifier")]
    tokens += [identifiers] if identifiers else []
    if named is None and not tokens:
        raise MedlakeError("E339", detail=side)
    groups = [set(systems.holders(call.index, *token)) for token in tokens]
    groups += [{named}] if named else []
    leading = set.intersection(*groups)
    if len(leading) != 1:
        raise MedlakeError("E348", side=side)
    return leading.pop()


def _input(given: Parameters) -> dict[str, Any]:
    parts = [{"name": name, kind: value} for name, all_ in given.values.items() for kind, value in all_]
    return {"resourceType": "Parameters", "parameter": parts}


def _person(call: Call, empi_id: str) -> dict[str, Any]:
    person = call.index.person(empi_id)
    if person is None:
        raise MedlakeError("E341")
    return resources.patient(call.index, person)


def merge(call: Call, given: Parameters) -> Answer:
    """``$merge``: 200 with the target as it now is, or 202 when two people have to look at it first.

    Raises:
        MedlakeError: E321, one of the two is not in use; E339, E348, they are not named well.
    """
    from empi import changes

    if given.all("result-patient", "resource"):
        raise MedlakeError(
            "E339", detail="result-patient"
        )  # the golden record follows from the registrations
    target, source = _side(call, given, "target-patient"), _side(call, given, "source-patient")
    both = [target, source]
    if given.flag("preview"):
        shown = _preview(call, target, source)
        told = outcome.issue("information", "informational", "预览，未作更改 / preview, nothing was changed")
        parts = [
            ("input", "resource", _input(given)),
            ("outcome", "resource", told),
            ("result", "resource", shown),
        ]
        return Answer(resources.parameters(*parts), 200, both, ["empi_id"], "preview")
    reason = given.text("reason") or "FHIR Patient/$merge"
    done = changes.merge(target, source, actor=call.actor, reason=reason, change_id=call.key)
    if done["state"] == "review":
        told = outcome.issue(
            "information", "informational",
            "两份在用健康档案，须两人复核，已进入工作台 / both have a health archive in use: two people decide in the work list",
        )  # fmt: skip
        parts = [("input", "resource", _input(given)), ("outcome", "resource", told)]
        parts.append(("request-key", "valueString", done["request_key"]))
        return Answer(resources.parameters(*parts), 202, both, ["empi_id"], "review")
    told = outcome.issue("information", "informational", "已合并 / merged")
    return _applied(call, given, told, done, target, both)


def _preview(call: Call, target: str, source: str) -> dict[str, Any]:
    """The target as the merge would leave it."""
    from dataclasses import replace

    ours, theirs = call.index.person(target), call.index.person(source)
    if ours is None or theirs is None or not (ours.is_active and theirs.is_active) or target == source:
        raise MedlakeError("E321", detail=f"{target} {source}")
    joined = replace(
        ours,
        records=tuple(sorted({*ours.records, *theirs.records})),
        replaces=tuple(sorted({*ours.replaces, *theirs.replaces, source})),
    )
    return resources.patient(call.index, joined)


def _applied(
    call: Call, given: Parameters, told: dict[str, Any], done: dict[str, Any], empi_id: str, both: list[str]
) -> Answer:
    return Answer(
        resources.parameters(
            ("input", "resource", _input(given)),
            ("outcome", "resource", told),
            ("result", "resource", _person(call, empi_id)),
            ("change-id", "valueString", done["change_id"]),
        ),
        persons=both,
        fields=["empi_id"],
    )


def unmerge(call: Call, given: Parameters) -> Answer:
    """``$unmerge``: the retired id gets its records back. ``change-id`` names the merge, or ``source-patient`` the id.

    Raises:
        MedlakeError: E322, no such merge; E323, it can no longer be undone; E339, neither parameter.
    """
    from empi import changes
    from empi.online import merges

    merge_id = given.text("change-id")
    if merge_id is None:
        reference = given.one("source-patient", "valueReference")
        named = requests.referenced(reference, "source-patient")[0] if reference is not None else None
        if named is None:
            raise MedlakeError("E339", detail="change-id | source-patient")
        merge_id = merges.merge_of(named)
        if merge_id is None:
            raise MedlakeError("E322", place=named)
    reason = given.text("reason") or "FHIR Patient/$unmerge"
    done = changes.unmerge(merge_id, actor=call.actor, reason=reason, change_id=call.key)
    told = outcome.issue("information", "informational", "已撤销合并 / the merge is undone")
    back = done["other_empi_id"]
    return _applied(call, given, told, done, back, [done["empi_id"], back])
