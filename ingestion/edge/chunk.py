"""The unit that travels: about a megabyte of one delivery, compressed, sealed, numbered, chained and signed.

The header is canonical JSON in clear and holds no content and no file name: who, which number, how large, when.
Each header carries the SM3 of its payload and of the header before it, so one signature a header vouches for
everything up to there. Frames are ``header length, signature length, payload length, header, signature, payload``.

A payload is ``SM4-GCM(zstd(meta length, meta, content))``, bound to node and chunk. Its meta names the file, and the
last chunk of a file gives the file's sha256. Content of records is each record's length and bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from ingestion.edge.clock import Offset
from ingestion.edge.crypto import DataKey, Opener
from lake.crypto import sm3_hex, sm4_seal
from lake.errors import MedlakeError

#: Content of one chunk. Larger ones compress better, smaller ones are lost less often on a bad line.
CONTENT_BYTES = 1 << 20

#: Nobody may make the other side unpack more than this.
MOST_CONTENT = 8 << 20
MOST_HEADER = 8 << 10

GENESIS = "0" * 64
_FRAME = struct.Struct("<4sHHI")
_MAGIC = b"MLE1"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Draft:
    """A chunk before it has a number. ``part`` counts from 0 in its delivery, ``last`` ends it.

    ``framing`` is ``file`` (a piece of one), or how records become a file: ``lines``, ``mllp-batch``.
    """

    chunk: str
    delivery: str
    part: int
    last: bool
    feed: str
    org_code: str
    framing: str
    suffix: str
    records: int
    content_bytes: int
    at: str  # receipt by the node's clock, UTC
    offset_ms: (
        int | None
    )  # to add to it for the centre's time, as last measured; never added to a time that is kept
    key: str
    payload: bytes


@dataclass(frozen=True)
class Chunk:
    """A chunk as it is stored and sent; ``via`` tells which relay had it and when (its time), ``""`` if none."""

    node: str
    epoch: int
    seq: int
    header: bytes
    signature: bytes
    payload: bytes
    via: str = ""

    @property
    def digest(self) -> str:
        return sm3_hex(self.header)

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.header)
        return found

    @property
    def size(self) -> int:
        return len(self.header) + len(self.signature) + len(self.payload)


def _bound(node: str, chunk: str) -> bytes:
    return f"{node}|{chunk}".encode()


def seal(
    node: str,
    key: DataKey,
    meta: dict[str, Any],
    content: bytes,
    *,
    delivery: str,
    part: int,
    last: bool,
    feed: str,
    org_code: str,
    framing: str,
    suffix: str,
    records: int,
    at: datetime,
    offset: Offset | None,
) -> Draft:
    """Compress and seal one piece of a delivery."""
    told = json.dumps(meta, ensure_ascii=False, sort_keys=True).encode()
    plain = _LENGTH.pack(len(told)) + told + content
    chunk = os.urandom(12).hex()
    payload = sm4_seal(key.key, _codec().compress(plain, asbytes=True), _bound(node, chunk))
    return Draft(
        chunk=chunk,
        delivery=delivery,
        part=part,
        last=last,
        feed=feed,
        org_code=org_code,
        framing=framing,
        suffix=suffix,
        records=records,
        content_bytes=len(plain),
        at=at.isoformat(timespec="milliseconds"),
        offset_ms=offset.milliseconds if offset else None,
        key=key.wrapped,
        payload=payload,
    )


def alone(draft: Draft) -> Draft:
    """A chunk that is a delivery of its own."""
    return replace(draft, delivery=draft.chunk)


def open_payload(opener: Opener, chunk: Chunk) -> tuple[dict[str, Any], memoryview]:
    """Meta and content of a chunk, at the centre.

    Raises:
        MedlakeError: E288 it cannot be opened; E284 what is inside has not the size that was told.
    """
    head = chunk.fields
    if not 0 < head["content_bytes"] <= MOST_CONTENT:
        raise MedlakeError("E284", place=f"{chunk.node}/{chunk.seq}", detail="content size")
    packed = opener.open(chunk.node, head["key"], chunk.payload, _bound(chunk.node, head["chunk"]))
    try:
        plain = memoryview(_codec().decompress(packed, head["content_bytes"], asbytes=True))
    except (pa.ArrowException, OSError) as error:
        raise MedlakeError("E284", place=f"{chunk.node}/{chunk.seq}", detail="compression") from error
    (length,) = _LENGTH.unpack_from(plain)
    meta: dict[str, Any] = json.loads(bytes(plain[_LENGTH.size : _LENGTH.size + length]))
    return meta, plain[_LENGTH.size + length :]


def number(draft: Draft, node: str, epoch: int, seq: int, previous: str) -> bytes:
    """The header of a draft at its place in the chain."""
    told = {k: v for k, v in asdict(draft).items() if k != "payload"}
    told |= {
        "v": 1,
        "node": node,
        "epoch": epoch,
        "seq": seq,
        "previous": previous,
        "sm3": sm3_hex(draft.payload),
    }
    return canonical(told)


def renumber(header: bytes, epoch: int, seq: int, previous: str) -> bytes:
    """The same chunk at another place of another epoch's chain."""
    return canonical(json.loads(header) | {"epoch": epoch, "seq": seq, "previous": previous})


def canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def frame(chunk: Chunk) -> bytes:
    """A chunk as it goes over the wire."""
    via = chunk.via.encode()
    head = _FRAME.pack(_MAGIC, len(chunk.signature), len(via), len(chunk.header))
    return head + _LENGTH.pack(len(chunk.payload)) + chunk.header + chunk.signature + via + chunk.payload


class Deframer:
    """Chunks out of a stream of bytes; keeps no more than one unfinished chunk."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Raises MedlakeError E299, this is no stream of chunks."""
        self._rest += data
        head = _FRAME.size + _LENGTH.size
        while len(self._rest) >= head:
            magic, signed, via, header = _FRAME.unpack_from(self._rest)
            (payload,) = _LENGTH.unpack_from(self._rest, _FRAME.size)
            if magic != _MAGIC or header > MOST_HEADER or payload > MOST_CONTENT + 1024:
                raise MedlakeError("E299", detail="frame")
            whole = head + header + signed + via + payload
            if len(self._rest) < whole:
                return
            data = bytes(self._rest[head:whole])
            del self._rest[:whole]
            yield _chunk(data, header, signed, via)

    @property
    def rest(self) -> int:
        return len(self._rest)


def _chunk(data: bytes, header: int, signed: int, via: int) -> Chunk:
    text = data[:header]
    try:
        told = json.loads(text)
        node, epoch, seq = str(told["node"]), int(told["epoch"]), int(told["seq"])
        if canonical(told) != text:
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise MedlakeError("E299", detail="header") from error
    parts = data[header : header + signed], data[header + signed : header + signed + via]
    made = Chunk(node, epoch, seq, text, parts[0], data[header + signed + via :])
    return replace(made, via=parts[1].decode("ascii", "replace"))


def pack_records(records: list[bytes]) -> bytes:
    """Records as the content of a chunk."""
    return b"".join(piece for r in records for piece in (_LENGTH.pack(len(r)), r))


def unpack_records(content: memoryview) -> list[bytes]:
    """Raises MedlakeError E284, lengths do not fit."""
    found, at = [], 0
    while at < len(content):
        if len(content) - at < _LENGTH.size:
            raise MedlakeError("E284", detail="records")
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if length > len(content) - at:
            raise MedlakeError("E284", detail="records")
        found.append(bytes(content[at : at + length]))
        at += length
    return found


def _codec() -> pa.Codec:
    return pa.Codec("zstd", compression_level=1)
