"""What a template says: a table of the lake, the fields that are ticked, how rows are chosen. Names only, no SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lake.errors import MedlakeError
from products.export_template import explain

FOLDER = Path(__file__).with_name("templates")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Source = Literal["his", "public_health", "lis", "insurance", "referral"]

#: Fields of a resident that may be ticked, as the identity index settled them.
PERSON_FIELDS = ("name", "sex_code", "birth_date", "id_no", "phone", "addr_detail", "region_code", "empi_id")
ORG_FIELDS = ("org_code", "org_name", "org_short_name", "org_level_code")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Condition(_Strict):
    """Rows whose field is one of these, begins with one of these, or is (not) there."""

    field: str
    any_of: list[str | bool | int] | None = None
    starts_with: list[str] | None = None
    is_known: bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Condition:
        if sum(v is not None for v in (self.any_of, self.starts_with, self.is_known)) != 1:
            raise ValueError("any_of、starts_with、is_known 必须且只能写一个 / exactly one of the three")
        return self


class Join(_Strict):
    """One more table, its newest row for each key: so a join never makes two rows of one."""

    name: Name
    table: Name
    keys: Annotated[list[Name], Field(min_length=1, max_length=3)]
    newest: Name


class Column(_Strict):
    """One ticked field, ``field`` or ``place.field``; its header comes from the field dictionary unless given."""

    field: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]*\.)?[a-z][a-z0-9_]*$")]
    label_zh: Annotated[str, Field(min_length=1, max_length=60)] | None = None

    @property
    def place(self) -> str:
        return self.field.partition(".")[0] if "." in self.field else "row"

    @property
    def name(self) -> str:
        return self.field.rpartition(".")[2]


class Template(_Strict):
    """One export. ``table``: of silver; ``record``: (source system, field) by which a row belongs to a resident;
    ``open_until``: a day field, rows that ended by the last day are left out."""

    template: Name
    title_zh: Annotated[str, Field(min_length=1, max_length=60)]
    table: Name
    source: Source | None = None
    record: Name | None = None
    joins: Annotated[list[Join], Field(max_length=3)] = Field(default_factory=list)
    columns: Annotated[list[Column], Field(min_length=1, max_length=200)]
    period: Name | None = None
    open_until: Name | None = None
    conditions: Annotated[list[Condition], Field(max_length=20)] = Field(default_factory=list)
    sort: Annotated[list[Name], Field(max_length=5)] = Field(default_factory=list)
    purpose: Name
    recipient: Annotated[str, Field(max_length=100)] = ""

    @field_validator("columns", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return (
            [{"field": c} if isinstance(c, str) else c for c in value] if isinstance(value, list) else value
        )

    @model_validator(mode="after")
    def _complete(self) -> Template:
        fields = [c.field for c in self.columns]
        if twice := sorted({f for f in fields if fields.count(f) > 1}):
            raise ValueError(f"重复的列 / ticked twice: {twice}")
        places = {"row", "person", "org", *[j.name for j in self.joins]}
        for column in self.columns:
            if column.place not in places:
                raise ValueError(f"{column.field}: 没有这个来源 / no such place, {sorted(places)}")
            allowed = {"person": PERSON_FIELDS, "org": ORG_FIELDS}.get(column.place)
            if allowed and column.name not in allowed:
                raise ValueError(f"{column.field}: {column.place} 只有 / has only {list(allowed)}")
        if any(c.place == "person" for c in self.columns) and not (self.source and self.record):
            raise ValueError("person 字段需要 source 与 record / fields of a person need source and record")
        return self


def parse(node: Any, place: str) -> Template:
    """A template from plain data.

    Raises:
        MedlakeError: E613 with what is wrong.
    """
    try:
        return Template.model_validate(node)
    except ValidationError as error:
        raise MedlakeError("E613", place=place, detail=explain(error)) from error


def shipped() -> dict[str, Path]:
    """Name -> file of the templates of this release."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def read(path: Path) -> Template:
    """A template from a file (raises as :func:`parse`)."""
    try:
        node = yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedlakeError("E613", place=path.name, detail=type(error).__name__) from error
    return parse(node, path.name)
