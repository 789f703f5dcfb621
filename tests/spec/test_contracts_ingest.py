"""Every table of every contract takes what it describes and refuses what it does not: one delivery a feed.

Three good records (types, codes and keys as the contract says), one without its key, one with a word where a number or
date is due.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import ingestion
from ingestion import units
from ingestion.contracting.value_sets import codes, has_list
from lake import tables
from lake.contracts import Field, TableContract, contract, feeds
from tests.ingestion_world import adt, content, drop

DAY = date(2026, 11, 18)
GOOD = 3

#: Feeds whose files have a form of their own.
OWN_FORM = {"hl7v2", "fhir", "correction"}

_TYPED = ("integer", "number", "date", "timestamp")


@cache
def listed(code_system: str) -> list[str]:
    """The codes of a system, none where its list is not here."""
    return [r["code"] for r in codes(code_system) if r["code"]] if has_list(code_system) else []


def value(field: Field, number: int) -> str:
    """A valid text for a field; keys differ from record to record."""
    if found := listed(field.code_system):
        return found[number % len(found)]
    texts = {
        "integer": str(number + 1),
        "number": f"{number + 1}.5",
        "boolean": "1" if number % 2 else "0",
        "date": f"2026-10-{number + 1:02d}",
        "timestamp": f"2026-11-{number + 1:02d} 08:30:00",
    }
    return texts.get(field.type, f"{field.name}-{number}")


def records(table: TableContract) -> tuple[list[Field], list[dict[str, str]], int]:
    """Fields that a source writes, its records, and how many of them the contract refuses."""
    fields = [f for f in table.fields if f.name not in units.derived_names()]
    good = [{f.name: value(f, n) for f in fields} for n in range(GOOD)]
    for n, row in enumerate(good):  # a code of few values does not tell keys apart
        for f in fields:
            if f.is_key and f.type == "string" and not f.code_system:
                row[f.name] = f"K{n}"
    key = next(f for f in fields if f.is_key)
    bad = [good[0] | {key.name: ""}]
    typed = next((f for f in fields if f.type in _TYPED and not f.is_key), None)
    if typed is not None:
        changed = {f.name: "K9" for f in fields if f.is_key and f.type == "string" and not f.code_system}
        bad.append(good[0] | changed | {typed.name: "一盒半"})
    return fields, good + bad, len(bad)


def as_csv(fields: list[Field], rows: list[dict[str, str]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f.physical_name for f in fields])
    writer.writerows([row[f.name] for f in fields] for row in rows)
    return out.getvalue().encode()


def silver(table: TableContract) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.read(f"silver/{table.name}").to_table().to_pylist()
    return found


@pytest.mark.parametrize("feed", [f for f in feeds() if f not in OWN_FORM])
def test_every_table_of_a_feed(feed: str, lake_home: Path) -> None:
    made = {}
    for table in contract(feed).tables.values():
        fields, rows, bad = records(table)
        drop(feed, "H101", f"{table.name}_20261118.csv", as_csv(fields, rows), DAY)
        made[table.name] = (fields, rows, bad)
    result = ingestion.ingest_feed(feed, DAY)
    assert result["failed_files"] == 0
    for table in contract(feed).tables.values():
        fields, rows, bad = made[table.name]
        assert result["tables"][table.name] == {
            "received": GOOD + bad, "loaded": GOOD, "duplicate": 0, "quarantined": bad,
        }, table.name  # fmt: skip
        assert tables.column_types(f"silver/{table.name}") == table.silver_columns
        for row in silver(table):
            empty = [f.name for f in fields if row[f.name] is None]
            assert not empty, (table.name, empty)
            for f in fields:
                if found := listed(f.code_system):
                    assert row[f.name] in found, (table.name, f.name)
        refused = {r[0] for r in content(f"quarantine/{feed}/{table.name}", "error_code")}
        assert refused == ({"E210", "E211"} if bad > 1 else {"E210"}), table.name
    unmapped = content("ops/unmapped_code", "code_system")
    assert not [system for (system,) in unmapped if listed(system)]


def test_hl7_messages_whole(lake_home: Path) -> None:
    drop("hl7v2", "H001", "a_1.hl7", (adt("M1", "P1") + adt("", "P2")).encode(), DAY)
    counts = ingestion.ingest_feed("hl7v2", DAY)["tables"]["hl7v2_message"]
    assert (counts["received"], counts["loaded"], counts["quarantined"]) == (2, 1, 1)
    (message,) = silver(contract("hl7v2").tables["hl7v2_message"])
    assert message["message_control_id"] == "M1" and message["segment_count"] > 1


def test_fhir_resources_whole(lake_home: Path) -> None:
    lines = [{"resourceType": "Basic", "id": "a"}, {"resourceType": "Basic"}]
    drop("fhir", "H001", "x.ndjson", "\n".join(json.dumps(line) for line in lines).encode(), DAY)
    counts = ingestion.ingest_feed("fhir", DAY)["tables"]["fhir_resource"]
    assert (counts["received"], counts["loaded"], counts["quarantined"]) == (2, 1, 1)
    (resource,) = silver(contract("fhir").tables["fhir_resource"])
    assert json.loads(resource["content"]) == lines[0]
