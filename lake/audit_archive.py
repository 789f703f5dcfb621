"""Stretches of the audit chain in sealed files: gzipped JSON lines under SM4-GCM, named by their numbers."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lake import crypto
from lake.errors import MedlakeError
from lake.settings import settings

#: seq, at, entry, previous, hash, residents
Line = tuple[int, str, str, str, str, list[str]]


def _key() -> bytes:
    return crypto.secret("audit-archive", 16)


def write(lines: Sequence[Line]) -> tuple[str, str]:
    """Seal a stretch into a file that is on disk when this returns; returns its path below home and its SM3."""
    name = f"audit-{lines[0][0]:012d}-{lines[-1][0]:012d}.jsonl.gz.sm4"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    sealed = crypto.sm4_seal(_key(), gzip.compress(text.encode("utf-8"), mtime=0), name.encode())
    folder = settings().folder("audit", "archive")
    draft = folder / f".{name}.{os.getpid()}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(sealed)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / name)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return str(Path("audit", "archive", name)), crypto.sm3_hex(sealed)


def read(archive: Any) -> Iterator[Line]:
    """The entries of an archive (a row of ``audit_archive``).

    Raises:
        MedlakeError: E695, the file is missing, was changed, or is not the stretch that the register names.
    """
    from cryptography.exceptions import InvalidTag

    path = settings().home / archive.path
    try:
        sealed = path.read_bytes()
        if crypto.sm3_hex(sealed) != archive.sm3:
            raise ValueError("sm3")
        text = gzip.decompress(crypto.sm4_open(_key(), sealed, path.name.encode())).decode("utf-8")
        lines: list[Line] = [tuple(json.loads(line)) for line in text.splitlines()]  # type: ignore[misc]
        ends = (lines[0][0], lines[-1][0], lines[0][3], lines[-1][4])
        if ends != (archive.first_seq, archive.last_seq, archive.previous, archive.last_hash):
            raise ValueError("ends")
    except (OSError, ValueError, IndexError, InvalidTag) as error:
        raise MedlakeError("E695", place=path.name, path=path.name) from error
    yield from lines
