"""Importing a folder of FHIR files: held against its manifest first, then taken as any delivery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ingestion.readers.fhir import manifest
from lake.errors import MedlakeError

_FILES = (".json", ".ndjson", ".jsonl")
_BLOCK = 4 * 1024 * 1024


def _lines(path: Path) -> int:
    """Lines that hold something, counted without holding the file."""
    count, blank = 0, True
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for i, line in enumerate(block.split(b"\n")):
                if i:
                    count, blank = count + (not blank), True
                blank = blank and not line.strip()
    return count + (not blank)


def check(folder: Path) -> dict[str, Any]:
    """What a folder's manifest announces and what is there.

    Returns:
        manifest (its name, empty without one), files, announced, records, problems.

    Raises:
        MedlakeError: E201, no such folder.
    """
    if not folder.is_dir():
        raise MedlakeError("E201", place=str(folder))
    found = manifest.beside(folder)
    data = [
        p for p in sorted(folder.iterdir()) if p.suffix.lower() in _FILES and (not found or p != found[0])
    ]
    result: dict[str, Any] = {"manifest": "", "files": len(data), "announced": 0, "records": 0}
    problems: list[str] = []
    if found:
        result["manifest"] = found[0].name
        problems = found[1].check(folder)
        for listed in found[1].files.values():
            path = folder / listed.name
            if listed.count is None or not path.is_file():
                continue
            records = _lines(path)
            result["announced"] += listed.count
            result["records"] += records
            if records != listed.count:
                problems.append(f"{listed.name}: {listed.count} announced, {records} there")
        named = set(found[1].files)
        problems += [f"{p.name} is not in the manifest" for p in data if p.name not in named]
    return result | {"problems": problems}


def import_folder(
    folder: Path, *, org_code: str | None = None, data_date: date | None = None
) -> dict[str, Any]:
    """Check a folder and ingest it under feed ``fhir``; nothing is ingested where the manifest does not hold.

    Raises:
        MedlakeError: E201, no such folder; E258, its manifest does not hold.
    """
    import ingestion

    checked = check(folder)
    if problems := checked.pop("problems"):
        raise MedlakeError("E258", place=str(folder), detail="; ".join(_few(problems)))
    done = ingestion.ingest_paths([folder], "fhir", org_code=org_code, data_date=data_date)
    return {"manifest": checked["manifest"], "announced": checked["announced"]} | done


def _few(problems: Sequence[str]) -> list[str]:
    return list(problems[:10]) + ([f"and {len(problems) - 10} more"] if len(problems) > 10 else [])
