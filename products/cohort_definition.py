"""What a researcher's cohort definition may say. Whatever is not here cannot be asked."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lake.errors import MedlakeError
from products.export_template import explain
from products.reading import find_yaml, names_in

FOLDER = Path(__file__).with_name("cohorts")

#: ICD-10 of illnesses that research leaves out unless a person allows it: HIV, syphilis and other STD, psychoses,
#: induced abortion (reference/governance.md section 7, item 8).
SENSITIVE_ICD10 = ("B20", "B21", "B22", "B23", "B24", "Z21", *[f"A5{n}" for n in range(5)],
                   *[f"F2{n}" for n in range(10)], "O04")  # fmt: skip

Operator = Literal["<", "<=", ">", ">=", "between"]
Dimension = Literal["age_band", "sex", "county", "centre", "diabetes", "hypertension"]
Icd10 = Annotated[str, Field(pattern=r"^[A-Z][0-9]{1,2}(\.[0-9A-Zx+*]{0,5})?$|^[A-Z]$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Strict):
    """A closed interval; an end that is left out is open."""

    min: int | None = Field(None, ge=0, le=120)
    max: int | None = Field(None, ge=0, le=120)

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min > max")
        return self


class Period(_Strict):
    """Days before the data date, or dates; both ends are included."""

    within_days: int | None = Field(None, ge=1, le=3660)
    start: date | None = Field(None, alias="from")
    end: date | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _one_way(self) -> Period:
        if self.within_days is not None and (self.start or self.end):
            raise ValueError("within_days 与 from/to 只能选一种 / either within_days or from/to")
        return self


class Population(_Strict):
    """Who is looked at before any criterion. The living only, unless ``alive`` is false."""

    age: Range | None = None
    sex: list[Literal["1", "2"]] | None = None
    county: list[Annotated[str, Field(pattern=r"^[0-9]{6}$")]] | None = None
    org: list[Annotated[str, Field(pattern=r"^[A-Z][0-9]{3,9}$")]] | None = None
    org_level: list[Literal["0", "1", "2", "3"]] | None = None
    alive: bool = True


class Managed(_Strict):
    """An active card of a chronic disease; optionally whether the disease is under control."""

    managed: Literal["htn", "dm"]
    controlled: bool | None = None


class Lab(_Strict):
    """At least one numeric result that compares so. Results with a sign (``<0.1``) or another unit do not count."""

    class Test(_Strict):
        loinc: Annotated[list[Annotated[str, Field(pattern=r"^[0-9]{1,7}-[0-9]$")]], Field(min_length=1)]
        op: Operator
        value: float | None = None
        low: float | None = None
        high: float | None = None
        unit: Annotated[str, Field(min_length=1)]
        period: Period = Field(default_factory=lambda: Period.model_validate({}))

        @model_validator(mode="after")
        def _complete(self) -> Lab.Test:
            if self.op == "between":
                if self.low is None or self.high is None or self.value is not None or self.low > self.high:
                    raise ValueError("between 需要 low 与 high / between takes low and high")
            elif self.value is None or self.low is not None or self.high is not None:
                raise ValueError(f"{self.op} 需要 value / {self.op} takes value")
            return self

    lab: Test


class Encounter(_Strict):
    """At least so many encounters with a main diagnosis that begins so."""

    class Visit(_Strict):
        icd10: list[Icd10] | None = None
        class_code: list[Literal["AMB", "EMER", "IMP"]] | None = None
        at_least: int = Field(1, ge=1, le=1000)
        period: Period = Field(default_factory=lambda: Period.model_validate({}))

        @field_validator("icd10")
        @classmethod
        def _not_sensitive(cls, value: list[str] | None) -> list[str] | None:
            for prefix in value or []:
                if any(prefix.startswith(code) or code.startswith(prefix) for code in SENSITIVE_ICD10):
                    raise ValueError(
                        f"{prefix}: 敏感疾病默认不得检索 / sensitive illness, not open to research"
                    )
            return value

    encounter: Visit


class Drug(_Strict):
    """At least so many prescribed items of drugs whose code begins so, or whose name contains it."""

    class Item(_Strict):
        code: list[Annotated[str, Field(min_length=1, max_length=30)]] | None = None
        name: list[Annotated[str, Field(min_length=2, max_length=30)]] | None = None
        at_least: int = Field(1, ge=1, le=1000)
        period: Period = Field(default_factory=lambda: Period.model_validate({}))

        @model_validator(mode="after")
        def _one_way(self) -> Drug.Item:
            if (self.code is None) == (self.name is None):
                raise ValueError("code 与 name 必须且只能写一个 / exactly one of code and name")
            return self

    drug: Item


class Combined(_Strict):
    """Criteria together: all of them, any of them, or none of them. Exactly one of the three."""

    all: Annotated[list[Criterion], Field(min_length=1, max_length=20)] | None = None
    any: Annotated[list[Criterion], Field(min_length=1, max_length=20)] | None = None
    none: Annotated[list[Criterion], Field(min_length=1, max_length=20)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Combined:
        if sum(given is not None for given in (self.all, self.any, self.none)) != 1:
            raise ValueError("all、any、none 必须且只能写一个 / exactly one of all, any, none")
        return self


Criterion = Managed | Lab | Encounter | Drug | Combined
_KIND: dict[str, type[_Strict]] = {
    "managed": Managed,
    "lab": Lab,
    "encounter": Encounter,
    "drug": Drug,
    "all": Combined,
    "any": Combined,
    "none": Combined,
}


def _narrow(value: Any) -> Any:
    """Pick the kind of criterion by its key, so that an error names that kind and not all four."""
    if not isinstance(value, dict):
        return value
    kinds = [kind for key, kind in _KIND.items() if key in value]
    if len(set(kinds)) != 1:
        raise ValueError(f"条件须是其中之一 / a criterion is one of {list(_KIND)}")
    if kinds[0] is Combined:
        value = {
            k: [_narrow(v) for v in part] if isinstance(part, list) else part for k, part in value.items()
        }
    return kinds[0].model_validate(value)


class Definition(_Strict):
    """A cohort: who is looked at, what must hold, and by what the people are counted."""

    cohort: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title_zh: Annotated[str, Field(min_length=1, max_length=80)]
    population: Population = Field(default_factory=lambda: Population.model_validate({}))
    where: Combined
    group_by: Annotated[list[Dimension], Field(max_length=2)] = Field(default_factory=list)

    @field_validator("where", mode="before")
    @classmethod
    def _kinds(cls, value: Any) -> Any:
        return _narrow(value)

    @field_validator("group_by")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("重复的分组 / grouped by the same twice")
        return value

    @model_validator(mode="after")
    def _no_group_empty_by_definition(self) -> Definition:
        """A group that the definition itself makes empty is a known zero: it would protect nothing beside it."""
        diseases = set(_diseases(self.where))
        for dimension, disease in (("hypertension", "htn"), ("diabetes", "dm")):
            if dimension in self.group_by and disease in diseases:
                raise ValueError(
                    f"{dimension}: 条件已限定该病种，不能再按它分组 / already a criterion, cannot group by it"
                )
        if "centre" in self.group_by and self.population.org_level is not None:
            raise ValueError(
                "centre 与 org_level 不能同时使用 / group by centre or limit org_level, not both"
            )
        return self


def _diseases(criterion: Criterion) -> list[str]:
    """Diseases whose card a criterion asks for, at any depth."""
    if isinstance(criterion, Combined):
        parts = [*(criterion.all or []), *(criterion.any or []), *(criterion.none or [])]
        return [disease for part in parts for disease in _diseases(part)]
    return [criterion.managed] if isinstance(criterion, Managed) else []


def load(given: str | Path) -> Definition:
    """A definition by name or file.

    Raises:
        MedlakeError: E641 there is none; E640 it is not valid.
    """
    path = find_yaml(given, FOLDER)
    if path is None or (Path(given).is_file() and path.suffix not in (".yaml", ".yml")):
        raise MedlakeError("E641", place=str(given), name=Path(given).name, known=names_in(FOLDER))
    try:
        return Definition.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        raise MedlakeError("E640", place=path.name, detail=explain(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedlakeError("E640", place=path.name, detail=f"YAML: {type(error).__name__}") from error


def parse(node: Any, place: str) -> Definition:
    """A definition from plain data.

    Raises:
        MedlakeError: E640, it is not valid.
    """
    try:
        return Definition.model_validate(node)
    except ValidationError as error:
        raise MedlakeError("E640", place=place, detail=explain(error)) from error
