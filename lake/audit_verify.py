"""Recomputes the audit chain from its first entry to its sealed end, through the archives, and leaves an anchor.

An anchor is a line outside the database (``home/audit/anchors.jsonl``): number and hash of the end at a verification.
Who rolls the whole database back to an older state is found by the anchors. Copy that file off the machine daily.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from lake import audit, audit_archive, ops
from lake.access_tables import audit_archive as archives
from lake.access_tables import audit_head, audit_person
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.settings import settings


def anchors_path() -> Path:
    return settings().folder("audit") / "anchors.jsonl"


def _anchors() -> dict[int, str]:
    """Number -> hash of the ends that were verified before.

    Raises:
        MedlakeError: E694, a line is not one that we wrote.
    """
    path = anchors_path()
    found: dict[int, str] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            node = json.loads(line)
            seq, digest, seal = int(node["seq"]), str(node["hash"]), str(node["seal"])
        except (ValueError, KeyError, TypeError) as error:
            raise MedlakeError("E694", detail="anchors.jsonl") from error
        if not hmac.compare_digest(seal, audit.seal(seq, digest)):
            raise MedlakeError("E694", detail="anchors.jsonl")
        found[seq] = digest
    return found


def _leave_anchor(seq: int, digest: str) -> None:
    line = json.dumps({"seq": seq, "hash": digest, "seal": audit.seal(seq, digest)})
    handle = os.open(anchors_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _hot(connection: Any) -> Iterator[tuple[int, str, str, str, str, list[str]]]:
    """Entries in the database with their residents, in order, a stretch at a time."""
    after = -1
    while True:
        where = ops.audit_entry.c.seq > after
        rows = connection.execute(
            select(ops.audit_entry).where(where).order_by(ops.audit_entry.c.seq).limit(10_000)
        ).all()
        if not rows:
            return
        about: dict[int, list[str]] = {}
        between = audit_person.c.seq.between(rows[0].seq, rows[-1].seq)
        for seq, empi_id in connection.execute(select(audit_person).where(between)):
            about.setdefault(seq, []).append(empi_id)
        for r in rows:
            yield r.seq, r.at, r.entry, r.previous, r.hash, about.get(r.seq, [])
        after = rows[-1].seq


def verify() -> int:
    """See :func:`lake.audit.verify`. A hash chain is sequential by nature: this is the one loop over its rows."""
    anchors = _anchors()
    previous, count = audit.GENESIS, 0

    def step(row: tuple[int, str, str, str, str, list[str]]) -> None:
        nonlocal previous, count
        seq, at, entry, before, digest, persons = row
        expected = sm3_hex(f"{seq}|{at}|{entry}|{previous}".encode())
        told = json.loads(entry).get("persons_sm3") if digest == expected else None
        same = told == audit.persons_sm3(persons) if told else not persons
        if seq != count + 1 or before != previous or digest != expected or not same:
            raise MedlakeError("E107", seq=seq)
        previous, count = digest, seq
        if anchors.get(seq, digest) != digest:
            raise MedlakeError("E694", detail=f"anchor {seq}")

    with ops.engine().begin() as connection:
        for archive in connection.execute(select(archives).order_by(archives.c.first_seq)).all():
            for row in audit_archive.read(archive):
                step(row)
        for row in _hot(connection):
            step(row)
        head = connection.execute(select(audit_head)).one_or_none()
    if max(anchors, default=0) > count:
        raise MedlakeError("E694", detail=f"anchor {max(anchors)} > {count}")
    if (head is None) != (count == 0):
        raise MedlakeError("E694", detail="no seal")
    if head is not None and (head.seq != count or head.hash != previous or not audit.is_sealed(head)):
        raise MedlakeError("E694", detail=f"{head.seq} / {count}")
    if count and count not in anchors:
        _leave_anchor(count, previous)
    return count
