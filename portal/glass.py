"""Break-glass: one resident, opened by a doctor for a stated reason, told to the security administrator at once."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from lake import access_scope, audit, ops
from lake.access import Caller
from lake.access_policy import policy, role
from lake.access_tables import glass_grant as grant
from lake.errors import MedlakeError
from portal.account_store import aware
from portal.accounts import Person


def caller_of(person: Person, purpose: str = "", subject: str = "") -> Caller:
    """Who asks, for the policy. ``subject``: a resident whom an open break-glass of this person is for.

    Raises:
        MedlakeError: E685, there is no open one.
    """
    if not subject:
        return Caller(person.user, person.role, person.org_code, purpose)
    with ops.reader().connect() as connection:
        mine = (grant.c.user == person.user) & (grant.c.role == person.role) & (grant.c.empi_id == subject)
        ends = connection.execute(select(grant.c.ends_at).where(mine)).scalars().all()
    if not any(aware(end) > datetime.now(UTC) for end in ends):
        raise MedlakeError("E685")
    return Caller(person.user, person.role, person.org_code, "break_glass", True, subject)


def open_for(person: Person, empi_id: str, reason: str, source_ip: str) -> str:
    """Open a resident's record for the policy's minutes; grant, audit and notice in one transaction.

    Raises:
        MedlakeError: E681 not this role; E690 no reason worth the name, or no resident.
    """
    rule, known = policy(), role(person.role)
    if known is None or not known.may_break_glass:
        raise MedlakeError("E681", table="break_glass")
    if len(reason.strip()) < rule.glass_reason_min or len(reason) > 500:
        raise MedlakeError("E690", detail=f"理由至少 {rule.glass_reason_min} 字 / a reason")
    if not (empi_id.isascii() and empi_id.isalnum() and 0 < len(empi_id) <= 32):
        raise MedlakeError("E690", detail="居民主索引号 / the resident's index number")
    now, grant_id = datetime.now(UTC), secrets.token_hex(8)
    with ops.engine().begin() as connection:
        connection.execute(
            insert(grant).values(
                grant_id=grant_id, user=person.user, role=person.role, org_code=person.org_code, empi_id=empi_id,
                reason=reason.strip(), opened_at=now, ends_at=now + timedelta(minutes=rule.glass_minutes),
                reviewed_by=None, reviewed_at=None,
            )
        )  # fmt: skip
        connection.execute(
            insert(ops.work_request).values(
                request_key=f"break_glass:{grant_id}", kind="break_glass", org_code=access_scope.root(),
                severity="high", subject=grant_id,
                payload=json.dumps({"grant_id": grant_id, "user": person.user, "opened_in": person.org_code}),
                occurred_at=now, requested_at=now, origin="portal", taken_at=None,
            )
        )  # fmt: skip
        audit.record(
            "break_glass.open", actor=person.user, purpose="break_glass", tables=["ops/glass_grant"], fields=[], rows=1,
            result="ok", connection=connection, actor_role=person.role, org_code=person.org_code, source_ip=source_ip,
            grant=grant_id, persons=[empi_id],
        )  # fmt: skip
    return grant_id


def listed(user: str = "") -> list[dict[str, Any]]:
    """Break-glass of one person of the staff, or of all (for the security administrator), newest first."""
    query = select(grant).order_by(grant.c.opened_at.desc()).limit(200)
    with ops.reader().connect() as connection:
        rows = connection.execute(query.where(grant.c.user == user) if user else query).all()
    now = datetime.now(UTC)
    return [dict(r._mapping) | {"is_open": aware(r.ends_at) > now} for r in rows]


def review(grant_id: str, *, by: str) -> None:
    """The security administrator has looked at it (E691: there is none, or it was)."""
    now = datetime.now(UTC)
    with ops.engine().begin() as connection:
        waiting = (grant.c.grant_id == grant_id) & grant.c.reviewed_at.is_(None)
        done = connection.execute(update(grant).where(waiting).values(reviewed_by=by, reviewed_at=now))
        if done.rowcount != 1:
            raise MedlakeError("E691", user="break-glass")
        audit.record("break_glass.review", actor=by, purpose="access", tables=["ops/glass_grant"], fields=[], rows=1,
            result="ok", connection=connection, actor_role="security_admin", grant=grant_id)  # fmt: skip
