"""One append-only file of a journal: records that carry their own length and checksum.

A record is ``MLKR``, CRC-32 of what follows, payload length, sequence number, receipt time (microseconds UTC),
length of the institution's code, the code, the payload. A crash may leave a torn last record, which nobody was
told about; a damaged record in the middle (a failing disk) is stepped over and told, never silently the end.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_MAGIC = b"MLKR"
_HEAD = struct.Struct("<4sI")
_BODY = struct.Struct("<IQqB")
_SMALLEST = _HEAD.size + _BODY.size

#: Read at once when a follower catches up; more when a single record is larger.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Record:
    """What came in: ``seq`` counts from 1 over the whole life of a door, ``received_at`` is UTC."""

    seq: int
    received_at: datetime
    org_code: str
    payload: bytes


def encode(seq: int, received_us: int, org_code: str, payload: bytes) -> bytes:
    """The bytes of one record. An institution's code has at most 255 bytes."""
    org = org_code.encode()
    body = _BODY.pack(len(payload), seq, received_us, len(org)) + org
    return _HEAD.pack(_MAGIC, zlib.crc32(payload, zlib.crc32(body))) + body + payload


def _decode(data: bytes, at: int) -> tuple[Record, int] | None:
    """The record at an offset and where the next begins; None when there is no whole, sound record."""
    if len(data) - at < _SMALLEST:
        return None
    magic, crc = _HEAD.unpack_from(data, at)
    length, seq, received_us, org_length = _BODY.unpack_from(data, at + _HEAD.size)
    start = at + _SMALLEST + org_length
    end = start + length
    if magic != _MAGIC or end > len(data) or zlib.crc32(memoryview(data)[at + _HEAD.size : end]) != crc:
        return None
    received = datetime.fromtimestamp(received_us / 1e6, UTC)
    return Record(seq, received, data[at + _SMALLEST : start].decode(), data[start:end]), end


@dataclass
class Scan:
    """What a segment holds: its records, where the last sound one ends, and damaged stretches (offset, bytes)."""

    records: list[Record]
    end: int
    damaged: list[tuple[int, int]]


def scan(path: Path) -> Scan:
    """Read a whole segment (a journal seals at some megabytes, so it fits)."""
    data = path.read_bytes()
    records: list[Record] = []
    damaged: list[tuple[int, int]] = []
    at = end = 0
    while at < len(data):
        found = _decode(data, at)
        if found is None:
            at = _next_sound(data, at + 1)
            continue
        if at > end:
            damaged.append((end, at - end))
        record, at = found
        records.append(record)
        end = at
    return Scan(records, end, damaged)


def _next_sound(data: bytes, at: int) -> int:
    """Where the next sound record begins; the end of the data when there is none (a torn tail)."""
    while (at := data.find(_MAGIC, at)) >= 0:
        if _decode(data, at) is not None:
            return at
        at += 1
    return len(data)


def read_some(path: Path, at: int, end: int) -> tuple[list[Record], int]:
    """Records from offset ``at``, about ``BLOCK`` bytes of them, never beyond ``end``; and the next offset.

    Only for offsets that ``scan`` or a commit vouches for. Where a damaged stretch lies it is stepped over.
    """
    with path.open("rb") as file:
        file.seek(at)
        data = file.read(min(BLOCK, end - at))
        found, used = _decode_all(data)
        while not found and len(data) < end - at:
            data += file.read(min(len(data), end - at - len(data)))
            found, used = _decode_all(data)
    return found, at + used if found else end


def _decode_all(data: bytes) -> tuple[list[Record], int]:
    found: list[Record] = []
    at = used = 0
    while at < len(data):
        one = _decode(data, at)
        if one is None:
            following = _next_sound(data, at + 1)
            if following >= len(data):
                break
            at = following
            continue
        record, at = one
        found.append(record)
        used = at
    return found, used


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_small(path: Path, text: str) -> None:
    """Replace a small file durably: it holds the old text or the new."""
    draft = path.with_name(path.name + ".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    sync_folder(path.parent)
