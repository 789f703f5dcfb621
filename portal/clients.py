"""Client systems at the door: a token an institution, made once, kept as a keyed digest (HMAC-SM3) and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from starlette.concurrency import run_in_threadpool

from lake import contracts, crypto, ops, registry
from lake.errors import MedlakeError

_PREFIX = "mlk_"

#: Words beside feeds that a token may carry: to ask the registry of residents over FHIR, and to merge in it;
#: to see and mend quality tickets, and to decide on waivers; to propose changes of
#: quality rules, and to publish them.
SCOPES = frozenset({"empi", "empi-merge", "tickets", "tickets-approve", "rules", "rules-approve"})

# made once: SQLAlchemy then need not find out at each request that it knows the statement
_BY_DIGEST = select(ops.client_token).where(ops.client_token.c.digest == bindparam("given"))


@dataclass(frozen=True)
class Client:
    """Who comes: an institution, for these feeds and scopes. ``note``: what its token was made for."""

    token_id: str
    org_code: str
    feeds: frozenset[str]
    note: str = ""


def _digest(word: str) -> str:
    return crypto.token("client-token", word)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def create(org_code: str, feeds: Sequence[str], *, days: int = 365, note: str = "") -> tuple[str, str]:
    """Make a token; returns its id and the token itself, which nobody can read again.

    Raises:
        MedlakeError: E273 no such institution, or no time to live; E102 no such feed or scope.
    """
    if org_code not in registry.org_codes():
        raise MedlakeError("E273", detail=f"institution {org_code}")
    if not feeds or days < 1:
        raise MedlakeError("E273", detail="no feed, or no day to live")
    for feed in set(feeds) - SCOPES:
        contracts.contract(feed)
    now = datetime.now(UTC)
    token_id, word = secrets.token_hex(4), _PREFIX + secrets.token_urlsafe(32)
    with ops.engine().begin() as connection:
        connection.execute(
            insert(ops.client_token).values(
                token_id=token_id,
                digest=_digest(word),
                org_code=org_code,
                feeds=" ".join(sorted(set(feeds))),
                note=note[:200],
                created_at=now,
                expires_at=now + timedelta(days=days),
                revoked_at=None,
            )
        )
    return token_id, word


def check(word: str) -> Client:
    """Who holds this token.

    Raises:
        MedlakeError: E273, nobody does, or it has expired or was revoked.
    """
    with ops.reader().connect() as connection:
        given = {"given": _digest(word)}
        row = connection.execute(_BY_DIGEST, given).one_or_none() if word.startswith(_PREFIX) else None
    if row is None:
        raise MedlakeError("E273", detail="unknown")
    if row.revoked_at is not None:
        raise MedlakeError("E273", detail="revoked")
    if _aware(row.expires_at) <= datetime.now(UTC):
        raise MedlakeError("E273", detail="expired")
    return Client(row.token_id, row.org_code, frozenset(row.feeds.split()), row.note)


async def known(word: str) -> Client:
    """:func:`check` for a server: SQLite's readers wait for nobody, so that a thread would cost more than the look-up."""
    if ops.reader().dialect.name == "sqlite":
        return check(word)
    return await run_in_threadpool(check, word)


def listed() -> list[dict[str, Any]]:
    """All tokens without what they are."""
    now = datetime.now(UTC)
    with ops.engine().begin() as connection:
        rows = connection.execute(select(ops.client_token).order_by(ops.client_token.c.created_at)).all()
    return [
        {
            "token_id": r.token_id,
            "org_code": r.org_code,
            "feeds": r.feeds,
            "note": r.note,
            "created_at": _aware(r.created_at).isoformat(timespec="seconds"),
            "expires_at": _aware(r.expires_at).isoformat(timespec="seconds"),
            "state": "revoked" if r.revoked_at else "expired" if _aware(r.expires_at) <= now else "valid",
        }
        for r in rows
    ]


def revoke(token_id: str) -> None:
    """Close a token; doing it again changes nothing.

    Raises:
        MedlakeError: E273, there is none.
    """
    where = ops.client_token.c.token_id == token_id
    with ops.engine().begin() as connection:
        if connection.execute(select(ops.client_token.c.token_id).where(where)).one_or_none() is None:
            raise MedlakeError("E273", detail=f"token {token_id}")
        open_ = where & ops.client_token.c.revoked_at.is_(None)
        connection.execute(update(ops.client_token).where(open_).values(revoked_at=datetime.now(UTC)))
