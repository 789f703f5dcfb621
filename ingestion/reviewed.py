"""Reviewed knowledge about sources: rows in git, and an overlay below home that people add to while it runs.

Each kind is a list of rows with the same columns everywhere: code maps, header synonyms, time zones. A row of the
overlay says who reviewed it and when, and beats a row of git with the same scope. The overlay is append-only; a
later row replaces an earlier one. It is the operator's to carry into git at leisure.
"""

from __future__ import annotations

import csv
import io
import os
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from lake.errors import MedlakeError
from lake.settings import settings

Row = dict[str, str]

CODE_MAP = (
    *("code_system", "source_code", "code", "feed", "org_code", "valid_from", "valid_to"),
    *("reviewer", "reviewed_on", "note"),
)
SYNONYM = ("feed", "table", "header", "field", "reviewer", "reviewed_on", "note")
ZONE = (
    *("feed", "org_code", "table", "field", "zone", "valid_from", "valid_to"),
    *("reviewer", "reviewed_on", "note"),
)
SPELLING = ("spelling", "ucum", "reviewer", "reviewed_on", "note")
#: Kinds of the overlay and their columns.
KINDS = {"code_map": CODE_MAP, "header_synonym": SYNONYM, "time_zone": ZONE, "unit_spelling": SPELLING}


def read(path: Path) -> list[Row]:
    """Rows of a CSV; none when there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: v or "" for k, v in row.items()} for row in csv.DictReader(file)]


@lru_cache(maxsize=32)
def _overlay_path(home: Path, kind: str) -> Path:
    return home / "terminology" / f"{kind}.csv"


def overlay_path(kind: str) -> Path:
    return _overlay_path(settings().home, kind)


def stamp(kind: str) -> tuple[str, int, int]:
    """Changes when the overlay does: what caches are keyed by."""
    path = overlay_path(kind)
    try:
        found = path.stat()
    except FileNotFoundError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _overlay(kind: str, at: tuple[str, int, int]) -> tuple[Row, ...]:
    rows = read(Path(at[0]))
    wanted = KINDS[kind]
    for number, row in enumerate(rows, 2):
        if set(wanted) - set(row) or not row["reviewer"]:
            raise MedlakeError("E229", place=f"{Path(at[0]).name}:{number}")
    return tuple(rows)


def overlay(kind: str) -> tuple[Row, ...]:
    """Rows of the overlay, oldest first.

    Raises:
        MedlakeError: E229, somebody edited it by hand and a column or the reviewer is missing.
    """
    return _overlay(kind, stamp(kind))


def append(kind: str, row: Row) -> None:
    """Add one row, on disk when this returns. The file is the service account's alone (mode 0600)."""
    path = overlay_path(kind)
    settings().folder("terminology").chmod(0o700)
    with FileLock(path.with_suffix(".lock")):
        text = io.StringIO()
        writer = csv.DictWriter(text, KINDS[kind], lineterminator="\n")
        if not path.exists():
            writer.writeheader()
        writer.writerow({name: row.get(name, "") for name in KINDS[kind]})
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, text.getvalue().encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
