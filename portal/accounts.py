"""The demo accounts: four roles, each with a password made on first use and kept under ``home/secrets`` (0600)."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.settings import settings

#: Role -> its name on the page. The demo has one account per role, called as the role.
ROLES: dict[str, str] = {
    "steward": "数据管家",
    "executive": "院领导",
    "officer": "公卫专员",
    "researcher": "科研人员",
}

#: No look-alike characters: the password is read off a terminal and typed.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_PER_PROCESS = secrets.token_bytes(16)


@dataclass(frozen=True)
class Person:
    """Who is at the door."""

    user: str
    role: str

    @property
    def role_zh(self) -> str:
        return ROLES[self.role]


def path() -> Path:
    """The file with the passwords: a JSON object user -> password."""
    return settings().secrets_dir / "portal.json"


def ensure() -> Path:
    """Make the passwords on first use; two processes that ask at once get the same ones. Returns the file."""
    target = path()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = {user: "".join(secrets.choice(_ALPHABET) for _ in range(14)) for user in ROLES}
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(made, file, indent=2)
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
    """Who this is, or None. Takes as long for an unknown user as for a wrong password.

    Raises:
        MedlakeError: E660, the passwords cannot be read.
    """
    file = ensure()
    known = _digests(str(file), file.stat().st_mtime_ns)
    expected = known.get(user, "0" * 64)
    same = hmac.compare_digest(_digest(word), expected)
    return Person(user, user) if same and user in known else None
