"""A browser for tests: the portal's application in this process, asked as one of the demo accounts."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from pathlib import Path

from fastapi import FastAPI
from starlette.testclient import TestClient

from lake.settings import settings
from portal import accounts
from portal.app import create_app


@lru_cache(maxsize=2)
def _application(_home: Path) -> FastAPI:
    """One application a home: making it costs more than a page."""
    return create_app()


def client(user: str) -> TestClient:
    """The application as ``user`` sees it; a refusal is an answer, a redirect is not followed."""
    made = TestClient(_application(settings().home), raise_server_exceptions=False, follow_redirects=False)
    word = json.loads(accounts.ensure().read_text("utf-8"))[user]
    made.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
    return made
