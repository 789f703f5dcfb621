"""From chunks at the centre to files in the drop folder ``<sources>/<day>/<feed>/<institution>/``, each once and whole.

The day of a file's folder is the local day on which its last chunk became durable here; the days of what is inside
stay those of the records, whatever any clock said. What goes into which file is written down before it is made, so a
run that is killed anywhere makes the same files again; then the chunks are let go.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath

from ingestion.edge import chunk as chunks
from ingestion.edge.chunk import Chunk
from ingestion.edge.crypto import Opener
from ingestion.edge.register import Member
from ingestion.edge.spool import Spool
from ingestion.edge.take import known_feeds, tree
from ingestion.receive.handover import Framing, hand_over
from ingestion.receive.segment import Record, sync_folder
from lake import kill
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.settings import settings

_log = logger("edge")

#: Of one round: chunks looked at, and bytes of records that go into one file.
ROUND_BYTES = 64 << 20
FILE_BYTES = 16 << 20

_COLUMNS = (
    "delivery, node, epoch, seq, feed, org_code, framing, suffix, records, bytes, node_at, offset_ms, received_at,"
    " data_date, file, state, code"
)


@dataclass(frozen=True)
class Delivery:
    """A row of ``delivery``: one file of a node, or one chunk of records."""

    delivery: str
    node: str
    epoch: int
    seq: int
    feed: str
    org_code: str
    framing: str
    suffix: str
    records: int
    bytes: int
    node_at: str
    offset_ms: int | None
    received_at: str
    data_date: str
    file: int
    state: str
    code: str = ""

    @property
    def joins(self) -> tuple[object, ...]:
        """Records that agree in these may share a file."""
        return self.node, self.epoch, self.feed, self.org_code, self.framing, self.suffix, self.data_date


class Applier:
    """``members``: the register as it is now. One at a time may run on a store."""

    def __init__(self, store: Spool, opener: Opener) -> None:
        self._store, self._opener = store, opener
        self._tree = lru_cache(maxsize=1024)(tree)

    def run(self, members: Mapping[str, Member]) -> int:
        """Bring everything that is complete into the drop. Returns the files made."""
        made = self._finish()
        while self._plan(members):
            made += self._finish()
        return made

    # ---- what goes where

    def _plan(self, members: Mapping[str, Member]) -> int:
        """Write down the next round's files. Returns the deliveries that were planned or set aside."""
        with self._store.writing() as db:
            db.execute(
                "DELETE FROM chunk WHERE delivery IN (SELECT delivery FROM delivery WHERE state = 'done')"
            )
            complete = db.execute(
                "SELECT delivery, sum(size), sum(records), min(rowid), max(received_at) FROM chunk"
                " WHERE delivery NOT IN (SELECT delivery FROM delivery)"
                " GROUP BY delivery HAVING max(CASE WHEN last THEN part + 1 END) = count(DISTINCT part) ORDER BY min(rowid)"
            ).fetchall()
            number = db.execute("SELECT coalesce(max(file), 0) FROM delivery").fetchone()[0]
            planned, total = 0, 0
            open_files: dict[tuple[object, ...], tuple[int, int]] = {}
            for delivery, size, records, rowid, received_at in complete:
                if planned and total + size > ROUND_BYTES:
                    break
                found = self._read(db, delivery, size, records, rowid, received_at, members)
                file, filled = open_files.get(found.joins, (0, FILE_BYTES))
                if found.state == "failed" or found.framing == "file" or filled + found.bytes > FILE_BYTES:
                    number += 1
                    file, filled = number, 0
                if found.framing != "file" and found.state == "planned":
                    open_files[found.joins] = file, filled + found.bytes
                values = [getattr(found, c.strip()) for c in _COLUMNS.split(",")]
                values[14] = file
                db.execute(f"INSERT INTO delivery ({_COLUMNS}) VALUES ({', '.join('?' * 17)})", values)
                planned, total = planned + 1, total + size
        kill.point("edge.planned")
        return planned

    def _read(
        self,
        db: sqlite3.Connection,
        delivery: str,
        size: int,
        records: int,
        rowid: int,
        received_at: str,
        members: Mapping[str, Member],
    ) -> Delivery:
        row = db.execute(
            "SELECT node, epoch, seq, header, signature FROM chunk WHERE rowid = ?", (rowid,)
        ).fetchone()
        first = Chunk(row[0], row[1], row[2], row[3], row[4], b"")
        head = first.fields
        day = datetime.fromisoformat(received_at).astimezone(SHANGHAI).date()
        code = ""
        member = members.get(first.node)
        if member is None or head["org_code"] not in self._tree(member.org_code):
            code = "E285"
        elif head["feed"] not in known_feeds() or head["framing"] not in ("file", "lines", "mllp-batch"):
            code = "E295"
        if code:
            _log.error("edge_set_aside", code=code, status=first.node, version=first.epoch, line=first.seq)
        return Delivery(
            delivery, first.node, first.epoch, first.seq, head["feed"], head["org_code"], head["framing"], head["suffix"],
            records, head["content_bytes"] if head["framing"] != "file" else size, head["at"], head.get("offset_ms"),
            received_at, day.isoformat(), 0, "failed" if code else "planned", code,
        )  # fmt: skip

    # ---- making the files

    def _finish(self) -> int:
        """Make the files that are planned and let go of their chunks."""
        rows = self._store.reading().execute(
            f"SELECT {_COLUMNS} FROM delivery WHERE state = 'planned' ORDER BY file, node, epoch, seq"
        )
        by_file: dict[int, list[Delivery]] = {}
        for row in rows.fetchall():
            by_file.setdefault(row[14], []).append(Delivery(*row))
        done: list[tuple[str, str, str]] = []
        folders: set[Path] = set()
        for deliveries in by_file.values():
            code = ""
            try:
                folders.add(self._make(deliveries))
                kill.point("edge.dropped")
            except MedlakeError as error:
                code = error.code
                _log.error("edge_set_aside", code=code, status=deliveries[0].node, line=deliveries[0].seq)
            done += [("failed" if code else "done", code, d.delivery) for d in deliveries]
        for folder in folders:
            sync_folder(folder)
        if not done:
            return 0
        with self._store.writing() as db:
            db.executemany("UPDATE delivery SET state = ?, code = ? WHERE delivery = ?", done)
            db.executemany(
                "DELETE FROM chunk WHERE delivery = ?", [(d,) for state, _, d in done if state == "done"]
            )
        with self._store.writing() as db:
            db.execute("PRAGMA incremental_vacuum(4000)").fetchall()
        kill.point("edge.applied")
        _log.info(
            "edge_applied", files=len(by_file), records=sum(d.records for ds in by_file.values() for d in ds)
        )
        return len(by_file)

    def _chunks(self, delivery: str) -> list[Chunk]:
        """Where the parts of a delivery lie; a part that came in two epochs is taken once."""
        rows = self._store.reading().execute(
            "SELECT node, epoch, seq, header, signature FROM chunk WHERE delivery = ? GROUP BY part ORDER BY part",
            (delivery,),
        )
        return [Chunk(r[0], r[1], r[2], r[3], r[4], b"") for r in rows.fetchall()]

    def _payload(self, chunk: Chunk) -> Chunk:
        row = self._store.reading().execute(
            "SELECT payload FROM chunk WHERE node = ? AND epoch = ? AND seq = ?",
            (chunk.node, chunk.epoch, chunk.seq),
        )
        return Chunk(chunk.node, chunk.epoch, chunk.seq, chunk.header, chunk.signature, row.fetchone()[0])

    def _make(self, deliveries: list[Delivery]) -> Path:
        """Make one file; returns its folder."""
        first = deliveries[0]
        if first.framing == "file":
            return self._file(first)
        records: list[Record] = []
        for d in deliveries:
            for chunk in self._chunks(d.delivery):
                content = chunks.open_payload(self._opener, self._payload(chunk))[1]
                at = datetime.fromisoformat(d.received_at)
                records += [Record(first.seq, at, d.org_code, one) for one in chunks.unpack_records(content)]
        framing: Framing = "lines" if first.framing == "lines" else "mllp-batch"
        door = f"edge-{first.node}-{first.epoch}"
        made = hand_over(
            records, date.fromisoformat(first.data_date), first.feed, door, _suffix(first.suffix), framing
        )
        return made[0].parent

    def _file(self, delivery: Delivery) -> Path:
        digest, meta = hashlib.sha256(), dict[str, str]()
        folder = settings().sources_dir / delivery.data_date / delivery.feed / delivery.org_code
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f".{delivery.delivery}.part"
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                for chunk in self._chunks(delivery.delivery):
                    meta, content = chunks.open_payload(self._opener, self._payload(chunk))
                    digest.update(content)
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != meta.get("sha256"):
                raise MedlakeError("E298", place=f"{delivery.node}/{delivery.seq}")
            target = folder / _path(meta, delivery)
        except MedlakeError:
            draft.unlink()
            raise
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.rename(target)
        return target.parent


def _suffix(text: str) -> str:
    """Raises MedlakeError E284, it is no file suffix."""
    if not (text.startswith(".") and text[1:].isalnum() and len(text) <= 12):
        raise MedlakeError("E284", detail="suffix")
    return text


def _path(meta: Mapping[str, str], delivery: Delivery) -> PurePosixPath:
    """Where a file goes below its institution's folder: its name as it was, in a folder of node and taking.

    Files that the node took together stay together, so that announced counts beside a file are found there.

    Raises:
        MedlakeError: E284, the name leads out of its folder or is not one.
    """
    name, group = str(meta.get("name", "")), str(meta.get("group", ""))
    path = PurePosixPath(name)
    bad = any(
        p in ("..", "/") or p.startswith(".") or len(p.encode()) > 200 or not p.isprintable()
        for p in path.parts
    )
    if (
        bad
        or not path.parts
        or "\\" in name
        or not (group.isalnum() and group.isascii() and len(group) <= 16)
    ):
        raise MedlakeError("E284", place=f"{delivery.node}/{delivery.seq}", detail="name")
    return PurePosixPath(f"edge-{delivery.node}-{group}") / path
