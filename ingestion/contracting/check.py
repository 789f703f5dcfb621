"""What a contract must be besides well-formed: complete, of one mind with the others, true to its lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from ingestion.contracting.value_sets import value_sets
from lake.contracts import ENVELOPE, FeedContract, Field, TableContract, contract, contracts
from lake.settings import settings

CUSTOM = frozenset(
    "labelZh unit codeSystem gbt39725Level fhirPath sourceStandard dataElement nationalGrade grain".split()
)
SLA = frozenset({"latency", "grace"})
GRADES = ("一般数据", "重要数据", "核心数据")
TYPES = ("string", "integer", "number", "boolean", "date", "timestamp")

_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
_DATA_ELEMENT = re.compile(r"^DE\d{2}\.\d{2}\.\d{3}\.\d{2}$")
_VERSION = re.compile(r"^\d+\.\d+\.\d+$")
_FOLD = re.compile(r"[\s\u3000]+")


def _schema() -> dict[str, Any] | None:
    """The standard's own JSON schema, where the installation has it."""
    path = settings().standards_dir / "odcs" / "odcs-json-schema-v3.1.0.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _against_standard(feed: FeedContract, node: dict[str, Any]) -> Iterator[str]:
    schema = _schema()
    if schema is None:
        from open_data_contract_standard.model import OpenDataContractStandard

        try:
            OpenDataContractStandard.model_validate(node)
        except ValueError as error:  # pydantic's ValidationError is one
            yield f"{feed.feed}: ODCS v3.1: {error}"
        return
    import jsonschema

    for found in jsonschema.Draft201909Validator(schema).iter_errors(node):
        yield f"{feed.feed}: ODCS v3.1: {'/'.join(map(str, found.absolute_path))}: {found.message}"


def _properties(feed: FeedContract, node: Any) -> Iterator[str]:
    """Custom properties that nobody reads."""
    if isinstance(node, dict):
        for p in node.get("customProperties", []):
            if p["property"] not in CUSTOM:
                yield f"{feed.feed}: customProperties: {p['property']}"
        for value in node.values():
            yield from _properties(feed, value)
    elif isinstance(node, list):
        for value in node:
            yield from _properties(feed, value)


def _field(place: str, f: Field) -> Iterator[str]:
    if not _NAME.match(f.name):
        yield f"{place}: name"
    if f.name in ENVELOPE:
        yield f"{place}: name of the envelope"
    if not f.label_zh or not f.description:
        yield f"{place}: label or description"
    if not 1 <= f.level <= 5:
        yield f"{place}: gbt39725Level {f.level}"
    if f.national_grade not in GRADES:
        yield f"{place}: nationalGrade {f.national_grade}"
    if f.is_key and not f.required:
        yield f"{place}: key but not required"
    if f.code_system and f.code_system not in value_sets():
        yield f"{place}: codeSystem {f.code_system} is not in dbt/seeds/value_set.csv"
    if f.data_element and not _DATA_ELEMENT.match(f.data_element):
        yield f"{place}: dataElement {f.data_element}"
    says = {"_at": ("timestamp",), "_on": ("date", "string")}.get(f.name[-3:])  # several dates are text
    if says and f.type not in says:
        yield f"{place}: name says another type than {f.type}"
    if f.name.startswith(("is_", "has_")) and f.type != "boolean":
        yield f"{place}: name says boolean"


def _table(feed: FeedContract, t: TableContract) -> Iterator[str]:
    place = f"{feed.feed}.{t.name}"
    if not (t.key and t.grain_zh and t.label_zh and t.description):
        yield f"{place}: key, grain, label or description"
    if t.level != max(f.level for f in t.fields):
        yield f"{place}: gbt39725Level is not that of its fields"
    if t.national_grade not in GRADES:
        yield f"{place}: nationalGrade {t.national_grade}"
    for spelling in ("name", "physical_name", "label_zh"):
        folded = [_FOLD.sub("", getattr(f, spelling)).upper() for f in t.fields]
        for twice in sorted({x for x in folded if folded.count(x) > 1}):
            yield f"{place}: {spelling} {twice} twice"
    for f in t.fields:
        yield from _field(f"{place}.{f.name}", f)


def _feed(feed: FeedContract) -> Iterator[str]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    node = yaml.load(feed.path.read_text("utf-8"), Loader=loader)
    yield from _against_standard(feed, node)
    yield from _properties(feed, node)
    if not _VERSION.match(feed.version):
        yield f"{feed.feed}: version {feed.version}"
    if feed.path.name != f"{feed.feed}.odcs.yaml":
        yield f"{feed.feed}: file {feed.path.name}"
    if not (feed.owner and feed.domain and feed.description and feed.grace_hours > 0):
        yield f"{feed.feed}: owner, domain, purpose or grace"
    if feed.national_grade not in GRADES:
        yield f"{feed.feed}: nationalGrade {feed.national_grade}"
    elif any(GRADES.index(t.national_grade) > GRADES.index(feed.national_grade) for t in feed.tables.values()
             if t.national_grade in GRADES):  # fmt: skip
        yield f"{feed.feed}: nationalGrade is below that of a table"
    for table in feed.tables.values():
        yield from _table(feed, table)


def _together() -> Iterator[str]:
    """What must agree over all feeds: a table has one feed, a field name has one type."""
    tables: dict[str, str] = {}
    types: dict[str, tuple[str, str]] = {}
    for feed in contracts().values():
        for table in feed.tables.values():
            if (other := tables.setdefault(table.name, feed.feed)) != feed.feed:
                yield f"{feed.feed}.{table.name}: table of {other} too"
            for f in table.fields:
                place = f"{feed.feed}.{table.name}.{f.name}"
                kind, where = types.setdefault(f.name, (f.type, place))
                if kind != f.type:
                    yield f"{place}: {f.type}, but {kind} in {where}"


def problems(feed: str | None = None) -> list[str]:
    """See ``ingestion.contracting.validate``."""
    wanted = [contract(feed)] if feed else list(contracts().values())
    found = [text for c in wanted for text in _feed(c)]
    together = [t for t in _together() if feed is None or t.startswith(f"{feed}.")]
    return found + together
