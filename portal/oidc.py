"""Single sign-on by OpenID Connect: authorization code with PKCE, state and nonce.

The issuer says who somebody is. What they may do is the local account's that is bound to ``issuer|sub``
(:mod:`portal.oidc_accounts`). A role that needs a second factor is asked for ours unless the issuer says (``amr``) that it
has asked for one. Tokens are checked in :mod:`portal.oidc_tokens`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse

from lake import crypto
from lake.access_policy import role
from lake.errors import MedlakeError
from lake.settings import settings
from portal import login, oidc_accounts, oidc_tokens, sessions, throttle

COOKIE = "medlake_oidc"

#: Seconds that a sign-on may take.
_PATIENCE = 600
#: What an issuer calls a second factor (RFC 8176).
_FACTORS = frozenset({"mfa", "otp", "hwk", "swk", "fpt", "face", "sc"})


def is_configured() -> bool:
    return bool(settings().oidc_issuer and settings().oidc_client_id)


def _secret() -> str:
    return (settings().secrets_dir / "oidc.key").read_text("utf-8").strip()


def _base(request: Request) -> str:
    return settings().portal_base_url.rstrip("/") or str(request.base_url).rstrip("/")


async def _json(client: Any, url: str) -> dict[str, Any]:
    answer = await client.get(url)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


async def _described(client: Any) -> dict[str, Any]:
    """The issuer's own description. It must be the issuer's whom the settings name."""
    issuer = settings().oidc_issuer.rstrip("/")
    found = await _json(client, f"{issuer}/.well-known/openid-configuration")
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise MedlakeError("E693", detail="issuer")
    return found


async def _issuer() -> dict[str, Any]:
    """:func:`_described` over a connection of its own (E697 not configured; E693 the issuer does not answer)."""
    import httpx

    if not is_configured():
        raise MedlakeError("E697")
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            return await _described(client)
    except (httpx.HTTPError, ValueError) as error:
        raise MedlakeError("E693", detail=type(error).__name__) from error


async def depart(request: Request, wanted: str) -> RedirectResponse:
    """To the issuer, with what must come back kept in a sealed cookie.

    Raises:
        MedlakeError: E697 not configured; E693 the issuer does not answer.
    """
    told = await _issuer()
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": settings().oidc_client_id,
        "redirect_uri": f"{_base(request)}/login/oidc/callback",
        "scope": "openid profile",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    kept = json.dumps(
        {"state": state, "nonce": nonce, "verifier": verifier, "next": wanted, "at": time.time()}
    )
    sealed = crypto.sm4_seal(crypto.secret("oidc-cookie", 16), kept.encode(), b"oidc")
    answer = RedirectResponse(f"{told['authorization_endpoint']}?{urlencode(asked)}", 303)
    answer.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(sealed).decode(),
        httponly=True,
        samesite="lax",  # the issuer sends the browser back by a navigation
        secure=throttle.is_https(request),
        path="/login",
        max_age=_PATIENCE,
    )
    return answer


async def leave(request: Request) -> RedirectResponse:
    """To the issuer's own logout, which asks the person and comes back; an issuer without one: to the login page.

    A link and not the answer to ``/logout``: the content-security policy lets no form end at another server.
    """
    told = await _issuer()
    back = f"{_base(request)}/login"
    end = str(told.get("end_session_endpoint", ""))
    asked = urlencode({"client_id": settings().oidc_client_id, "post_logout_redirect_uri": back})
    return RedirectResponse(f"{end}?{asked}" if end else "/login", 303)


def _kept(request: Request) -> dict[str, Any]:
    """What the cookie kept; its state must be the one that came back."""
    from cryptography.exceptions import InvalidTag

    try:
        sealed = base64.urlsafe_b64decode(request.cookies.get(COOKIE, ""))
        kept: dict[str, Any] = json.loads(crypto.sm4_open(crypto.secret("oidc-cookie", 16), sealed, b"oidc"))
    except (InvalidTag, ValueError) as error:
        raise MedlakeError("E693", detail="state") from error
    same = hmac.compare_digest(str(kept["state"]).encode(), request.query_params.get("state", "").encode())
    if not same or time.time() - float(kept["at"]) > _PATIENCE:
        raise MedlakeError("E693", detail="state")
    return kept


async def _claims(request: Request, kept: dict[str, Any]) -> dict[str, Any]:
    """The checked claims of the ID token that the code is worth. Keys are fetched each time: a rotation needs nothing."""
    import httpx

    code = request.query_params.get("code", "")
    # RFC 9207: an answer that names its issuer must name ours
    named = request.query_params.get("iss", settings().oidc_issuer).rstrip("/")
    if not code or "error" in request.query_params or named != settings().oidc_issuer.rstrip("/"):
        raise MedlakeError("E693", detail="refused")
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            told = await _described(client)
            answer = await client.post(
                told["token_endpoint"],
                data={
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": f"{_base(request)}/login/oidc/callback",
                    "code_verifier": kept["verifier"],
                },
                auth=(settings().oidc_client_id, _secret()),
            )
            answer.raise_for_status()
            token = str(answer.json()["id_token"])
            keys = await _json(client, told["jwks_uri"])
    except (httpx.HTTPError, ValueError, KeyError, OSError) as error:
        raise MedlakeError("E693", detail=type(error).__name__) from error
    return oidc_tokens.checked(
        token, keys, issuer=str(told["issuer"]), client=settings().oidc_client_id, nonce=str(kept["nonce"])
    )


def _session(claims: dict[str, Any], source_ip: str, before: str) -> str:
    row = oidc_accounts.account_of(claims)
    if row is None:
        login.noted("login", None, source_ip, "refused", way="oidc")
        raise MedlakeError("E693", detail="account")
    known = role(row.role)
    has_factor = bool(_FACTORS & set(claims.get("amr") or []))
    needs = known is None or known.needs_second_factor
    stage = "full" if has_factor or not (needs or row.totp) else "factor" if row.totp else "enrol"
    person = login.person_of(row)
    login.noted("login", person, source_ip, stage, way="oidc")
    return sessions.begin(person, stage, source_ip, instead_of=before)


async def arrive(request: Request, source_ip: str) -> tuple[str, str]:
    """Back from the issuer: the cookie's word of a new session, and where the person wanted to go.

    Raises:
        MedlakeError: E693 with the step that failed, E697.
    """
    if not is_configured():
        raise MedlakeError("E697")
    try:
        kept = _kept(request)
        claims = await _claims(request, kept)
    except MedlakeError:
        await run_in_threadpool(login.noted, "login", None, source_ip, "refused", way="oidc")
        raise
    before = request.cookies.get(sessions.COOKIE, "")
    return await run_in_threadpool(_session, claims, source_ip, before), str(kept["next"])
