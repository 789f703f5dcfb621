"""The second factor: TOTP (RFC 6238) with a QR code, and recovery codes for the day the phone is lost."""

from __future__ import annotations

import io
import json
import secrets
import time

from lake import crypto
from lake.access_policy import policy

_STEP = 30


def new_secret() -> str:
    import pyotp

    return str(pyotp.random_base32())


def qr_svg(user: str, secret: str) -> str:
    """The QR code that an authenticator reads, as an SVG without script or style."""
    import pyotp
    import segno

    uri = pyotp.TOTP(secret).provisioning_uri(name=user, issuer_name="Medlake")
    out = io.BytesIO()
    segno.make(uri, error="m").save(out, kind="svg", scale=5, border=3, xmldecl=False, svgns=True)
    return out.getvalue().decode("utf-8")


def seal(user: str, secret: str) -> str:
    """The secret as it is stored: SM4-GCM under this installation's key, bound to the user."""
    return crypto.sm4_seal(crypto.secret("second-factor", 16), secret.encode(), user.encode()).hex()


def unseal(user: str, sealed: str) -> str:
    return crypto.sm4_open(crypto.secret("second-factor", 16), bytes.fromhex(sealed), user.encode()).decode()


def step_of(secret: str, code: str, *, after: int, now: float | None = None) -> int | None:
    """The 30-second step whose code this is (one step of tolerance either way), or None.

    ``after``: the last step that was taken; that one and those before are refused, so that a code works once.
    """
    import pyotp

    digits = "".join(code.split())
    if not (digits.isascii() and digits.isdigit() and len(digits) == 6):
        return None
    current = int((time.time() if now is None else now) // _STEP)
    otp = pyotp.TOTP(secret)
    found = None
    for step in (current - 1, current, current + 1):  # all three, whichever fits: the time tells nothing
        if secrets.compare_digest(otp.at(step * _STEP), digits) and step > after:
            found = step
    return found


def _digest(user: str, code: str) -> str:
    return crypto.token("recovery", f"{user}|{code.strip().lower().replace('-', '')}")


def recovery_codes(user: str) -> tuple[list[str], str]:
    """Fresh codes to print, and what is stored of them (JSON of keyed digests)."""
    raw = [secrets.token_hex(5) for _ in range(policy().login["recovery_codes"])]
    return [f"{c[:5]}-{c[5:]}" for c in raw], json.dumps([_digest(user, c) for c in raw])


def without(user: str, stored: str, code: str) -> str | None:
    """What is stored after a recovery code was used, or None when it is not one of them."""
    known: list[str] = json.loads(stored or "[]")
    given = _digest(user, code)
    return json.dumps([k for k in known if k != given]) if given in known else None
