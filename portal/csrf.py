"""Forms of this portal alone: a token bound to the session stands in every form, or in a header of every script's call.

A page of another site can make a browser send our cookie (or HTTP Basic's words), yet it cannot read the token.
"""

from __future__ import annotations

import hmac
import re
from urllib.parse import parse_qs

from markupsafe import Markup
from starlette.requests import Request

from lake import crypto

FIELD = "csrf"
HEADER = "x-csrf-token"

#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Forms without files are small; a larger one carries its token in the header.
_FORM_LIMIT = 1024 * 1024


def make(session: str) -> str:
    """The token of a session (its public id), or of the user of a call with HTTP Basic (``basic:<user>``)."""
    return crypto.token("csrf", session)


def token(request: Request) -> str:
    """The token that forms of this answer carry; empty where nobody is known."""
    bound = getattr(request.state, "session_key", "")
    return make(bound) if bound else ""


def hidden_input(request: Request) -> Markup:
    """``<input type=hidden>`` for a form (``{{ csrf_input }}`` in templates)."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, token(request))


def is_right(session: str, content_type: str, header: str, body: bytes) -> bool:
    """Whether a request that changes something carries its session's token: in the header, or in its form."""
    expected = make(session)
    if header:
        return hmac.compare_digest(header.encode(), expected.encode())
    kind = content_type.split(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and len(body) <= _FORM_LIMIT:
        given = parse_qs(body.decode("utf-8", "replace"), max_num_fields=2000).get(FIELD, [])
        return len(given) == 1 and hmac.compare_digest(given[0].encode(), expected.encode())
    if kind == "multipart/form-data":
        # the token is a secret of 26 characters: a part of this name with this content is no accident
        part = rb'name="csrf"\r\n\r\n' + re.escape(expected.encode()) + rb"\r\n"
        return re.search(part, body) is not None
    return False
