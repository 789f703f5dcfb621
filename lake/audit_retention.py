"""How long audit entries stay hot: at least 180 days (网络安全法 第二十一条: logs for six months); older ones move into
sealed files, whose hashes the chain goes on from. Nothing is ever deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select

from lake import audit, audit_archive, ops
from lake.access_tables import audit_archive as archives
from lake.access_tables import audit_person
from lake.errors import MedlakeError

#: Days that entries stay in the database at least.
LEAST_DAYS = 180

#: Entries of one file.
_STRETCH = 50_000


def retain(now: datetime, days: int = LEAST_DAYS, *, actor: str = "system") -> dict[str, Any]:
    """Move entries older than ``days`` into sealed files. Returns ``archived``, ``files``, ``hot``.

    The chain is verified first, so that nothing broken is sealed as if it were whole.

    Raises:
        MedlakeError: E696, fewer days than the law asks for; E107, E694, E695 as :func:`lake.audit.verify`.
    """
    if days < LEAST_DAYS:
        raise MedlakeError("E696", least=LEAST_DAYS)
    audit.verify()
    before = (now.astimezone(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    moved = files = 0
    while stretch := _move(before, now):
        moved, files = moved + stretch, files + 1
    if files:
        audit.record("audit.retain", actor=actor, purpose="audit", tables=["ops/audit_entry"], fields=[], rows=moved,
            result="ok", files=files, days=days)  # fmt: skip
    with ops.reader().connect() as connection:
        hot = len(connection.execute(select(ops.audit_entry.c.seq)).all())
    return {"archived": moved, "files": files, "hot": hot}


def _move(before: str, now: datetime) -> int:
    """One stretch: file first, on disk; then register and deletion in one transaction."""
    entry = ops.audit_entry
    with ops.engine().begin() as connection:
        ops.exclusive(connection, "audit")
        # an entry that is younger ends the stretch, also where a clock went back
        young = connection.execute(
            select(entry.c.seq).where(entry.c.at >= before).order_by(entry.c.seq).limit(1)
        ).scalar()
        query = select(entry).order_by(entry.c.seq).limit(_STRETCH)
        rows = connection.execute(query.where(entry.c.seq < young) if young is not None else query).all()
        if not rows:
            return 0
        first, last = rows[0], rows[-1]
        between = audit_person.c.seq.between(first.seq, last.seq)
        about: dict[int, list[str]] = {}
        for seq, empi_id in connection.execute(select(audit_person).where(between)):
            about.setdefault(seq, []).append(empi_id)
        lines = [(r.seq, r.at, r.entry, r.previous, r.hash, sorted(about.get(r.seq, []))) for r in rows]
        path, sm3 = audit_archive.write(lines)
        connection.execute(
            insert(archives).values(
                first_seq=first.seq,
                last_seq=last.seq,
                first_at=first.at,
                last_at=last.at,
                previous=first.previous,
                last_hash=last.hash,
                path=path,
                sm3=sm3,
                sealed_at=now,
            )
        )
        connection.execute(delete(audit_person).where(between))
        connection.execute(delete(entry).where(entry.c.seq.between(first.seq, last.seq)))
    return len(rows)
