"""From a door's journal to the fast lane: the few tables whose content cannot wait, as rows under contract names.

Records are taken apart one by one here: a stretch of the journal is about a megabyte, and only rows of these tables
are looked into. The batch finds again whatever this passes over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

from ingestion.iot.rules import rules
from ingestion.readers.json_rows import spellings
from ingestion.receive.segment import Record
from lake import registry
from lake.contracts import table_contract

#: What the fast lane looks at.
TABLES = frozenset({"lab_result", "critical_value_event", "cold_chain_reading", "vital_reading"})

#: Fields of a lab result that stand in its report; an upload may bring them along.
_BESIDE = {"lab_result": ("lab_report", ("report_id", "patient_local_id", "requesting_org_code"))}


@lru_cache(maxsize=16)
def _names(table: str) -> dict[str, str]:
    """Key in an object -> contract field."""
    found: dict[str, str] = {}
    beside, wanted = _BESIDE.get(table, (table, ()))
    for name, only in ((table, None), (beside, wanted)):
        for field in table_contract(name).fields:
            if only is None or field.name in only:
                for key in spellings(field):
                    found.setdefault(key, field.name)
    return found


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def row_of(table: str, record: Mapping[str, Any]) -> dict[str, str | None]:
    """An object as a row under the contract's field names, values as text."""
    names = _names(table)
    found: dict[str, str | None] = {}
    for key, value in record.items():
        if key in names and found.get(names[key]) is None:
            found[names[key]] = _as_text(value)
    return found


def _hand_over(found: Iterator[tuple[str, str, datetime, dict[str, str | None]]]) -> None:
    """Offer rows, those that came one after the other from one institution for one table together."""
    from ingestion import fastlane

    for (table, org, at), rows in groupby(found, key=lambda f: f[:3]):
        fastlane.offer(table, [r[3] for r in rows], org, at)


def uploads(records: list[Record]) -> None:
    """Records of the HTTP door."""

    def rows() -> Iterator[tuple[str, str, datetime, dict[str, str | None]]]:
        for record in records:
            outer = json.loads(record.payload)
            if outer["table"] in TABLES:
                row = row_of(outer["table"], json.loads(outer["record"]))
                yield outer["table"], record.org_code, record.received_at, row

    found = list(rows())
    if found:
        _hand_over(iter(found))


def _objects(payload: str) -> list[Any]:
    try:
        node = json.loads(payload)
    except ValueError:  # the batch refuses it with its reason
        return []
    return [o for o in (node if isinstance(node, list) else [node]) if isinstance(o, dict)]


def messages(records: list[Record]) -> None:
    """Records of the MQTT door."""
    given, known = rules(), registry.org_codes()
    found: list[tuple[str, str, datetime, dict[str, str | None]]] = []
    for record in records:
        outer = json.loads(record.payload)
        parts = outer["topic"].split("/")
        table = given.table_of(parts[2], parts[4]) if len(parts) == 5 else None
        if table not in TABLES or parts[1] not in known:
            continue
        for one in _objects(outer.get("payload", "")):
            row = row_of(table, one)
            name = given.device_field.get(table, "device_id")
            row[name] = row.get(name) or parts[3]
            found.append((table, parts[1], record.received_at, row))
    if found:
        _hand_over(iter(found))
