"""Quarantine: what the contract or a reader refuses, each record with its number, place, reason and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pyarrow as pa

from ingestion.conform import TYPE_NAMES
from ingestion.readers.base import RAW_LIMIT, Reject
from lake.contracts import TableContract
from lake.errors import MedlakeError

_TEXTS = ("reason_zh", "reason_en", "remedy_zh", "remedy_en")

#: Columns of every ``quarantine/<feed>/<table>``; ``errors`` lists all findings, ``error_code`` is the first.
SCHEMA = pa.schema(
    [
        *[(n, pa.string()) for n in ("feed", "table_name", "org_code", "source_file", "source_sheet")],
        ("source_line", pa.int64()),
        *[(n, pa.string()) for n in ("place", "error_code", "errors", "field", *_TEXTS, "raw", "raw_hash")],
        ("data_date", pa.date32()),
        ("batch_id", pa.string()),
        ("received_at", pa.timestamp("us", tz="UTC")),
    ]
)

#: What ``rejects`` gives; the batch's own columns come when it is applied.
REJECT_SCHEMA = pa.schema([f for f in SCHEMA if f.name not in ("data_date", "batch_id", "received_at")])


def _texts(error: MedlakeError) -> dict[str, str]:
    return {
        "reason_zh": error.zh,
        "reason_en": error.en,
        "remedy_zh": error.remedy_zh,
        "remedy_en": error.remedy_en,
    }


def place_text(source_file: str, sheet: str | None, line: int | None, finer: str = "") -> str:
    """``file!sheet:line`` and, where known, the segment or tag."""
    where = source_file + (f"!{sheet}" if sheet else "") + (f":{line}" if line else "")
    return f"{where} {finer}".rstrip()


def rejects(feed: str, found: list[Reject], default_org: str) -> pa.Table:
    """Rejects as quarantine rows. The loop is over rejected records only."""
    rows: list[dict[str, Any]] = []
    for r in found:
        where = place_text(r.file.source_file, r.sheet, r.line, r.place)
        error = MedlakeError(r.code, place=where, **({"feed": feed} | dict(r.context)))
        rows.append(
            _texts(error)
            | {
                "feed": feed,
                "table_name": r.table,
                "org_code": reject_org(r, default_org),
                "source_file": r.file.source_file,
                "source_sheet": r.sheet,
                "source_line": r.line,
                "place": where,
                "error_code": r.code,
                "errors": r.code,
                "field": None,
                "raw": r.raw[:RAW_LIMIT],
                "raw_hash": r.file.sha256 if not r.raw else None,
            }
        )
    return pa.Table.from_pylist(rows, REJECT_SCHEMA)


def reject_org(reject: Reject, default_org: str) -> str:
    return reject.file.org_code or reject.org_code or default_org


def reasons(table: TableContract, found: list[str], places: Mapping[str, str]) -> pa.Table:
    """The texts of conform errors: one row per ``<number>:<field>`` and whether the file has places of its own."""
    rows: list[dict[str, Any]] = []
    for err, own in product(found, (False, True)):
        code, _, name = err.partition(":")
        f = table.field(name)
        own_place = places.get(f"{table.name}.{name}") or places.get(name, f.physical_name)
        source = own_place if own else f.physical_name
        type_zh, type_en = TYPE_NAMES.get(f.type, ("文本", "text"))
        error = MedlakeError(
            code, label=f.label_zh, field=name, source=source, type_zh=type_zh, type_en=type_en
        )
        row = {"err": err, "own_places": own, "error_code": code, "field": name, "source_field": source}
        rows.append(row | _texts(error))
    names = [(n, pa.string()) for n in ("err", "error_code", "field", "source_field", *_TEXTS)]
    return pa.Table.from_pylist(rows, pa.schema([*names, ("own_places", pa.bool_())]))
