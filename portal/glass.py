"""Break-glass: one resident's records for one doctor, for so long, with a reason, told at once and judged afterwards.

The grant, the notice (worklist kind ``break_glass``) and the audit entry are one transaction: no access without notice.
What it opens is the policy's (``lake.access``, purpose ``break_glass``); whom it concerns no administrator learns.
Instants are UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update

from lake import audit, ops
from lake.access import Caller
from lake.access_policy import policy, role
from lake.access_tables import glass_grant
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from portal import glass_records
from portal.account_store import aware
from portal.accounts import Person
from portal.throttle import Throttle
from worklist import making, store
from worklist.making import Asked

KIND = "break_glass"

#: Tries of one person: ten at once, then one a minute; who guesses numbers waits.
_tries = Throttle(1 / 60, 10)
_g = glass_grant.c


def may_ask(person: Person) -> bool:
    known = role(person.role)
    return known is not None and known.may_break_glass


def minutes(at: datetime | None = None) -> int:
    """How long an access lasts that is opened now."""
    return policy().glass_minutes((at or datetime.now(UTC)).astimezone(SHANGHAI).date())


def request_key(grant_id: str) -> str:
    return f"{KIND}|{grant_id}"


def note(person: Person, action: str, source_ip: str, **details: Any) -> None:
    """One entry of the audit: what this person did, when not said otherwise with no rows and well."""
    plain: dict[str, Any] = {"tables": ["glass_grant"], "fields": [], "rows": 0, "result": "ok"}
    audit.record(
        f"{KIND}.{action}",
        **plain | details,
        actor=person.user,
        purpose=KIND,
        actor_role=person.role,
        org_code=person.org_code,
        source_ip=source_ip,
    )


def _refuse_incomplete(value: str, name: str, reason: str, text: str, at: datetime) -> None:
    if not value or not name:
        raise MedlakeError("E679", detail="号码与姓名都要填写")
    if reason not in policy().glass_reasons:
        raise MedlakeError("E679", detail="没有选择事由")
    if len(re.sub(r"\s", "", text)) < policy().glass_reason_min:
        raise MedlakeError("E679", detail=f"情况说明不足 {policy().glass_reason_min} 个字")
    if name in text or value.upper() in text.upper():
        raise MedlakeError("E679", detail="情况说明里有居民的姓名或号码")
    if minutes(at) <= 0:
        raise MedlakeError("E685")


def ask(
    person: Person,
    *,
    number_kind: str,
    value: str,
    name: str,
    reason: str,
    text: str,
    key: str,
    source_ip: str,
    at: datetime | None = None,
) -> str:
    """Open one resident for this person; returns the grant's number. The same form again, or the same resident while it
    is open, is the same grant: it is neither prolonged nor told twice.

    Args:
        number_kind: one of ``glass_records.NUMBERS``; ``value`` and ``name`` must both be the resident's.
        reason: one of the policy's; ``text``: the circumstances, without name or number.
        key: the form's own.

    Raises:
        MedlakeError: E692 not for this role; E679 incomplete; E688 too many tries; E677 no such resident; E608, E103.
    """
    now = at or datetime.now(UTC)
    if not may_ask(person):
        raise MedlakeError("E692", duty=KIND)
    value, name, text = value.strip(), name.strip(), text.strip()
    _refuse_incomplete(value, name, reason, text, now)
    if seconds := _tries.wait(person.user):
        raise MedlakeError("E688", seconds=int(seconds) + 1)
    grant_id = sm3_hex(f"{person.user}|{key}".encode())[:32]
    found = glass_records.resident(number_kind, value, name)
    if found is None:
        note(person, "refused", source_ip, result="unknown")
        raise MedlakeError("E677")
    reason_zh = f"{policy().glass_reasons[reason]}：{text}"[:1000]
    with store.begin() as connection:
        ops.exclusive(connection, f"glass.{person.user}")
        mine = (_g.user == person.user) & (
            (_g.grant_id == grant_id) | ((_g.empi_id == found.empi_id) & (_g.ends_at > now))
        )
        if there := connection.execute(select(_g.grant_id).where(mine)).first():
            return str(there.grant_id)
        ends = now + timedelta(minutes=minutes(now))
        connection.execute(
            insert(glass_grant).values(
                grant_id=grant_id,
                user=person.user,
                role=person.role,
                org_code=person.org_code,
                empi_id=found.empi_id,
                reason=reason_zh,
                opened_at=now,
                ends_at=ends,
            )
        )
        payload = {
            "title_zh": f"{policy().glass_reasons[reason]} · {person.user}",
            "owner_id": person.user,
            "asked_org": person.org_code,
            "reason_zh": policy().glass_reasons[reason],
            "ends_at": ends.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M"),
            "empi_id": found.empi_id,
        }
        notice = Asked(
            request_key(grant_id), KIND, found.org_code or person.org_code, "warn", f"glass/{grant_id[:8]}", now, now,
            "portal", payload, person.user, "attending_doctor",
        )  # fmt: skip
        making.insert_all(connection, [notice], now)
        persons = [found.empi_id]
        note(person, "open", source_ip, connection=connection, grant=grant_id, persons=persons)
    return grant_id


def _live(person: Person, grant_id: str, now: datetime) -> Row[Any]:
    """The grant as it stands in the database.

    Raises:
        MedlakeError: E685, there is none, it is another's, or it is over; the same words for all three.
    """
    with ops.reader().connect() as connection:
        row = connection.execute(select(glass_grant).where(_g.grant_id == grant_id)).one_or_none()
    same = row is not None and (row.user, row.role, row.org_code) == (
        person.user,
        person.role,
        person.org_code,
    )
    if row is None or not same or not may_ask(person) or aware(row.ends_at) <= now:
        raise MedlakeError("E685")
    return row


def records(person: Person, grant_id: str, source_ip: str, at: datetime | None = None) -> dict[str, Any]:
    """The resident's records under a grant; told to the audit before they are returned.

    Raises:
        MedlakeError: E685.
    """
    row = _live(person, grant_id, at or datetime.now(UTC))
    caller = Caller(
        person.user, person.role, person.org_code, KIND, is_broken_glass=True, subject=row.empi_id
    )
    found = glass_records.records(caller)
    what = {name: found[name] for name in ("tables", "fields", "rows")}
    note(person, "read", source_ip, grant=grant_id, persons=[row.empi_id], **what)
    return found | {"ends_at": aware(row.ends_at), "reason": row.reason}


def close(person: Person, grant_id: str, source_ip: str, at: datetime | None = None) -> None:
    """Give an access back before its time.

    Raises:
        MedlakeError: E685.
    """
    now = at or datetime.now(UTC)
    _live(person, grant_id, now)
    with ops.engine().begin() as connection:
        connection.execute(
            update(glass_grant).where(_g.grant_id == grant_id, _g.ends_at > now).values(ends_at=now)
        )
        note(person, "close", source_ip, connection=connection, grant=grant_id)


def open_now(person: Person, at: datetime | None = None) -> list[tuple[str, datetime]]:
    """Open accesses of a person: (number, until when), the longest first. Every page's banner asks this."""
    if not may_ask(person):
        return []
    mine = (_g.user == person.user) & (_g.ends_at > (at or datetime.now(UTC)))
    query = select(_g.grant_id, _g.ends_at).where(mine).order_by(_g.ends_at.desc())
    with ops.reader().connect() as connection:
        return [(row.grant_id, aware(row.ends_at)) for row in connection.execute(query)]
