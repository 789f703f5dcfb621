"""From a sealed segment to the drop: one file an institution, there whole or not at all, the same however often."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Literal

from ingestion.receive.segment import Record, sync_folder
from lake.settings import settings

Framing = Literal["lines", "mllp-batch"]


def _lines(records: Iterable[Record]) -> Iterator[bytes]:
    for record in records:
        yield record.payload.rstrip(b"\r\n") + b"\n"


def _batch(records: list[Record], name: str) -> Iterator[bytes]:
    """HL7 messages in the standard's batch envelope (chapter 2.10.3): the trailer announces their number."""
    yield f"FHS|^~\\&|MEDLAKE||||||{name}\rBHS|^~\\&|MEDLAKE\r".encode()
    for record in records:
        yield record.payload.rstrip(b"\r\n") + b"\r"
    yield f"BTS|{len(records)}\rFTS|1\r".encode()


def _same(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def hand_over(
    records: list[Record], day: date, feed: str, door: str, suffix: str, framing: Framing
) -> list[Path]:
    """Write the records of one segment below ``<sources>/<day>/<feed>/<org>/``; returns the files.

    Doing it again finds the same files there. A file of the same name and other content (the door's folder was
    lost, and its numbers began anew) is left alone; the new one gets its hash into the name.

    Raises:
        OSError: the drop cannot take it (a full disk); nothing is half written then.
    """
    by_org: dict[str, list[Record]] = {}
    for record in records:
        by_org.setdefault(record.org_code, []).append(record)
    made = []
    for org, own in sorted(by_org.items()):
        folder = settings().sources_dir / day.isoformat() / feed / org
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{door}_{records[0].seq:012d}"
        made.append(_write(folder, name, suffix, list(_framed(own, name, framing))))
    return made


def _framed(records: list[Record], name: str, framing: Framing) -> Iterator[bytes]:
    return _lines(records) if framing == "lines" else _batch(records, name)


def _write(folder: Path, name: str, suffix: str, content: list[bytes]) -> Path:
    digest = hashlib.sha256(b"".join(content)).hexdigest()
    target = folder / (name + suffix)
    if target.exists():
        if _same(target, digest):
            return target
        target = folder / f"{name}~{digest[:12]}{suffix}"
    draft = folder / f".{target.name}.part"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return target
