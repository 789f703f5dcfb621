"""The catalogue's own view of a table and a field, whichever place describes it: contract, derived table or dbt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lake.contracts import ENVELOPE, ENVELOPE_LABELS, Field, contracts

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class FieldInfo:
    """A field of an asset. ``type`` is DuckDB's name; ``level`` is GB/T 39725-2020, 1 to 5."""

    name: str
    type: str
    label_zh: str
    description: str
    level: int
    unit: str = ""
    code_system: str = ""
    required: bool = False
    is_key: bool = False
    fhir_path: str = ""
    source_standard: str = ""


@dataclass(frozen=True)
class TableInfo:
    """A table of silver, quality or ops; ``asset_id`` is ``schema.table``, ``lake_name`` its Delta name."""

    asset_id: str
    label_zh: str
    description: str
    grain_zh: str
    owner: str
    level: int
    domain: str
    national_grade: str
    feed: str
    source_standard: str
    fields: tuple[FieldInfo, ...]

    @property
    def schema(self) -> str:
        return self.asset_id.split(".")[0]

    @property
    def name(self) -> str:
        return self.asset_id.split(".")[1]

    @property
    def lake_name(self) -> str:
        return self.asset_id.replace(".", "/")


def _contract_field(field: Field, standard: str) -> FieldInfo:
    return FieldInfo(
        name=field.name,
        type=field.duck_type,
        label_zh=field.label_zh,
        description=field.description,
        level=field.level,
        unit=field.unit,
        code_system=field.code_system,
        required=field.required,
        is_key=field.is_key,
        fhir_path=field.fhir_path,
        source_standard=field.source_standard or standard,
    )


def _envelope() -> tuple[FieldInfo, ...]:
    return tuple(
        FieldInfo(
            name,
            kind,
            ENVELOPE_LABELS[name],
            "Envelope: where the record came from",
            1,
            is_key=name == "org_code",
        )
        for name, kind in ENVELOPE.items()
    )


def _derived(name: str, node: dict[str, Any]) -> TableInfo:
    fields = tuple(
        FieldInfo(
            name=f["name"],
            type=f["type"],
            label_zh=f["label_zh"],
            description=str(f["description"]),
            level=f["level"],
            unit=f.get("unit", ""),
            code_system=f.get("code_system", ""),
            required=f["name"] in node["key"],
            is_key=f["name"] in node["key"],
        )
        for f in node["fields"]
    )
    return TableInfo(
        asset_id=name.replace("/", "."),
        label_zh=node["label_zh"],
        description=node["description"],
        grain_zh=node["grain_zh"],
        owner=node["owner"],
        level=node["level"],
        domain=node["owner"],
        national_grade="一般数据",
        feed="",
        source_standard="",
        fields=fields,
    )


def _described(file: str) -> dict[str, TableInfo]:
    found = (_derived(n, node) for n, node in yaml.safe_load((_HERE / file).read_text("utf-8")).items())
    return {info.asset_id: info for info in found}


@lru_cache(maxsize=1)
def source_tables() -> dict[str, TableInfo]:
    """Every table that building may read, by asset id: all contracts' silver tables and the derived ones."""
    found: dict[str, TableInfo] = {}
    for feed in contracts().values():
        for table in feed.tables.values():
            fields = tuple(_contract_field(f, table.source_standard) for f in table.fields) + _envelope()
            found[f"silver.{table.name}"] = TableInfo(
                asset_id=f"silver.{table.name}",
                label_zh=table.label_zh,
                description=table.description,
                grain_zh=table.grain_zh,
                owner=feed.owner,
                level=table.level,
                domain=feed.domain,
                national_grade=table.national_grade,
                feed=feed.feed,
                source_standard=table.source_standard,
                fields=fields,
            )
    return found | _described("derived_tables.yaml")


@lru_cache(maxsize=1)
def own_tables() -> dict[str, TableInfo]:
    """The catalogue's own tables, by asset id."""
    return {a: replace(t, domain="catalog") for a, t in _described("own_tables.yaml").items()}


def field_levels() -> dict[str, int]:
    """The highest level that any source gives to a field name: what gold must not carry is level 4 and above."""
    levels: dict[str, int] = {}
    for table in source_tables().values():
        for field in table.fields:
            levels[field.name] = max(levels.get(field.name, 0), field.level)
    return levels
