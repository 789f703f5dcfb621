"""A person asking the portal in process: demo accounts, with the form's token on what changes something."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient


def word(user: str) -> str:
    from portal import accounts

    return str(json.loads(accounts.ensure().read_text("utf-8"))[user])


class Asked:
    """``get`` and ``post`` as a demo account."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def get(self, user: str, path: str) -> Any:
        return self.client.get(path, auth=(user, word(user)))

    def post(self, user: str, path: str, data: dict[str, str] | None = None, **more: Any) -> Any:
        from portal import csrf

        given = {"csrf": csrf.make(f"basic:{user}")} | (data or {})
        return self.client.post(path, data=given, auth=(user, word(user)), **more)

    def text(self, user: str, path: str) -> str:
        return html.unescape(self.get(user, path).text)


@contextmanager
def home_of(folder: Path) -> Iterator[None]:
    """A home of one's own for a module's tests."""
    from lake.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(folder / "var"))
        settings.cache_clear()
        yield
    settings.cache_clear()


@contextmanager
def portal() -> Iterator[Asked]:
    from portal import create_app

    with TestClient(create_app(), base_url="http://127.0.0.1") as made:
        yield Asked(made)


def figures(page: str) -> dict[str, str]:
    """The figures and facts of a page: label -> value."""
    return {k: v.strip() for k, v in re.findall(r"<dt>([^<]+)</dt><dd[^>]*>\s*([^<]*?)\s*<", page)}
