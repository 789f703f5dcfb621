"""Who comes to the door: the person's shape, and the demo accounts, one a role.

A demo account's password is made on first use and kept under ``home/secrets`` (0600). It opens the demo on this
machine and nothing else: where the portal is in production, listens beyond loopback or stands behind a proxy, demo
passwords are refused (:func:`is_demo`). Local accounts are in ``portal.account_store``.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lake import access_policy
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.settings import settings

#: Role -> its name on the page. The demo has one account per role, called as the role.
ROLES: dict[str, str] = {code: role.label_zh for code, role in access_policy.policy().roles.items()}

#: Demo accounts whose work is in an institution; all others belong to the root of the tree.
_DEMO_ORGS = {"doctor": "C201", "pharmacist": "C201"}

#: No look-alike characters: the password is read off a terminal and typed.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_PER_PROCESS = secrets.token_bytes(16)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

#: Headers that only a proxy sets.
_PROXIED = ("x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host")


@dataclass(frozen=True)
class Person:
    """Who is at the door. ``org_code``: the institution they work for; the root of the tree for group-wide roles."""

    user: str
    role: str
    org_code: str = ""
    name: str = ""

    @property
    def role_zh(self) -> str:
        return ROLES.get(self.role, self.role)


def is_demo(headers: Mapping[str, str] | None = None) -> bool:
    """Whether demo passwords open anything: demo mode, bound to loopback, asked without a proxy in between."""
    mine = settings()
    if mine.portal_mode != "demo" or mine.host not in _LOOPBACK:
        return False
    return not any(name in (headers or {}) for name in _PROXIED)


def demo_person(user: str) -> Person:
    """The demo account of a role."""
    from lake import access_scope

    org = _DEMO_ORGS.get(user) or access_scope.root()
    return Person(user, user, org, f"演示{ROLES[user]}")


def path() -> Path:
    """The file with the passwords: a JSON object user -> password."""
    return settings().secrets_dir / "portal.json"


def _made() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(14))


def _write(target: Path, words: dict[str, Any]) -> Path:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(words, file, indent=2)
    return draft


def ensure() -> Path:
    """Make the passwords on first use; two processes that ask at once get the same ones. Returns the file.

    A file of an older release gains the roles that it does not know; one that is none is left to :func:`check`.
    """
    target = path()
    if target.exists():
        try:
            words = json.loads(target.read_text("utf-8"))
        except (OSError, ValueError):
            return target
        if isinstance(words, dict) and words.keys() & ROLES.keys() and not ROLES.keys() <= words.keys():
            _write(target, words | {user: _made() for user in ROLES if user not in words}).replace(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _write(target, {user: _made() for user in ROLES})
    try:
        os.link(draft, target)
    except FileExistsError:
        pass
    draft.unlink()
    return target


def _digest(word: str) -> str:
    return sm3_hex(_PER_PROCESS + word.encode())


@lru_cache(maxsize=4)
def _digests(file: str, _changed: int) -> dict[str, str]:
    try:
        words = json.loads(Path(file).read_text("utf-8"))
        return {user: _digest(words[user]) for user in ROLES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MedlakeError("E660", place=file, path=Path(file).name) from error


def check(user: str, word: str) -> Person | None:
    """Whose demo password this is, or None. Takes as long for an unknown user as for a wrong password.

    The caller asks :func:`is_demo` first.

    Raises:
        MedlakeError: E660, the passwords cannot be read.
    """
    file = ensure()
    known = _digests(str(file), file.stat().st_mtime_ns)
    expected = known.get(user, "0" * 64)
    same = hmac.compare_digest(_digest(word), expected)
    return demo_person(user) if same and user in known else None
