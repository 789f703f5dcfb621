"""Who opened whom in an emergency, and whether it was justified: the own history, and a security administrator's judgement.

Neither names a resident. Instants are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select, update

import worklist
from lake import access, ops
from lake.access_tables import glass_grant
from lake.errors import MedlakeError
from portal.account_store import aware
from portal.accounts import Person
from portal.glass import note, request_key
from worklist import making, store

DUTY = "glass.review"
VERDICTS = {"justify": "正当", "condemn": "不正当"}

#: Lines of the own history and of the list to be judged.
LIST_ROWS = 50

_g = glass_grant.c
_JUDGED = {"justified": "正当", "not_justified": "不正当"}


@dataclass(frozen=True)
class Grant:
    """One access. ``state``: open, ended; ``verdict``: of the review, else empty. Names no resident."""

    grant_id: str
    user: str
    org_code: str
    reason: str
    opened_at: datetime
    ends_at: datetime
    is_open: bool
    reviewed_by: str
    verdict_zh: str
    item: store.Item | None
    review_due_at: datetime | None


def may_review(person: Person) -> bool:
    return access.may(person.role, DUTY)


def _grants(rows: list[Row[Any]], now: datetime) -> list[Grant]:
    wanted = {making.item_id_of(request_key(row.grant_id)): row for row in rows}
    with store.begin() as connection:
        query = select(store.tables.item).where(store.tables.item.c.item_id.in_(list(wanted)))
        items = {item.item_id: item for item in map(store.item_of, connection.execute(query))}
        clock = store.tables.item_clock.c
        due = select(clock.item_id, clock.due_at).where(
            clock.item_id.in_(list(wanted)), clock.step == "review"
        )
        limits = {r.item_id: r.due_at for r in connection.execute(due.order_by(clock.round))}
    made = []
    for item_id, row in wanted.items():
        item = items.get(item_id)
        judged = _JUDGED.get(item.state, "") if item else ""
        made.append(
            Grant(
                row.grant_id, row.user, row.org_code, row.reason, aware(row.opened_at), aware(row.ends_at),
                aware(row.ends_at) > now, row.reviewed_by or "", judged, item,
                limits.get(item_id),
            )
        )  # fmt: skip
    return made


def history(person: Person, at: datetime | None = None) -> list[Grant]:
    """The person's own accesses, the newest first."""
    query = select(glass_grant).where(_g.user == person.user).order_by(_g.opened_at.desc()).limit(LIST_ROWS)
    with ops.reader().connect() as connection:
        rows = list(connection.execute(query))
    return _grants(rows, at or datetime.now(UTC))


def to_review(person: Person, at: datetime | None = None) -> tuple[list[Grant], list[Grant]]:
    """(not judged yet, the oldest first; judged, the newest first).

    Raises:
        MedlakeError: E692, not a reviewer.
    """
    if not may_review(person):
        raise MedlakeError("E692", duty=DUTY)
    waiting = select(glass_grant).where(_g.reviewed_at.is_(None)).order_by(_g.opened_at).limit(LIST_ROWS)
    judged = select(glass_grant).where(_g.reviewed_at.isnot(None)).order_by(_g.reviewed_at.desc())
    with ops.reader().connect() as connection:
        found = [list(connection.execute(q)) for q in (waiting, judged.limit(LIST_ROWS))]
    now = at or datetime.now(UTC)
    return _grants(found[0], now), _grants(found[1], now)


def review(
    person: Person, grant_id: str, verdict: str, reason: str, source_ip: str, at: datetime | None = None
) -> None:
    """Judge an access; one that was not justified ends at once.

    Raises:
        MedlakeError: E692 not a reviewer; E678 the own one, judged before, or none; E906 to E914, a guard refuses.
    """
    now = at or datetime.now(UTC)
    if not may_review(person):
        raise MedlakeError("E692", duty=DUTY)
    with ops.reader().connect() as connection:
        row = connection.execute(select(glass_grant).where(_g.grant_id == grant_id)).one_or_none()
    if row is None or verdict not in VERDICTS:
        raise MedlakeError("E678", detail="没有这次调阅")
    if row.user == person.user:
        raise MedlakeError("E678", detail="不能复核自己的调阅")
    if row.reviewed_at is not None:
        raise MedlakeError("E678", detail="已经复核")
    item_id = making.item_id_of(request_key(grant_id))
    # the notice first: its guards decide. Its key makes this repeatable if what follows should fail
    worklist.act(
        item_id,
        verdict,
        actor=person.user,
        role="glass_reviewer",
        reason=reason,
        command_key=f"glass|{grant_id}|{verdict}",
        at=now,
    )
    with ops.engine().begin() as connection:
        changed: dict[str, Any] = {"reviewed_by": person.user, "reviewed_at": now}
        if verdict == "condemn" and aware(row.ends_at) > now:
            changed["ends_at"] = now
        connection.execute(
            update(glass_grant).where(_g.grant_id == grant_id, _g.reviewed_at.is_(None)).values(**changed)
        )
        note(person, "review", source_ip, connection=connection, result=verdict, grant=grant_id)
