"""The audit log: who did what with personal data and why, one line each, chained by SM3, appended only.

Beside the chain lies its sealed end (``audit_head``, HMAC-SM3 under a key outside the database): a tail that was cut
off leaves a gap that no later entry closes. Searching is in ``lake.audit_search``, keeping in ``lake.audit_retention``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Text, cast, func, insert, literal, select, update
from sqlalchemy.engine import Connection

from lake import crypto, ops
from lake.access_tables import audit_head, audit_person
from lake.crypto import sm3_hex

GENESIS = "0" * 64
# made once, since an entry is written for each request
_NEWEST = select(ops.audit_entry).order_by(ops.audit_entry.c.seq.desc()).limit(1)
_APPEND = insert(ops.audit_entry)
_HEAD = select(audit_head).where(audit_head.c.head_id == 1)

#: Residents of an entry that are written at once.
PART = 20_000
#: Gives an entry's residents anew each time it is asked: sorted, each once, in parts.
Parts = Callable[[], Iterator[Sequence[str]]]
#: What stands in place of a seal once a forged one was found: no later entry mends it.
_BROKEN = "broken"


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

    Known details: ``actor_role``, ``org_code``, ``source_ip``, ``hash`` (of what left), and ``persons``: the
    ``empi_id`` of the residents concerned, kept beside the chain (the entry holds their number and an SM3 over them).
    Where they are too many to be at hand at once, ``persons`` is a function (:data:`Parts`).
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
    split = [_without_persons(entry) for entry in entries]
    texts = [json.dumps(entry, ensure_ascii=False, sort_keys=True, default=str) for entry, _ in split]
    persons = [found for _, found in split]
    if connection is not None:
        return _append(connection, at, texts, persons)
    with ops.engine().begin() as own:
        return _append(own, at, texts, persons)


def persons_sm3(persons: Iterable[str]) -> str:
    """The fingerprint of a set of residents that an entry carries."""
    return crypto.sm3_lines([sorted(persons)])[1]


def _parts_of(persons: Iterable[Any]) -> Parts:
    known = sorted({str(p) for p in persons})
    return lambda: (known[first : first + PART] for first in range(0, len(known), PART))


def _without_persons(entry: Mapping[str, Any]) -> tuple[dict[str, Any], Parts | None]:
    given = entry.get("persons")
    if given is None or isinstance(given, int | str):  # a number of persons stays in the entry
        return dict(entry), None
    parts: Parts = given if callable(given) else _parts_of(given)
    count, digest = crypto.sm3_lines(parts())
    rest = {k: v for k, v in entry.items() if k != "persons"}
    return rest | {"persons_count": count, "persons_sm3": digest}, parts if count else None


def seal(seq: int, digest: str) -> str:
    """The seal of a chain's end."""
    return crypto.token("audit-head", f"{seq}|{digest}")


def is_sealed(head: Any) -> bool:
    return hmac.compare_digest(str(head.seal), seal(head.seq, head.hash))


def _append(connection: Connection, at: str, texts: list[str], persons: list[Parts | None]) -> int:
    ops.exclusive(connection, "audit")  # a chain has one end
    head = connection.execute(_HEAD).one_or_none()
    # the sealed end counts, not the newest row: where rows are missing before it, the gap stays
    last = head or connection.execute(_NEWEST).one_or_none()
    seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
    rows: list[dict[str, Any]] = []
    about: list[tuple[int, Parts]] = []
    for text, concerned in zip(texts, persons, strict=True):  # a hash chain is sequential by nature
        seq += 1
        digest = sm3_hex(f"{seq}|{at}|{text}|{previous}".encode())
        rows.append({"seq": seq, "at": at, "entry": text, "previous": previous, "hash": digest})
        if concerned is not None:
            about.append((seq, concerned))
        previous = digest
    if rows:
        connection.execute(_APPEND, rows)
        for of, concerned in about:  # an export concerns hundreds of thousands: a part is at hand at a time
            for part in concerned():
                _write_persons(connection, of, part)
        sealed = seal(seq, previous) if head is None or is_sealed(head) else _BROKEN
        values = {"seq": seq, "hash": previous, "seal": sealed}
        if head is None:
            connection.execute(insert(audit_head).values(head_id=1, **values))
        else:
            connection.execute(update(audit_head).where(audit_head.c.head_id == 1).values(**values))
    return seq


def _write_persons(connection: Connection, seq: int, part: Sequence[str]) -> None:
    """A part in one statement: a fifth of the time of a row each."""
    text = json.dumps(part)
    if connection.dialect.name == "postgresql":
        listed = func.json_array_elements_text(cast(literal(text, Text), JSON)).table_valued("value")
    else:
        listed = func.json_each(text).table_valued("value")
    connection.execute(
        insert(audit_person).from_select(["seq", "empi_id"], select(literal(seq), listed.c.value))
    )


def verify() -> int:
    """Recompute the whole chain, its archives and its sealed end; returns how many entries it has.

    Raises:
        MedlakeError: E107, an entry was changed, removed or inserted; E694, the end is not the sealed one; E695, an
            archive is missing or was changed.
    """
    from lake import audit_verify

    return audit_verify.verify()
