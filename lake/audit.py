"""The audit log: who did what with personal data and why, one line each, chained by SM3, appended only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from lake import ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError

_GENESIS = "0" * 64
# made once, since an entry is written for each request
_NEWEST = select(ops.audit_entry).order_by(ops.audit_entry.c.seq.desc()).limit(1)
_APPEND = insert(ops.audit_entry)


def record(
    action: str,
    *,
    actor: str,
    purpose: str,
    tables: list[str],
    fields: list[str],
    rows: int,
    result: str,
    connection: Connection | None = None,
    **details: Any,
) -> int:
    """Append one entry and return its number. ``details`` must hold no personal data.

    With ``connection`` the entry is part of the caller's transaction: it is there if what it tells of is.
    """
    entry = {
        "action": action,
        "actor": actor,
        "purpose": purpose,
        "tables": tables,
        "fields": fields,
        "rows": rows,
        "result": result,
        **details,
    }
    return record_all([entry], connection=connection)


def record_all(entries: Sequence[Mapping[str, Any]], *, connection: Connection | None = None) -> int:
    """Append several entries in one transaction, in order; returns the number of the last one.

    Each has what :func:`record` asks for: ``action, actor, purpose, tables, fields, rows, result`` and details.
    """
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    texts = [json.dumps(entry, ensure_ascii=False, sort_keys=True, default=str) for entry in entries]
    if connection is not None:
        return _append(connection, at, texts)
    with ops.engine().begin() as own:
        return _append(own, at, texts)


def _append(connection: Connection, at: str, texts: list[str]) -> int:
    ops.exclusive(connection, "audit")  # a chain has one end
    last = connection.execute(_NEWEST).one_or_none()
    seq, previous = (last.seq, last.hash) if last else (0, _GENESIS)
    rows: list[dict[str, Any]] = []
    for text in texts:  # a hash chain is sequential by nature
        seq += 1
        digest = sm3_hex(f"{seq}|{at}|{text}|{previous}".encode())
        rows.append({"seq": seq, "at": at, "entry": text, "previous": previous, "hash": digest})
        previous = digest
    connection.execute(_APPEND, rows)
    return seq


def verify() -> int:
    """Recompute the whole chain; returns how many entries it has.

    Raises:
        MedlakeError: E107, an entry was changed, removed or inserted.
    """
    previous, count = _GENESIS, 0
    with ops.engine().begin() as connection:
        # a hash chain is sequential by nature: this is the one loop over its rows
        for row in connection.execute(select(ops.audit_entry).order_by(ops.audit_entry.c.seq)):
            expected = sm3_hex(f"{row.seq}|{row.at}|{row.entry}|{previous}".encode())
            if row.seq != count + 1 or row.previous != previous or row.hash != expected:
                raise MedlakeError("E107", seq=row.seq)
            previous, count = row.hash, count + 1
    return count
