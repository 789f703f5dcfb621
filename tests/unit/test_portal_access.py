"""The door: nobody without a password, nobody beyond their role, nothing that no room names."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from portal import access, accounts
from portal.app import create_app


def client(user: str | None = None, word: str | None = None) -> TestClient:
    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    if user is not None:
        known = json.loads(accounts.path().read_text("utf-8"))
        given = base64.b64encode(f"{user}:{known.get(user, '') if word is None else word}".encode()).decode()
        made.headers["authorization"] = f"Basic {given}"
    return made


def test_passwords_are_made_once_and_kept_from_others(lake_home: Path) -> None:
    first = accounts.ensure().read_text("utf-8")
    assert accounts.ensure().read_text("utf-8") == first
    assert stat.S_IMODE(accounts.path().stat().st_mode) == 0o600
    words = json.loads(first)
    assert set(words) == set(accounts.ROLES) and len(set(words.values())) == len(words)
    assert all(len(word) == 14 for word in words.values())


@pytest.mark.parametrize(
    "path", ["/", "/ledger", "/catalogue", "/quality/", "/api/ledger", "/nope", "/docs", "/redoc"]
)
def test_nothing_opens_without_a_login(lake_home: Path, path: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic !!!", "Bearer abc", "Basic " + base64.b64encode(b"steward").decode(),
     "Basic " + base64.b64encode(b"\xff\xfe:x").decode(), "Basic " + base64.b64encode(b"nobody:x").decode(),
     "Basic " + base64.b64encode(b"steward:").decode()],
)  # fmt: skip
def test_garbage_credentials_are_a_401(lake_home: Path, header: str) -> None:
    assert client().get("/", headers={"authorization": header}).status_code == 401


def test_wrong_password(lake_home: Path) -> None:
    assert client("steward", "wrong").get("/").status_code == 401
    assert client("steward").get("/").status_code == 200


def test_roles_reach_their_rooms_and_no_other(lake_home: Path) -> None:
    reach = {
        role: {
            p for p in ("/", "/quality/", "/ledger", "/catalogue") if client(role).get(p).status_code != 403
        }
        for role in accounts.ROLES
    }
    assert reach["steward"] == {"/", "/quality/", "/ledger", "/catalogue"}
    assert reach["officer"] == reach["steward"]
    assert reach["executive"] == {"/", "/ledger", "/catalogue"}
    assert reach["researcher"] == {"/", "/catalogue"}


def test_every_route_belongs_to_a_room(lake_home: Path) -> None:
    """A new router must be given to somebody, or its tests would find it closed to all."""
    for path in (route.path for route in create_app().routes):  # type: ignore[attr-defined]
        assert access.is_public(path) or access.room_of(path), path


def test_a_path_of_no_room_is_a_404_even_for_the_steward(lake_home: Path) -> None:
    for path in ("/admin", "/qualityx", "/ledger.json", "/static/../accounts.py", "/docs"):
        assert client("steward").get(path).status_code == 404


def test_a_broken_secrets_file_closes_the_door(lake_home: Path) -> None:
    made = client("steward")
    accounts.path().write_text("{}", "utf-8")
    answer = made.get("/")
    assert answer.status_code == 500 and "content-security-policy" in answer.headers


def test_quality_serves_its_folder_and_nothing_beside_it(lake_home: Path) -> None:
    page = lake_home / "quality" / "page"
    page.mkdir(parents=True)
    (page / "index.html").write_text("<h1>质控</h1>", "utf-8")
    (page / "notes.txt").write_text("x", "utf-8")
    (page / "link.html").symlink_to(accounts.ensure())
    (lake_home / "quality" / "secret.html").write_text("x", "utf-8")
    steward = client("steward")
    assert "质控" in steward.get("/quality/").text
    assert steward.get("/quality").headers["location"] == "/quality/"
    for asked in (
        "../secret.html",
        "..%2fsecret.html",
        "%2e%2e/secret.html",
        "notes.txt",
        "link.html",
        "a%00.html",
        "none.html",
    ):
        assert steward.get(f"/quality/{asked}").status_code == 404, asked
