"""What an officer's template says: which table, which fields are ticked, how rows are chosen and sorted."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lake import registry
from lake.errors import MedlakeError
from products.masks import IDENTIFYING, Mode
from products.reading import find_yaml, names_in

FOLDER = Path(__file__).with_name("exports")

#: Where a field comes from: the template's own gold table, the institution it belongs to, the centre that answers
#: for that institution, the resident without identifiers, or the resident's identifiers (silver, under policy).
PLACES = ("row", "org", "centre", "person", "identity")

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _split(value: str) -> tuple[str, str]:
    place, dot, field = value.rpartition(".")
    place = place if dot else "row"
    if place not in PLACES or not _NAME.match(field):
        raise ValueError(
            f"{value}: 字段应写作 字段名 或 {'|'.join(PLACES[1:])}.字段名 / not a field of a known place"
        )
    if place == "identity" and field not in IDENTIFYING:
        raise ValueError(
            f"{value}: 可导出的标识只有 / identifiers that may be exported: {sorted(IDENTIFYING)}"
        )
    return place, field


class Column(_Strict):
    """One ticked field. Its header comes from the contracts and dbt unless the template says otherwise."""

    field: str
    label_zh: str | None = None
    #: code system whose names stand in the cells; None: as the catalogue says
    codes: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] | None = None

    @field_validator("field")
    @classmethod
    def _known_place(cls, value: str) -> str:
        _split(value)
        return value

    @property
    def place(self) -> str:
        return _split(self.field)[0]

    @property
    def name(self) -> str:
        return _split(self.field)[1]


class Period(_Strict):
    """Rows whose date lies in a period; ``from`` and ``to`` are included and may be left out."""

    field: Annotated[str, Field(pattern=_NAME.pattern)]
    start: date | None = Field(None, alias="from")
    end: date | None = Field(None, alias="to")


class Template(_Strict):
    """An export template. ``identifiers`` says how the ``identity.`` fields leave: full, masked, none."""

    template: Annotated[str, Field(pattern=_NAME.pattern)]
    title_zh: Annotated[str, Field(min_length=1, max_length=60)]
    product: str
    table: Annotated[str, Field(pattern=_NAME.pattern)]
    identifiers: Mode = "masked"
    columns: Annotated[list[Column], Field(min_length=1, max_length=200)]
    org_field: Annotated[str, Field(pattern=_NAME.pattern)] = "org_code"
    period: Period | None = None
    status: dict[Annotated[str, Field(pattern=_NAME.pattern)], list[bool | int | str]] = Field(
        default_factory=dict
    )
    sort: list[str] = Field(default_factory=list)

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return (
            [{"field": c} if isinstance(c, str) else c for c in value] if isinstance(value, list) else value
        )

    @field_validator("product")
    @classmethod
    def _registered(cls, value: str) -> str:
        known = [p.product for p in registry.products()]
        if value not in known:
            raise ValueError(f"{value}: 未登记的数据产品 / not a registered product; {known}")
        return value

    @field_validator("sort")
    @classmethod
    def _sortable(cls, value: list[str]) -> list[str]:
        if identifying := [f for f in value if _split(f)[0] == "identity"]:
            raise ValueError(f"{identifying}: 不能按标识排序 / sorting by an identifier would tell its order")
        return value

    @model_validator(mode="after")
    def _each_once(self) -> Template:
        fields = [c.field for c in self.columns]
        if twice := sorted({f for f in fields if fields.count(f) > 1}):
            raise ValueError(f"重复的列 / ticked twice: {twice}")
        return self

    def with_identifiers(self, mode: str) -> Template:
        """The same template with another way for identifiers to leave.

        Raises:
            MedlakeError: E620, there is no such way.
        """
        try:
            return Template.model_validate(self.model_dump(by_alias=True) | {"identifiers": mode})
        except ValidationError as error:
            raise MedlakeError("E620", place=self.template, detail=explain(error)) from error


def explain(error: ValidationError) -> str:
    """A validation error as one line that names each place."""
    return "; ".join(
        f"{'.'.join(str(p) for p in e['loc']) or '*'}: {e['msg']}" for e in error.errors(include_url=False)
    )


def load(given: str | Path) -> Template:
    """A template by name or file.

    Raises:
        MedlakeError: E621 there is none; E620 it is not valid.
    """
    path = find_yaml(given, FOLDER)
    if path is None:
        raise MedlakeError("E621", place=str(given), template=Path(given).name, known=names_in(FOLDER))
    try:
        return Template.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        raise MedlakeError("E620", place=path.name, detail=explain(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedlakeError("E620", place=path.name, detail=f"YAML: {type(error).__name__}") from error
