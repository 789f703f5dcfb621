"""A browser for tests: the portal's application in this process, asked as one of the demo accounts."""

from __future__ import annotations

import base64
import json

from starlette.testclient import TestClient

from portal import accounts
from portal.app import create_app


def client(user: str) -> TestClient:
    """The application as ``user`` sees it; a refusal is an answer, a redirect is not followed."""
    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    word = json.loads(accounts.ensure().read_text("utf-8"))[user]
    made.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
    return made
