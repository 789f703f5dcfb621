"""Changes that people made online since the index's run: applied at once here, taken into the lake by the next run."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from empi.decisions import RecordKey
from lake import ops
from lake.settings import settings


@dataclass(frozen=True)
class Overlay:
    """The state after the changes up to ``seq``.

    Args:
        owner: record -> the person it now belongs to.
        records: person -> all of its records, for the persons that changed.
        merged: retired person -> the one it went into.
    """

    seq: int = 0
    owner: dict[RecordKey, str] = field(default_factory=dict)
    records: dict[str, list[RecordKey]] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)

    def current(self, empi_id: str) -> str:
        """The person that an id stands for now."""
        while empi_id in self.merged:
            empi_id = self.merged[empi_id]
        return empi_id


def replay(changes: list[Any], since: int) -> Overlay:
    """The overlay of changes (rows of ``ops.registry_change``, in order) after ``since``."""
    made = Overlay(since)
    for row in changes:
        for empi_id, members in json.loads(row.after).items():
            keys = [RecordKey(*m) for m in members]
            made.records[empi_id] = keys
            made.owner.update(dict.fromkeys(keys, empi_id))
        if row.kind == "merge":
            made.merged[row.other_empi_id] = row.empi_id
            made.records.pop(row.other_empi_id, None)
        else:
            made.merged.pop(row.other_empi_id, None)
    return Overlay(changes[-1].seq if changes else since, made.owner, made.records, made.merged)


class Changes:
    """Follows ``registry_change``: asked before each answer, which must cost nothing while nothing changed."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._known: dict[int, Overlay] = {}

    def _newest(self) -> int:
        url = make_url(settings().ops_url)
        if url.get_backend_name() != "sqlite":
            with ops.engine().connect() as reading:
                return int(reading.execute(select(func.max(ops.registry_change.c.seq))).scalar() or 0)
        # a plain reading connection a thread: the engine's transactions take the write lock
        connection = getattr(self._local, "connection", None)
        if connection is None or self._local.url != url:
            ops.engine()  # makes the tables
            connection = sqlite3.connect(str(url.database), isolation_level=None, timeout=60)
            self._local.connection, self._local.url = connection, url
        return int(connection.execute("SELECT max(seq) FROM registry_change").fetchone()[0] or 0)

    def since(self, seq: int) -> Overlay:
        """The overlay on top of an index that holds the changes up to ``seq``."""
        newest = self._newest()
        known = self._known.get(seq)
        if known is not None and known.seq >= newest:
            return known
        if newest <= seq:
            made = Overlay(seq)
        else:
            t = ops.registry_change
            with ops.engine().begin() as connection:
                made = replay(
                    list(connection.execute(t.select().where(t.c.seq > seq).order_by(t.c.seq))), seq
                )
        with self._lock:
            self._known = {seq: made}
        return made
