"""What several rooms' tests share: a lake of one's own, and one running demo for integration and browser tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.mariadb import mariadb_server  # noqa: F401
from tests.servers.mosquitto import _mosquitto_session, mosquitto_server  # noqa: F401
from tests.servers.orthanc import _orthanc_session, orthanc_server  # noqa: F401
from tests.servers.postgres import postgres_server  # noqa: F401

MEDLAKE = Path(sys.executable).parent / "medlake"


@pytest.fixture
def lake_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty lake under a temporary folder; settings read it."""
    from lake.settings import settings

    monkeypatch.setenv("MEDLAKE_HOME", str(tmp_path / "var"))
    settings.cache_clear()
    yield tmp_path / "var"
    settings.cache_clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Demo:
    """A running demo: ``report`` is what ``medlake demo`` wrote to ``demo.json``."""

    home: Path
    env: dict[str, str]
    report: dict[str, Any]

    @property
    def urls(self) -> dict[str, str]:
        return dict(self.report["urls"])

    @property
    def serving_path(self) -> Path:
        return self.home / "serving" / "serving.duckdb"

    def run(self, *words: str) -> dict[str, Any]:
        """Run ``medlake ... --json`` against this demo and return the object it prints."""
        done = subprocess.run(
            [str(MEDLAKE), *words, "--json"], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@pytest.fixture(scope="session")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The real demo at small size, on free ports, stopped at the end of the session."""
    home = tmp_path_factory.mktemp("demo") / "var"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")} | {
        "MEDLAKE_HOME": str(home),
        "MEDLAKE_DEMO_RESIDENTS": "3000",
        "MEDLAKE_DEMO_DAYS": "2",
        "MEDLAKE_AIRFLOW_PORT": str(free_port()),
        "MEDLAKE_SUPERSET_PORT": str(free_port()),
        "MEDLAKE_PORTAL_PORT": str(free_port()),
    }
    try:
        demo = Demo(home, env, {})
        demo.report = demo.run("demo")
        yield demo
    except AssertionError as error:
        logs = [f"--- {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in home.glob("logs/*.log")]
        raise AssertionError(str(error) + "\n" + "\n".join(logs)) from error
    finally:
        subprocess.run([str(MEDLAKE), "stop"], env=env, check=False, capture_output=True)


@pytest.fixture(scope="session")
def closed_demo(running_demo: Demo) -> Demo:
    """The same demo after a bad day: its gate is closed. Tests that use it run last."""
    report = running_demo.run("demo", "--bad-day")
    return Demo(running_demo.home, running_demo.env, report)


#: Files whose tests share the one running demo, and so one worker.
_DEMO_FILES = ("test_dashboards_wall.py", "test_demo_report.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the closed gate comes last, so that nobody else meets the demo in that state."""
    items.sort(key=lambda item: "closed_demo" in getattr(item, "fixturenames", ()))
    uses = {"running_demo", "closed_demo"}
    strays = {item.path.name for item in items if uses & set(getattr(item, "fixturenames", ()))} - {
        *_DEMO_FILES
    }
    assert not strays, f"these use the running demo and are not in _DEMO_FILES: {strays}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Two workers run the tests: a file stays with one of them, in its order, and all that share the demo are one.

    A scheduler of our own, since xdist 3.8 marks groups in a place that pytest 9 does not look at any more.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "demo" if file.endswith(_DEMO_FILES) else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def steward_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checked city for the steward's pages (``tests.steward_world``); whoever changes it copies it first."""
    from tests import steward_world

    with steward_world.at_home(tmp_path_factory.mktemp("steward") / "var") as home:
        steward_world.make()
    return home


@pytest.fixture(scope="session")
def identity_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linked city for the pages of identity (``tests.identity_world``); whoever changes it copies it first."""
    from tests import identity_world
    from tests.worklist_world import home

    with home(tmp_path_factory.mktemp("identity") / "var") as made:
        identity_world.make(made)
    return made
