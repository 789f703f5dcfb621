"""An ID token is believed only when everything about it is right (OpenID Connect Core 3.1.3.7)."""

from __future__ import annotations

import hmac
import time
from typing import Any

from lake.errors import MedlakeError

#: Asymmetric algorithms alone: "none", or a public key taken as an HMAC secret, are refused.
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
#: Seconds that two clocks may differ.
_LEEWAY = 30


def checked(token: str, keys: dict[str, Any], *, issuer: str, client: str, nonce: str) -> dict[str, Any]:
    """The claims of a token: signed by one of ``keys`` (a JWK set), by this issuer, for this client alone, not expired,
    not from the future, and the answer to this very request (``nonce``).

    Raises:
        MedlakeError: E693 with the step that failed; nothing of the token is in it.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    try:
        claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS).claims  # type: ignore[arg-type]
        jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        ).validate(claims)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise MedlakeError("E693", detail=type(error).__name__) from error
    given = claims["aud"]
    audience = [given] if isinstance(given, str) else list(given)
    if audience != [client] or claims.get("azp", client) != client:  # a token that others may use too
        raise MedlakeError("E693", detail="audience")
    if float(claims["iat"]) > time.time() + _LEEWAY or not isinstance(claims["sub"], str):
        raise MedlakeError("E693", detail="claims")
    if not nonce or not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise MedlakeError("E693", detail="nonce")
    return dict(claims)
