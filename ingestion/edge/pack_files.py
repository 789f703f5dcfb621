"""A pack as a file: signed by the centre, compressed, sealed for one node, the whole or what changed since a version.

``MLP1``, header length, header, signature length, signature, then sections (length, ``SM4-GCM(zstd(JSON lines))``).
The header names node, versions and the SM3 of all sections; it is what the signature is over.

At the centre a version of a node's pack is a Parquet file of rows ``(kind, name, body)`` in the restricted zone, so what
changed between two versions is one join.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec

from ingestion.edge import identity
from ingestion.edge.chunk import canonical
from ingestion.edge.crypto import derive
from ingestion.edge.identity import CENTRE
from lake.crypto import sm3_hex, sm4_open, sm4_seal
from lake.errors import MedlakeError
from lake.settings import settings

_MAGIC = b"MLP1"
_LENGTH = struct.Struct("<I")
_MOST_SECTION = 32 << 20

#: Rows of one section.
SECTION_ROWS = 5_000


def folder(node: str) -> Path:
    return settings().home / "edge" / "packs" / node


def versions(node: str) -> list[int]:
    return sorted(int(p.stem[1:]) for p in folder(node).glob("v*.parquet"))


def newest(node: str) -> int:
    """The newest version built for a node; 0 if none."""
    return max(versions(node), default=0)


@dataclass(frozen=True)
class Opened:
    """A pack file whose signature held: its header, and its sections still sealed."""

    header: dict[str, Any]
    sections: list[bytes]


def write(
    header: dict[str, Any], sections: Iterator[bytes], secret: bytes, key: ec.EllipticCurvePrivateKey
) -> bytes:
    """Seal and sign. ``sections`` are JSON lines; ``header`` has at least ``node``, ``from``, ``to``."""
    wire = derive(secret, "pack-wire")
    sealed = []
    for number, plain in enumerate(sections):
        size = _LENGTH.pack(len(plain))
        sealed.append(sm4_seal(wire, size + _codec().compress(plain, asbytes=True), _bound(header, number)))
    body = b"".join(_LENGTH.pack(len(s)) + s for s in sealed)
    told = canonical(header | {"v": 1, "sections": len(sealed), "sm3": sm3_hex(body)})
    signature = identity.sign(key, told)
    return _MAGIC + _LENGTH.pack(len(told)) + told + _LENGTH.pack(len(signature)) + signature + body


def read(data: bytes, node: str, centre: ec.EllipticCurvePublicKey) -> Opened:
    """Raises MedlakeError E290, not for this node, not signed by the centre, or damaged."""
    try:
        if data[:4] != _MAGIC:
            raise ValueError("no pack")
        at = 4
        parts = []
        for _ in range(2):
            (length,) = _LENGTH.unpack_from(data, at)
            parts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        told, signature = parts
        if not identity.verify(centre, signature, told):
            raise ValueError("signature")
        header = json.loads(told)
        if header["node"] != node or header["v"] != 1 or header["sm3"] != sm3_hex(data[at:]):
            raise ValueError("not this node's, or damaged")
        sections = []
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            sections.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        if len(sections) != header["sections"]:
            raise ValueError("sections")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise MedlakeError("E290", place=node, detail=str(error)[:40]) from error
    return Opened(header, sections)


def rows(opened: Opened, secret: bytes) -> Iterator[list[dict[str, Any]]]:
    """The rows of each section.

    Raises:
        MedlakeError: E290, sealed for another secret.
    """
    wire = derive(secret, "pack-wire")
    for number, sealed in enumerate(opened.sections):
        try:
            packed = sm4_open(wire, sealed, _bound(opened.header, number))
            (size,) = _LENGTH.unpack_from(packed)
            if size > _MOST_SECTION:
                raise ValueError("size")
            plain = _codec().decompress(packed[4:], size, asbytes=True)
        except (InvalidTag, ValueError, struct.error, pa.ArrowException) as error:
            raise MedlakeError("E290", place=opened.header["node"], detail="seal") from error
        yield [json.loads(line) for line in plain.split(b"\n") if line]


def _bound(header: dict[str, Any], number: int) -> bytes:
    return f"{header['node']}|{header['from']}|{header['to']}|{number}".encode()


def _codec() -> pa.Codec:
    return pa.Codec("zstd", compression_level=3)


# ---- at the centre


def following(node: str, have: int) -> bytes:
    """The file that brings a node from version ``have`` to the newest: what changed, or the whole if that is gone."""
    latest = newest(node)
    if not latest or latest == have:
        return b""
    base = have if have in versions(node) else 0
    made = folder(node) / f"{base:06d}-{latest:06d}.pack"
    if not made.exists():
        from ingestion.edge.pki import write_secret

        write_secret(made, _made(node, base, latest))
    return made.read_bytes()


def _made(node: str, base: int, latest: int) -> bytes:
    from ingestion.edge.pki import Authority
    from lake import duck

    authority = Authority()
    key = identity.load_key(authority.place / CENTRE / "node.key")
    facts = json.loads((folder(node) / f"v{latest:06d}.json").read_text("utf-8"))
    new = f"read_parquet('{folder(node) / f'v{latest:06d}.parquet'}')"
    old = f"read_parquet('{folder(node) / f'v{base:06d}.parquet'}')"
    changed = f"SELECT kind, name, body FROM {new}"
    if base:
        changed = (
            f"SELECT kind, name, n.body FROM {new} AS n LEFT JOIN {old} AS o USING (kind, name)"
            " WHERE o.body IS DISTINCT FROM n.body"
            f" UNION ALL SELECT kind, name, NULL FROM {old} AS o ANTI JOIN {new} AS n USING (kind, name)"
        )
    line = "CAST(to_json({k: kind, n: name, b: CAST(body AS JSON)}) AS VARCHAR)"
    connection = duck.connect()
    try:
        found = connection.execute(f"SELECT {line} AS line FROM ({changed}) ORDER BY kind, name")
        batches = found.to_arrow_reader(SECTION_ROWS)
        sections = ("\n".join(b.column(0).to_pylist()).encode() for b in batches if b.num_rows)
        return write(
            facts | {"node": node, "from": base, "to": latest}, sections, authority.pack_secret(node), key
        )
    finally:
        connection.close()
