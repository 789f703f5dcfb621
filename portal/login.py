"""From a name and a password to a session: demo or local account, second factor where the role needs one."""

from __future__ import annotations

from typing import Any

from lake import audit
from lake.access_policy import role
from portal import account_store, accounts, second_factor, sessions
from portal.accounts import Person

#: An enrolment's secret is shown before it is stored; it waits sealed in the form, bound to its session.
_BOUND = "enrol|"


def noted(action: str, person: Person | None, source_ip: str, result: str, **details: Any) -> None:
    """An entry of the audit about coming and going. An unknown user's name is not kept: it may be a password."""
    audit.record(
        action,
        actor=person.user if person else "unknown",
        purpose="access",
        tables=[],
        fields=[],
        rows=0,
        result=result,
        actor_role=person.role if person else "",
        org_code=person.org_code if person else "",
        source_ip=source_ip,
        **details,
    )


def person_of(row: Any) -> Person:
    return Person(row.user, row.role, row.org_code, row.name)


def stage_of(row: Any) -> str:
    """What is still missing after the password: ``factor``, ``enrol``, ``change`` or nothing (``full``)."""
    known = role(row.role)
    if row.totp:
        return "factor"
    if known is None or known.needs_second_factor:
        return "enrol"
    return "change" if row.must_change and row.password else "full"


def log_in(user: str, word: str, source_ip: str, *, is_demo: bool, before: str = "") -> str | None:
    """Check a name and a password; returns the cookie's word of a new session, or None.

    ``before``: the word of a session that the browser already has: it ends. Every attempt is audited.
    """
    if is_demo and (person := accounts.check(user, word)) is not None:
        noted("login", person, source_ip, "ok", way="demo")
        return sessions.begin(person, "full", source_ip, instead_of=before)
    row = account_store.checked(user, word)
    if row is None:
        found = account_store.get(user)
        noted("login", person_of(found) if found is not None else None, source_ip, "refused", way="password")
        return None
    stage = stage_of(row)
    noted("login", person_of(row), source_ip, stage, way="password")
    return sessions.begin(person_of(row), stage, source_ip, instead_of=before)


def after_factor(person: Person, word: str, source_ip: str) -> str:
    """The session after a right second factor, in place of the one before."""
    row = account_store.get(person.user)
    stage = "change" if row is not None and row.must_change and row.password else "full"
    noted("login.factor", person, source_ip, stage)
    return sessions.begin(person, stage, source_ip, instead_of=word)


def sealed_secret(session_key: str) -> tuple[str, str]:
    """A fresh TOTP secret, and the same sealed for the form that brings it back."""
    secret = second_factor.new_secret()
    return secret, second_factor.seal(_BOUND + session_key, secret)


def opened_secret(session_key: str, sealed: str) -> str | None:
    """The secret that a form brought back, or None when it is not this session's."""
    from cryptography.exceptions import InvalidTag

    try:
        return second_factor.unseal(_BOUND + session_key, sealed)
    except (InvalidTag, ValueError):
        return None
