"""Server-side sessions: the cookie holds a random word, the database a keyed digest of it, and who, since when, whence.

A session's word changes at every step of the login, so that one that was planted before is worth nothing after.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select, update

from lake import crypto, ops
from lake.access_tables import portal_session as session
from lake.settings import settings
from portal.account_store import aware
from portal.accounts import Person

COOKIE = "medlake_session"

#: Where a login that is not complete goes, by stage; nothing else opens.
STAGES = {"factor": "/account/factor", "enrol": "/account/enrol", "change": "/account/password"}

#: A session's last use is written down at most this often.
_TOUCH = timedelta(seconds=60)


@dataclass(frozen=True)
class Session:
    """A live session. ``key``: its public name, to which form tokens are bound."""

    key: str
    person: Person
    stage: str


def _digest(word: str) -> str:
    return crypto.token("portal-session", word)


def begin(person: Person, stage: str, source_ip: str, *, instead_of: str = "") -> str:
    """Open a session, and end the one that it follows; returns the cookie's word."""
    now = datetime.now(UTC)
    word = secrets.token_urlsafe(32)
    with ops.engine().begin() as connection:
        if instead_of:
            old = session.c.digest == _digest(instead_of)
            connection.execute(update(session).where(old).values(ended_at=now))
        connection.execute(
            insert(session).values(
                digest=_digest(word),
                session_id=secrets.token_hex(12),
                user=person.user,
                role=person.role,
                org_code=person.org_code,
                name=person.name,
                stage=stage,
                source_ip=source_ip[:64],
                created_at=now,
                seen_at=now,
                ends_at=now + timedelta(hours=settings().session_hours),
                ended_at=None,
            )
        )
    return word


def find(word: str, now: datetime | None = None) -> Session | None:
    """The live session of a cookie: not ended, not too old, not idle for too long."""
    at = now or datetime.now(UTC)
    with ops.reader().connect() as connection:
        row = connection.execute(select(session).where(session.c.digest == _digest(word))).one_or_none()
    if row is None or row.ended_at is not None or aware(row.ends_at) <= at:
        return None
    idle = at - aware(row.seen_at)
    if idle > timedelta(minutes=settings().session_idle_minutes):
        return None
    if idle > _TOUCH:
        with ops.engine().begin() as connection:
            connection.execute(update(session).where(session.c.digest == row.digest).values(seen_at=at))
    return Session(row.session_id, Person(row.user, row.role, row.org_code, row.name), row.stage)


def end(word: str) -> None:
    """Log out: the word opens nothing any more."""
    live = (session.c.digest == _digest(word)) & session.c.ended_at.is_(None)
    with ops.engine().begin() as connection:
        connection.execute(update(session).where(live).values(ended_at=datetime.now(UTC)))
