"""``/research``: a cohort put together in a form, read back in Chinese, counted under disclosure control, saved."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from lake.errors import MedlakeError
from portal import pages
from products.cohort_definition import Definition, parse
from products.cohorts import describe, saved
from products.cohorts import run as cohorts

router = APIRouter(include_in_schema=False)

_PURPOSE = "research"


def _page(
    request: Request, problem: MedlakeError | None = None, given: dict[str, str] | None = None, **values: Any
) -> Response:
    shown = {"report": None, "description": "", "done": ""} | values
    return pages.page(
        request, "research/research.html", status=400 if problem else 200, problem=problem, given=given or {},
        saved=saved.listed(), **shown,
    )  # fmt: skip


def _number(text: str) -> int | float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else value


def _period(days: str) -> dict[str, Any]:
    number = _number(days)
    return {"period": {"within_days": number}} if number is not None else {}


def _words(text: str) -> list[str]:
    return text.replace("，", ",").replace("、", ",").replace(",", " ").split()


def definition_of(form: dict[str, str]) -> Definition:
    """The definition that a filled form says; fields left empty say nothing.

    Raises:
        MedlakeError: E640 with what is wrong.
    """
    wanted: list[Any] = []
    for disease in ("htn", "dm"):
        if state := form.get(disease, ""):
            wanted.append(
                {"managed": disease} | ({"controlled": state == "yes"} if state in ("yes", "no") else {})
            )
    if form.get("loinc"):
        test = {"loinc": _words(form["loinc"]), "op": form.get("lab_op", ">="), "value": _number(form.get("lab_value", "")),
                "unit": form.get("lab_unit", "")} | _period(form.get("lab_days", ""))  # fmt: skip
        wanted.append({"lab": test})
    if form.get("drug"):
        by = "code" if form.get("drug_by") == "code" else "name"
        wanted.append({"drug": {by: _words(form["drug"])} | _period(form.get("drug_days", ""))})
    if form.get("visit_class") or form.get("icd10"):
        visit: dict[str, Any] = _period(form.get("visit_days", ""))
        visit |= {"class_code": [form["visit_class"]]} if form.get("visit_class") else {}
        visit |= {"icd10": _words(form["icd10"])} if form.get("icd10") else {}
        wanted.append({"encounter": visit | {"at_least": _number(form.get("visits", "")) or 1}})
    if form.get("without"):
        wanted.append(
            {
                "none": [
                    {"encounter": {"icd10": _words(form["without"])} | _period(form.get("without_days", ""))}
                ]
            }
        )
    people: dict[str, Any] = {}
    ages = {k: _number(form.get(f"age_{k}", "")) for k in ("min", "max")}
    if any(v is not None for v in ages.values()):
        people["age"] = {k: v for k, v in ages.items() if v is not None}
    people |= {"sex": [form["sex"]]} if form.get("sex") else {}
    people |= {"county": _words(form["county"])} if form.get("county") else {}
    node = {"cohort": form.get("cohort", ""), "title_zh": form.get("title_zh", ""), "population": people,
            "where": {"all": wanted}, "group_by": [g for g in (form.get("group1"), form.get("group2")) if g]}  # fmt: skip
    return parse(node, "form")


@router.get("/research")
def overview(request: Request) -> Response:
    return _page(request)


def _answer(request: Request, form: dict[str, str]) -> Response:
    person = request.state.person
    try:
        wanted = definition_of(form)
        if form.get("act") == "describe":
            return _page(request, given=form, description=describe.describe(wanted))
        kept = saved.save(wanted, actor=person.user) if form.get("act") == "save" else None
        report = cohorts.run(wanted, actor=person.user, purpose=_PURPOSE)
    except MedlakeError as error:
        if error.code == "E608":
            raise
        return _page(request, error, form)
    done = f"已保存 {wanted.cohort} 第 {kept['version']} 版" if kept else ""
    return _page(request, given=form, report=report, description=report["description"], done=done)


@router.post("/research")
async def ask(request: Request) -> Response:
    form = {k: v.strip()[:500] for k, v in (await request.form(max_fields=60)).items() if isinstance(v, str)}
    return await run_in_threadpool(_answer, request, form)


@router.get("/research/{cohort}")
def again(
    request: Request, cohort: str, version: Annotated[int | None, Query(ge=1, le=1_000_000)] = None
) -> Response:
    """Run a saved cohort once more: the same definition over what is published now."""
    try:
        wanted = saved.get(cohort, version)
        report = cohorts.run(wanted, actor=request.state.person.user, purpose=_PURPOSE)
    except MedlakeError as error:
        if error.code == "E608":
            raise
        return _page(request, error)
    return _page(request, report=report, description=report["description"])
