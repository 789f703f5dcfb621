"""A real OpenID provider (npm's oidc-provider) on a free loopback port, with keys that the test holds too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from tests.servers.base import port_of_ours, until_it_answers

HERE = Path(__file__).parent / "oidc"
CLIENT, SECRET = "medlake", "a-secret-of-the-test-" + "x" * 24


@dataclass
class Provider:
    """``start`` and ``stop`` may be called in turn; ``rotate`` gives it another signing key."""

    folder: Path
    port: int
    portal: str
    people: dict[str, dict[str, Any]]
    key: RSAKey | ECKey = field(
        default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
    )
    process: subprocess.Popen[bytes] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def keys(self) -> dict[str, Any]:
        return {"keys": [self.key.as_dict(private=False)]}

    def start(self) -> None:
        client = {
            "client_id": CLIENT, "client_secret": SECRET, "redirect_uris": [f"{self.portal}/login/oidc/callback"],
            "post_logout_redirect_uris": [f"{self.portal}/login"], "response_types": ["code"],
            "grant_types": ["authorization_code"],
        }  # fmt: skip
        given = {"port": self.port, "jwks": {"keys": [self.key.as_dict(private=True)]}, "client": client,
                 "people": self.people}  # fmt: skip
        config = self.folder / "oidc.json"
        config.write_text(json.dumps(given), "utf-8")
        self.process = subprocess.Popen(
            [shutil.which("node") or "node", str(HERE / "server.mjs"), str(config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until_it_answers(self.process, self.port)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def rotate(self) -> None:
        self.stop()
        self.key = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
        self.start()

    def sign_on(self, departure: str, who: str) -> str:
        """Go through the provider's own pages as a person; the address of the portal to which it sends them back."""
        with httpx.Client() as browser:
            return self.through(browser, departure, who)

    def through(self, browser: httpx.Client, departure: str, who: str) -> str:
        answer = browser.get(departure)
        while True:
            if "location" in answer.headers:
                onward = urljoin(str(answer.url), answer.headers["location"])
                if onward.startswith(self.portal):
                    return onward
                answer = browser.get(onward)
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action, answer.text[:500]
            asked = "login" if 'name="login"' in answer.text else "consent"
            given = {"prompt": asked} | ({"login": who, "password": "any"} if asked == "login" else {})
            answer = browser.post(urljoin(str(answer.url), action[1]), data=given)


def why_not() -> str:
    """Why the provider cannot run here; empty: it can."""
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir():
        return "node or tests/servers/oidc/node_modules is missing: make test-deps"
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return "" if int(found.lstrip("v").split(".")[0]) >= 20 else f"oidc-provider needs node 20, not {found}"


@contextmanager
def a_provider(folder: Path, portal: str, people: dict[str, dict[str, Any]]) -> Iterator[Provider]:
    if reason := why_not():
        pytest.skip(reason)
    made = Provider(folder, port_of_ours(), portal, people)
    made.start()
    try:
        yield made
    finally:
        made.stop()
