"""The first contract of a new source, from samples of what it delivers: a draft that ingests them at once.

It is written among this site's own contracts (``<home>/contracts``). A person then corrects labels, key, units and
levels, and raises the status to ``active``; a source that others have too moves to ``ingestion/contracts``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ingestion.contracting import guess, sample, wording
from ingestion.contracting.guess import Guess
from lake import contracts as dictionary
from lake.errors import MedlakeError
from lake.settings import settings

_NAME = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")
_PHYSICAL = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
_GRADE = "一般数据"


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, as the other contracts have them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _custom(**values: Any) -> list[dict[str, Any]]:
    return [{"property": k, "value": v} for k, v in values.items() if v not in ("", None)]


def _field(g: Guess, position: int) -> dict[str, Any]:
    node: dict[str, Any] = {
        "name": g.name,
        "physicalName": g.source_name,
        "logicalType": g.type,
        "physicalType": _PHYSICAL[g.type],
        "description": f"{g.label_zh}, as field {g.known} of the dictionary"
        if g.known
        else f"{g.label_zh}, from the sample",
    }
    if g.is_key:
        node |= {"required": True, "primaryKey": True, "primaryKeyPosition": position}
    return node | {
        "classification": f"level-{g.level}",
        "customProperties": _custom(
            labelZh=g.label_zh,
            unit=g.unit,
            codeSystem=g.code_system,
            gbt39725Level=g.level,
            fhirPath=g.fhir_path,
            dataElement=g.data_element,
        ),
    }


def _table(name: str, label: str, found: list[Guess]) -> dict[str, Any]:
    keys = [g.name for g in found if g.is_key]
    return {
        "name": name,
        "physicalName": name,
        "logicalType": "object",
        "physicalType": "table",
        "description": f"Draft of {label}: one row per {' and '.join(keys)}.",
        "customProperties": _custom(
            labelZh=label,
            grain=f"一条{label}（{'、'.join(g.label_zh for g in found if g.is_key)}唯一）",
            gbt39725Level=max(g.level for g in found),
            nationalGrade=_GRADE,
        ),
        "properties": [_field(g, keys.index(g.name) + 1 if g.is_key else 0) for g in found],
    }


def _table_name(feed: str, stem: str, taken: set[str]) -> str:
    """A table's name from its file's; with the feed before it where the name is another's."""
    name = wording.english(stem)
    if name in taken:
        name = f"{feed}_{name}"
    if name in taken or not _NAME.match(name):
        raise MedlakeError("E234", place=stem, name=name, detail="table")
    return name


def scaffold(feed: str, samples: Sequence[Path], *, label_zh: str, write: bool) -> dict[str, Any]:
    """See ``ingestion.contracting.scaffold``; returns feed, path, tables and what was guessed, a row a field."""
    if not _NAME.match(feed) or feed in dictionary.contracts():
        raise MedlakeError("E234", place=feed, name=feed, detail="feed")
    if not samples:
        raise MedlakeError("E233", detail="no file")
    taken = {t for c in dictionary.contracts().values() for t in c.tables}
    nodes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for path in samples:
        read = sample.read(path)
        name = _table_name(feed, read.name, taken)
        taken.add(name)
        found = guess.guesses(read)
        nodes.append(_table(name, read.name, found))
        rows += [
            {"table": name, "field": g.name, "source_name": g.source_name, "type": g.type, "key": g.is_key, "unit": g.unit,
             "code_system": g.code_system, "level": g.level, "known": g.known}
            for g in found
        ]  # fmt: skip
    node = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"medlake.{feed}",
        "name": feed,
        "version": "0.1.0",
        "status": "draft",
        "domain": "local",
        "description": {"purpose": f"Draft from {', '.join(p.name for p in samples)}."},
        "team": {"name": "data-platform", "members": [{"username": "data-platform", "role": "owner"}]},
        "slaProperties": [
            {"property": "latency", "value": 1, "unit": "d"},
            {"property": "grace", "value": 96, "unit": "h"},
        ],
        "customProperties": _custom(labelZh=label_zh or feed, nationalGrade=_GRADE),
        "schema": nodes,
    }
    target = dictionary.site_dir() / f"{feed}.odcs.yaml"
    if write:
        settings().folder("contracts")
        draft = target.with_name(f".{target.name}.part")
        draft.write_text(
            yaml.dump(node, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120), "utf-8"
        )
        draft.replace(target)
    return {
        "feed": feed,
        "path": str(target),
        "tables": {n["name"]: len(n["properties"]) for n in nodes},
        "fields": rows,
    }
