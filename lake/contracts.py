"""The field dictionary: ODCS v3.1 contracts, read once. Nothing else in Medlake parses a contract.

From a contract come the Arrow schemas, the conform SQL, the dbt sources, the catalogue entry and the labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT, settings

CONTRACTS_DIR = PROJECT_ROOT / "ingestion" / "contracts"

_DUCK = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
}
_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}

#: What every silver row carries besides its contract's columns: who delivered it, when, and where it stood.
ENVELOPE: dict[str, str] = {
    "org_code": "VARCHAR",
    "data_date": "DATE",
    "source_file": "VARCHAR",
    "source_sheet": "VARCHAR",
    "source_line": "BIGINT",
    "batch_id": "VARCHAR",
    "raw_hash": "VARCHAR",
    "received_at": "TIMESTAMPTZ",
    "is_deleted": "BOOLEAN",
}
ENVELOPE_LABELS: dict[str, str] = {
    "org_code": "机构编码",
    "data_date": "交付日期",
    "source_file": "来源文件",
    "source_sheet": "来源工作表",
    "source_line": "来源行号",
    "batch_id": "批次号",
    "raw_hash": "原文指纹",
    "received_at": "接收时间",
    "is_deleted": "是否已删除",
}


@dataclass(frozen=True)
class Field:
    """One field of a table, described once for all its uses."""

    name: str
    physical_name: str
    type: str
    required: bool
    is_key: bool
    label_zh: str
    description: str
    unit: str
    code_system: str
    level: int
    fhir_path: str
    source_standard: str
    data_element: str
    national_grade: str = ""

    @property
    def duck_type(self) -> str:
        return _DUCK[self.type]


@dataclass(frozen=True)
class TableContract:
    """One table of a feed. ``key`` is the contract's key; ``full_key`` puts the institution first."""

    feed: str
    name: str
    label_zh: str
    description: str
    grain_zh: str
    source_standard: str
    level: int
    fields: tuple[Field, ...]
    national_grade: str = ""

    @property
    def key(self) -> list[str]:
        return [f.name for f in self.fields if f.is_key]

    @property
    def full_key(self) -> list[str]:
        return ["org_code", *self.key]

    @property
    def silver_columns(self) -> dict[str, str]:
        return {f.name: f.duck_type for f in self.fields} | ENVELOPE

    def field(self, name: str) -> Field:
        return next(f for f in self.fields if f.name == name)

    def silver_schema(self) -> pa.Schema:
        return pa.schema([pa.field(n, _ARROW[t]) for n, t in self.silver_columns.items()])

    def bronze_schema(self) -> pa.Schema:
        """All contract columns as received (text), the envelope, and ``_extra`` for unknown columns as JSON."""
        text = [pa.field(f.name, pa.string()) for f in self.fields]
        envelope = [pa.field(n, _ARROW[t]) for n, t in ENVELOPE.items()]
        return pa.schema([*text, *envelope, pa.field("_extra", pa.string())])


@dataclass(frozen=True)
class FeedContract:
    """One source: its tables, its version, its owner and how late it may be (hours)."""

    feed: str
    label_zh: str
    version: str
    domain: str
    description: str
    owner: str
    national_grade: str
    grace_hours: int
    tables: dict[str, TableContract]
    path: Path
    status: str = "active"


def _custom(node: dict[str, Any]) -> dict[str, Any]:
    return {p["property"]: p["value"] for p in node.get("customProperties", [])}


def _field(node: dict[str, Any], grade: str) -> Field:
    custom = _custom(node)
    return Field(
        name=node["name"],
        physical_name=node.get("physicalName", node["name"]),
        type=node["logicalType"],
        required=bool(node.get("required", False)),
        is_key=bool(node.get("primaryKey", False)),
        label_zh=custom["labelZh"],
        description=node.get("description", ""),
        unit=str(custom.get("unit", "")),
        code_system=str(custom.get("codeSystem", "")),
        level=int(custom["gbt39725Level"]),
        fhir_path=str(custom.get("fhirPath", "")),
        source_standard=str(custom.get("sourceStandard", "")),
        data_element=str(custom.get("dataElement", "")),
        national_grade=str(custom.get("nationalGrade", grade)),
    )


def _table(feed: str, node: dict[str, Any], grade: str) -> TableContract:
    custom = _custom(node)
    grade = str(custom.get("nationalGrade", grade))
    fields = tuple(_field(p, grade) for p in node["properties"])
    return TableContract(
        feed=feed,
        name=node["name"],
        label_zh=custom["labelZh"],
        description=node.get("description", ""),
        grain_zh=custom["grain"],
        source_standard=str(custom.get("sourceStandard", "")),
        level=int(custom["gbt39725Level"]),
        fields=fields,
        national_grade=grade,
    )


def load_contract(path: Path) -> FeedContract:
    """Read one contract file.

    Raises:
        MedlakeError: E101, the file is not YAML or lacks what a contract must have.
    """
    try:
        node = yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        custom = _custom(node)
        sla = {p["property"]: p["value"] for p in node.get("slaProperties", [])}
        members = node.get("team", {}).get("members", [])
        grade = str(custom.get("nationalGrade", ""))
        return FeedContract(
            feed=node["name"],
            label_zh=custom["labelZh"],
            version=node["version"],
            domain=node.get("domain", ""),
            description=node.get("description", {}).get("purpose", ""),
            owner=members[0]["username"] if members else "",
            national_grade=grade,
            grace_hours=int(sla.get("grace", 0)),
            tables={t["name"]: _table(node["name"], t, grade) for t in node["schema"]},
            path=path,
            status=str(node.get("status", "active")),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedlakeError("E101", place=path.name, detail=f"{type(error).__name__}: {error}") from error


def site_dir() -> Path:
    """Contracts of this installation alone: sources that only this site has."""
    return settings().home / "contracts"


@lru_cache(maxsize=256)
def _load(path: Path, _changed_ns: int) -> FeedContract:
    return load_contract(path)


@lru_cache(maxsize=8)
def _read(folders: tuple[Path, ...], _changed_ns: int) -> dict[str, FeedContract]:
    found: dict[str, FeedContract] = {}
    owner: dict[str, str] = {}
    for path in [p for folder in folders for p in sorted(folder.glob("*.odcs.yaml"))]:
        read = _load(path, path.stat().st_mtime_ns)
        taken = [t for t in read.tables if t in owner]
        if read.feed in found or taken:
            raise MedlakeError(
                "E101", place=path.name, detail=f"{read.feed}: {', '.join(taken) or 'feed'} given twice"
            )
        found[read.feed] = read
        owner |= dict.fromkeys(read.tables, read.feed)
    return found


def contracts() -> dict[str, FeedContract]:
    """All contracts by feed: those of the platform, then this site's own.

    Raises:
        MedlakeError: E101, one cannot be read, or gives a feed or table that another has.
    """
    own = site_dir()
    changed = own.stat().st_mtime_ns if own.is_dir() else 0
    return _read((CONTRACTS_DIR, own), changed)


def feeds() -> list[str]:
    """Names of all feeds."""
    return sorted(contracts())


def contract(feed: str) -> FeedContract:
    """The contract of one feed.

    Raises:
        MedlakeError: E102, there is none.
    """
    try:
        return contracts()[feed]
    except KeyError:
        raise MedlakeError("E102", feed=feed, known=", ".join(feeds())) from None


def table_contract(name: str) -> TableContract:
    """The contract of a silver table by its name (table names are unique over all feeds).

    Raises:
        KeyError: no feed has such a table.
    """
    for feed in contracts().values():
        if name in feed.tables:
            return feed.tables[name]
    raise KeyError(name)
