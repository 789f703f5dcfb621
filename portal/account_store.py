"""Local accounts in the operational database: made, activated, locked, reset; and their passwords checked.

A wrong password is counted before it is checked, so that attempts at once do not get more tries than one after another.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, case, insert, select, update

from lake import access_scope, audit, ops
from lake.access_policy import policy, role
from lake.access_tables import portal_account as account
from lake.access_tables import portal_session as session
from lake.errors import MedlakeError
from portal import passwords, second_factor

_USER = re.compile(r"^[a-z][a-z0-9._-]{2,63}$")


def aware(at: datetime) -> datetime:
    """An instant of the database (SQLite forgets the zone) in UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _noted(action: str, actor: str, user: str, result: str = "ok", **details: Any) -> dict[str, Any]:
    entry = {
        "action": f"account.{action}",
        "actor": actor,
        "purpose": "access",
        "tables": ["ops/portal_account"],
    }
    return entry | {"fields": [], "rows": 1, "result": result, "account": user} | details


def create(
    user: str, name: str, role_code: str, org_code: str, *, by: str, state: str = "active", oidc: str = "",
    empi_id: str = "", word: str = "",
) -> str:  # fmt: skip
    """Make an account; returns its first password, to be changed at the first login (``word``: give one).

    ``state``: ``waiting`` when another administrator must activate it. ``oidc``: ``issuer|sub``, then no password.

    Raises:
        MedlakeError: E690, the name, role or institution is not one, or the user exists.
    """
    known = role(role_code)
    if not _USER.match(user):
        raise MedlakeError("E690", detail="账号为 3-64 位小写字母、数字、._- / user name")
    if known is None:
        raise MedlakeError("E690", detail=f"角色 / role: {', '.join(policy().roles)}")
    if not access_scope.below(org_code):
        raise MedlakeError("E690", detail="没有该机构 / no such institution")
    if not name.strip() or len(name) > 100:
        raise MedlakeError("E690", detail="姓名必填 / a name")
    first = word or ("" if oidc else f"{secrets.token_urlsafe(12)}-Aa1")
    if first:
        passwords.check_strength(user, first)
    now = datetime.now(UTC)
    row = {
        "user": user, "name": name.strip(), "role": role_code, "org_code": org_code, "state": state,
        "password": passwords.keep(first) if first else "", "must_change": bool(first), "totp": "", "totp_step": 0,
        "recovery": "[]", "failed": 0, "locked_until": None, "oidc_subject": oidc or None, "empi_id": empi_id or None,
        "created_by": by, "created_at": now, "changed_at": now}  # fmt: skip
    with ops.engine().begin() as connection:
        taken = select(account.c.user).where(
            (account.c.user == user)
            | (account.c.oidc_subject == (oidc or None) if oidc else account.c.user == user)
        )
        if connection.execute(taken).first():
            raise MedlakeError("E690", detail="账号已存在 / it exists")
        connection.execute(insert(account).values(row))
        noted = _noted("create", by, user, state, account_role=role_code, account_org=org_code)
        audit.record_all([noted], connection=connection)
    return first


def get(user: str) -> Row[Any] | None:
    with ops.reader().connect() as connection:
        return connection.execute(select(account).where(account.c.user == user)).one_or_none()


def by_subject(subject: str) -> Row[Any] | None:
    """The account bound to an OIDC identity (``issuer|sub``)."""
    with ops.reader().connect() as connection:
        return connection.execute(select(account).where(account.c.oidc_subject == subject)).one_or_none()


def listed() -> list[dict[str, Any]]:
    """All accounts, without anything secret."""
    now = datetime.now(UTC)
    with ops.reader().connect() as connection:
        rows = connection.execute(select(account).order_by(account.c.user)).all()
    return [
        {
            "user": r.user, "name": r.name, "role": r.role, "org_code": r.org_code,
            "state": "locked" if r.locked_until and aware(r.locked_until) > now else r.state,
            "second_factor": bool(r.totp), "login": "oidc" if r.oidc_subject and not r.password else "password",
            "created_by": r.created_by, "created_at": aware(r.created_at).isoformat(timespec="seconds"),
        }
        for r in rows
    ]  # fmt: skip


def _change(user: str, action: str, by: str, values: dict[str, Any], *, states: tuple[str, ...] = ()) -> None:
    """One change of an account, its sessions ended, noted in the audit, in one transaction."""
    now = datetime.now(UTC)
    with ops.engine().begin() as connection:
        where = account.c.user == user
        if states:
            where &= account.c.state.in_(states)
        done = connection.execute(update(account).where(where).values(**values, changed_at=now))
        if done.rowcount != 1:
            raise MedlakeError("E691", user=user if _USER.match(user) else "?")
        live = (session.c.user == user) & session.c.ended_at.is_(None)
        connection.execute(update(session).where(live).values(ended_at=now))
        audit.record_all([_noted(action, by, user)], connection=connection)


def activate(user: str, *, by: str) -> None:
    """Let a proposed account in. Who proposed it cannot activate it, nor oneself.

    Raises:
        MedlakeError: E691 it does not wait; E692 one's own proposal.
    """
    found = get(user)
    if found is not None and by in (found.created_by, user):
        raise MedlakeError("E692", duty="account.activate")
    _change(user, "activate", by, {"state": "active"}, states=("waiting",))


def move(user: str, role_code: str, org_code: str, *, by: str) -> None:
    """Another role or institution; sessions of before end (E691: there is no such account)."""
    _change(user, "move", by, {"role": role_code, "org_code": org_code}, states=("active",))


def lock(user: str, *, by: str) -> None:
    """Close an account at once, with all its sessions (E691: there is none)."""
    _change(user, "lock", by, {"state": "locked"})


def reset(user: str, *, by: str, factor: bool = True) -> str:
    """A new first password, the lock opened, the second factor (``factor``) taken off. Returns the password.

    Raises:
        MedlakeError: E691, there is none, or it waits for activation.
    """
    word = f"{secrets.token_urlsafe(12)}-Aa1"
    values: dict[str, Any] = {"password": passwords.keep(word), "must_change": True, "failed": 0,
        "locked_until": None, "state": "active"}  # fmt: skip
    if factor:
        values |= {"totp": "", "recovery": "[]"}
    _change(user, "reset", by, values, states=("active", "locked"))
    return word


def change_password(user: str, old: str, new: str) -> None:
    """A person changes their own password.

    Raises:
        MedlakeError: E690, the old one is wrong or the new one too weak.
    """
    found = get(user)
    passwords.check_strength(user, new)
    if not reserve(user) or found is None or not passwords.is_right(found.password, old):
        raise MedlakeError("E690", detail="原口令不正确 / the old password is wrong")
    if old == new:
        raise MedlakeError("E690", detail="新口令与原口令相同 / the same as before")
    _change(user, "password", user, {"password": passwords.keep(new), "must_change": False, "failed": 0})


def reserve(user: str) -> bool:
    """Count an attempt before it is checked; False when the account is locked. A lock that ran out starts anew."""
    now, rule = datetime.now(UTC), policy().login
    until = now + timedelta(minutes=rule["lock_minutes"])
    mine = account.c.user == user
    with ops.engine().begin() as connection:
        over = mine & account.c.locked_until.is_not(None) & (account.c.locked_until <= now)
        connection.execute(update(account).where(over).values(failed=0, locked_until=None))
        free = mine & (account.c.state == "active") & (account.c.failed < rule["attempts"])
        done = connection.execute(
            update(account)
            .where(free)
            .values(
                failed=account.c.failed + 1,
                locked_until=case(
                    (account.c.failed + 1 >= rule["attempts"], until), else_=account.c.locked_until
                ),
            )
        )
    return done.rowcount == 1


def cleared(user: str) -> None:
    """An attempt was right: the count starts anew."""
    with ops.engine().begin() as connection:
        connection.execute(update(account).where(account.c.user == user).values(failed=0, locked_until=None))


def checked(user: str, word: str) -> Row[Any] | None:
    """The account whose password this is, or None: unknown, wrong, locked, not active. One time for all of these."""
    found = get(user) if _USER.match(user) else None
    free = reserve(user)  # for an unknown user too: it takes as long
    right = passwords.is_right(found.password if found is not None else "", word)
    if found is None or not free or not right:
        return None
    cleared(user)
    return found


def take_code(user: str, code: str) -> bool:
    """Whether a TOTP or recovery code is right; each works once, wrong ones count towards the lock."""
    found = get(user)
    if found is None or not found.totp or not reserve(user):
        return False
    step = second_factor.step_of(second_factor.unseal(user, found.totp), code, after=found.totp_step)
    left = None if step else second_factor.without(user, found.recovery, code)
    if step is None and left is None:
        return False
    with ops.engine().begin() as connection:
        # of two requests with the same code one finds the step or the list changed
        same = (account.c.user == user) & (account.c.totp_step == found.totp_step)
        same &= account.c.recovery == found.recovery
        values: dict[str, Any] = {"failed": 0, "locked_until": None}
        values["totp_step" if step else "recovery"] = step or left
        return connection.execute(update(account).where(same).values(values)).rowcount == 1


def enrol(user: str, secret: str, code: str) -> list[str] | None:
    """Put a second factor on; returns the recovery codes, or None when the code is not the secret's."""
    step = second_factor.step_of(secret, code, after=0)
    if step is None:
        return None
    shown, stored = second_factor.recovery_codes(user)
    sealed = second_factor.seal(user, secret)
    with ops.engine().begin() as connection:
        connection.execute(
            update(account)
            .where(account.c.user == user)
            .values(totp=sealed, totp_step=step, recovery=stored, changed_at=datetime.now(UTC))
        )
        audit.record_all([_noted("enrol", user, user)], connection=connection)
    return shown
