"""FHIR R4: Bundles (JSON) and NDJSON become one row per resource, the resource kept whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, text_array, why
from ingestion.readers.ndjson import utf8_lines, windows
from ingestion.readers.text import shown
from lake.contracts import TableContract

_MARK = "\ue000"  # private use: stands around a decimal number while JSON passes through Python
_NAMES = (
    "resource_type",
    "resource_id",
    "version_id",
    "last_updated_at",
    "subject_reference",
    "profile",
    "content",
)


def _load(text: str) -> Any:
    """JSON with decimals kept as written (FHIR: 1.10 is not 1.1)."""
    return json.loads(text, parse_float=lambda number: _MARK + number + _MARK)


def _dump(resource: Any) -> str:
    text = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _row(resource: dict[str, Any]) -> tuple[str | None, ...]:
    found = resource.get("meta")
    meta: dict[str, Any] = found if isinstance(found, dict) else {}
    subject = resource.get("subject") or resource.get("patient") or {}
    profiles = meta.get("profile")
    return (
        _text(resource.get("resourceType")),
        _text(resource.get("id")),
        _text(meta.get("versionId")),
        _text(meta.get("lastUpdated")),
        _text(subject.get("reference")) if isinstance(subject, dict) else None,
        _text(profiles[0]) if isinstance(profiles, list) and profiles else None,
        _dump(resource),
    )


def _documents(file: LandedFile, table: TableContract, sink: Sink) -> Iterator[tuple[int, Any]]:
    """(line, JSON value) of each document in the file: one for a Bundle or resource, one a line for NDJSON."""
    if file.name.lower().endswith((".ndjson", ".jsonl")):
        base = 0
        for piece in windows(file.path):
            data, bad = utf8_lines(piece)
            for number, line in enumerate(data.split(b"\n"), base + 1):
                if (i := number - base - 1) in bad:
                    context = {"encoding": "utf-8"}
                    sink.reject(Reject(file, table.name, "E206", shown(bad[i]), number, context=context))
                elif line.strip():
                    try:
                        yield number, _load(line.decode("utf-8-sig"))
                    except ValueError:
                        sink.reject(Reject(file, table.name, "E216", line.decode(), number))
            base += data.count(b"\n")
        return
    try:
        yield 1, _load(file.path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        reject_file(sink, file, "E206", encoding="utf-8")
    except (ValueError, RecursionError) as error:
        reject_file(sink, file, "E219", detail=why(error))


def _resources(line: int, document: Any) -> Iterator[tuple[int, str, Any]]:
    """(line, place, resource) of a document; a Bundle's entries count from 1 in its place."""
    if isinstance(document, dict) and document.get("resourceType") == "Bundle":
        entries = document.get("entry") or []
        for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            yield line, f"Bundle.entry[{number}]", resource
    else:
        yield line, "", document


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read one file. A Bundle entry's line is its position, since a Bundle is often one line long."""
    rows: list[tuple[str | None, ...]] = []
    lines: list[int] = []
    try:
        for line, document in _documents(file, table, sink):
            for number, (at, place, resource) in enumerate(_resources(line, document), 1):
                where = number if place else at
                if isinstance(resource, dict) and isinstance(resource.get("resourceType"), str):
                    rows.append(_row(resource))
                    lines.append(where)
                elif resource is None and place:
                    sink.reject(Reject(file, table.name, "E224", "", where, place=place))
                else:
                    context = {"detail": "resourceType"}
                    sink.reject(
                        Reject(file, table.name, "E219", _dump(resource), where, place=place, context=context)
                    )
    except OSError as error:
        return reject_file(sink, file, "E202", detail=why(error))
    if rows:
        columns = {n: text_array(list(v)) for n, v in zip(_NAMES, zip(*rows, strict=True), strict=True)}
        sink.rows(file, table.name, pa.table(columns | {"source_line": pa.array(lines, pa.int64())}))
