"""Landing: the bytes as received, immutable (0444), by feed, date and institution; with a sha256 manifest.

What is known by content is not copied again: its records count as duplicates and nothing changes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from ingestion.readers.base import LandedFile
from ingestion.sources import SourceFile
from lake import ledger
from lake.settings import settings

_UNASSIGNED = "unassigned"
_WHOLE = 8 * 1024 * 1024
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Hashed:
    """A delivered file and its content's sha256; ``unreadable`` is set when there was none to take."""

    source: SourceFile
    sha256: str
    bytes: int
    unreadable: str = ""


@dataclass(frozen=True)
class Known:
    """A file whose content an earlier batch brought in: that batch, and its path in landing."""

    hashed: Hashed
    batch_id: str
    source_file: str


def hash_file(source: SourceFile) -> Hashed:
    """sha256 and size of a file; an unreadable one is told, not raised: the other files go on."""
    digest, size = hashlib.sha256(), 0
    try:
        with source.path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        name = hashlib.sha256(source.origin.encode()).hexdigest()
        return Hashed(source, name, 0, type(error).__name__)
    return Hashed(source, digest.hexdigest(), size)


def split_known(feed: str, files: list[Hashed]) -> tuple[list[Hashed], list[Known]]:
    """Files to read, and files whose content the same institution delivered before."""
    known = ledger.known_files(feed, sorted({f.sha256 for f in files}))
    new, old = [], []
    for f in files:
        seen = known.get((f.sha256, f.source.org_code))
        if seen:
            old.append(Known(f, *seen))
        else:
            new.append(f)
    return new, old


def _target(folder: Path, hashed: Hashed) -> Path:
    """Where a file lands; another file that holds the name keeps it, and this one gets its hash into the name."""
    target = folder / hashed.source.name
    if target.exists() and hash_file(SourceFile(target, "", "")).sha256 != hashed.sha256:
        target = target.with_name(f"{target.stem}~{hashed.sha256[:12]}{target.suffix}")
    return target


def _copy(source: Path, target: Path, size: int) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with source.open("rb") as reader, draft.open("wb") as writer:
        if size <= _WHOLE:
            writer.write(reader.read())
        else:
            while block := reader.read(_BLOCK):
                writer.write(block)
    draft.chmod(0o444)
    draft.replace(target)


def land(feed: str, data_date: date, files: list[Hashed]) -> list[LandedFile]:
    """Copy files into landing. Doing it again finds them there. An unreadable file has no copy, only its name."""
    root = settings().landing_dir
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    landed: list[LandedFile] = []
    made: set[Path] = set()
    taken: set[str] = set()
    for number, hashed in enumerate(files):
        folder = root / feed / data_date.isoformat() / (hashed.source.org_code or _UNASSIGNED)
        target = _target(folder, hashed)
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        if not hashed.unreadable and not target.exists():
            _copy(hashed.source.path, target, hashed.bytes)
        source_file = _unique(str(target.relative_to(root)), taken)
        landed.append(
            LandedFile(
                number,
                target,
                source_file,
                hashed.source.name,
                hashed.sha256,
                hashed.bytes,
                hashed.source.org_code,
                hashed.source.origin,
            )
        )
    return landed


def _unique(name: str, taken: set[str]) -> str:
    """A name once per batch: the same bytes delivered twice in one batch share a file, not a ledger line."""
    candidate, n = name[-380:], 1
    while candidate in taken:
        n += 1
        candidate = f"{name[-380:]}#{n}"
    taken.add(candidate)
    return candidate


def _rows(files: list[LandedFile]) -> Iterator[tuple[str, str, int, str, str]]:
    for f in files:
        yield f.source_file, f.sha256, f.bytes, f.org_code, f.origin


def write_manifest(feed: str, data_date: date, batch_id: str, files: list[LandedFile], at: datetime) -> Path:
    """``manifest-<batch>.csv`` beside the files: path, sha256, bytes, org_code, origin, batch_id, received_at."""
    folder = settings().landing_dir / feed / data_date.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "sha256", "bytes", "org_code", "origin", "batch_id", "received_at"])
    writer.writerows([*row, batch_id, at.isoformat()] for row in _rows(files))
    target = folder / f"manifest-{batch_id}.csv"
    draft = folder / f".manifest-{batch_id}.{os.getpid()}"
    draft.write_text(text.getvalue(), "utf-8")
    draft.chmod(0o444)
    draft.replace(target)
    return target
