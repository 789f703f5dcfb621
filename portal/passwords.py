"""How passwords are kept: Argon2id (RFC 9106), or PBKDF2 with HMAC-SM3 where 国密 is asked for. Never the password."""

from __future__ import annotations

import base64
import hmac
import os
import re
from functools import lru_cache

from lake.access_policy import policy
from lake.errors import MedlakeError
from lake.settings import settings

#: PBKDF2-HMAC-SM3: rounds that cost about as long as Argon2id's defaults do here. [K] OWASP asks >= 600,000 of SHA-256.
_ROUNDS = 600_000
_KINDS = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^a-zA-Z0-9]")


def check_strength(user: str, word: str) -> None:
    """Refuse a password that is short, of one kind of character, or the user's name.

    Raises:
        MedlakeError: E690 with what to change, never with the password.
    """
    least = policy().login["password_min"]
    kinds = sum(bool(re.search(k, word)) for k in _KINDS)
    if len(word) < least or len(word) > 200:
        raise MedlakeError("E690", detail=f"口令至少 {least} 位 / at least {least} characters")
    if kinds < 3 and len(word) < 20:
        raise MedlakeError("E690", detail="口令须含三类字符 / three kinds of characters")
    if user.lower() in word.lower() or len(set(word)) < 6:
        raise MedlakeError("E690", detail="口令过于简单 / too simple")


@lru_cache(maxsize=1)
def _argon():  # type: ignore[no-untyped-def]
    from argon2 import PasswordHasher

    return PasswordHasher()


def _sm3(word: str, salt: bytes, rounds: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SM3
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    return PBKDF2HMAC(SM3(), 32, salt, rounds).derive(word.encode())


def keep(word: str) -> str:
    """What is stored of a password, by the scheme of the settings."""
    if settings().password_scheme == "argon2id":
        return str(_argon().hash(word))
    salt = os.urandom(16)
    kept = base64.b64encode(_sm3(word, salt, _ROUNDS)).decode()
    return f"$pbkdf2-sm3${_ROUNDS}${base64.b64encode(salt).decode()}${kept}"


@lru_cache(maxsize=2)
def _nobody(_scheme: str) -> str:
    return keep(os.urandom(16).hex())


def is_right(kept: str, word: str) -> bool:
    """Whether a password is the one that is kept. Nothing kept costs as much time as a wrong password."""
    known = kept or _nobody(settings().password_scheme)
    if known.startswith("$pbkdf2-sm3$"):
        _, _, rounds, salt, digest = known.split("$")
        found = _sm3(word, base64.b64decode(salt), int(rounds))
        return hmac.compare_digest(found, base64.b64decode(digest)) and bool(kept)
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return bool(_argon().verify(known, word)) and bool(kept)
    except (VerificationError, InvalidHashError):
        return False
