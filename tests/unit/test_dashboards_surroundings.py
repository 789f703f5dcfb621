"""Where Superset's secrets and paths come from."""

import json
import stat
from pathlib import Path

import pytest

from dashboards.config import serving, surroundings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in surroundings.SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPERSET_HOME", str(tmp_path / "superset"))
    monkeypatch.setenv("MEDLAKE_SERVING_PATH", str(tmp_path / "serving.duckdb"))
    return tmp_path / "superset"


def test_secrets_are_drawn_once_and_readable_by_the_owner_only(home: Path) -> None:
    first = {name: surroundings.secret(name) for name in surroundings.SECRETS}
    assert {name: surroundings.secret(name) for name in surroundings.SECRETS} == first
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir()] == ["secrets.json"]


def test_of_two_first_starts_the_later_takes_what_is_there(home: Path) -> None:
    kept = surroundings.secret("SUPERSET_SECRET_KEY")
    surroundings._draw(home / "secrets.json")
    assert surroundings.secret("SUPERSET_SECRET_KEY") == kept


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings.secret("SUPERSET_ADMIN_PASSWORD")
    monkeypatch.setenv("SUPERSET_ADMIN_PASSWORD", "from outside")
    assert surroundings.links()["password"] == "from outside"


def test_links_are_loopback_and_keep_the_refresh_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSET_PORT", "9999")
    links = surroundings.links()
    assert links["wall"] == "http://127.0.0.1:9999/superset/dashboard/led-wall/?standalone=1&show_filters=0"
    assert str(links["kiosk"]).startswith("http://127.0.0.1:9999/kiosk/")
    json.dumps(links)


def test_version_follows_the_link_and_the_file_behind_it(tmp_path: Path) -> None:
    assert serving.version() == "unpublished"
    link = tmp_path / "serving.duckdb"
    for name in ("a", "b"):
        (tmp_path / f"serving_{name}.duckdb").write_bytes(b"x")
    link.symlink_to("serving_a.duckdb")
    first = serving.version()
    link.unlink()
    link.symlink_to("serving_b.duckdb")
    assert first.startswith("serving_a.duckdb@") and serving.version().startswith("serving_b.duckdb@")
