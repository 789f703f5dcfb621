"""Superset and the portal for the demo: set up beside the pipeline, started at its end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from lake.errors import MedlakeError
from lake.settings import settings
from medlake.demo import airflow, processes
from medlake.demo.progress import Progress


def _dashboards_python() -> Path:
    return settings().project_root / "dashboards" / ".venv" / "bin" / "python"


def _dashboards_env() -> dict[str, str]:
    s = settings()
    return {
        "SUPERSET_HOME": str(s.home / "superset"),
        "SUPERSET_PORT": str(s.superset_port),
        "MEDLAKE_SERVING_PATH": str(s.serving_dir / "serving.duckdb"),
        "PYTHONPATH": str(s.project_root),
    }


def set_up_dashboards(progress: Progress) -> subprocess.Popen[bytes] | None:
    """Start Superset's set-up (idempotent) in the background, at low priority: the pipeline goes first."""
    if processes.is_running("superset"):
        progress.reuse("dashboards")
        return None
    progress.begin("dashboards")
    argv = [str(_dashboards_python()), "-m", "dashboards.provision"]
    setup = processes.run_step("superset-setup", argv, _dashboards_env(), nice=10)

    def note_the_end() -> None:
        if setup.wait() == 0:
            progress.end("dashboards")

    threading.Thread(target=note_the_end, daemon=True).start()
    return setup


def start_wall(progress: Progress, setup: subprocess.Popen[bytes] | None) -> None:
    """Wait for the set-up, then serve the wall.

    Raises:
        MedlakeError: E703, Superset did not come up.
    """
    if setup is not None:
        processes.finish(setup, "superset-setup")
        progress.end("dashboards")
    if processes.is_running("superset"):
        progress.reuse("wall")
        return
    progress.begin("wall")
    script = settings().project_root / "dashboards" / "start.sh"
    processes.start("superset", ["bash", str(script)], _dashboards_env())
    processes.wait_for(_wall_answers, "superset")
    progress.end("wall")


def _wall_answers() -> bool:
    # /health says OK even where every page fails; the login page does not
    try:
        url = f"http://{settings().host}:{settings().superset_port}/login/"
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def start_portal() -> None:
    """Start the portal (`medlake serve`)."""
    argv = [str(Path(sys.executable).parent / "medlake"), "serve"]
    processes.start("portal", argv, {"MEDLAKE_HOME": str(settings().home)})


def _portal_answers() -> bool:
    try:
        return httpx.get(f"{portal_url()}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def await_portal(progress: Progress) -> None:
    progress.begin("portal")
    processes.wait_for(_portal_answers, "portal")
    progress.end("portal")


def start_worklist() -> None:
    """Start what turns requests into items and watches their clocks (`medlake worklist run`)."""
    argv = [str(Path(sys.executable).parent / "medlake"), "worklist", "run"]
    processes.start("worklist", argv, {"MEDLAKE_HOME": str(settings().home)})


def portal_url() -> str:
    return f"http://{settings().host}:{settings().portal_port}"


def wall_links() -> dict[str, str]:
    """Addresses and login of the wall, as the dashboards' own environment tells them."""
    argv = [str(_dashboards_python()), "-m", "dashboards.links"]
    out = subprocess.run(argv, env={**_dashboards_env()}, capture_output=True, text=True, check=False)
    if out.returncode:
        raise MedlakeError("E705", detail="dashboards.links")
    return dict(json.loads(out.stdout))


def urls() -> dict[str, str]:
    """Where to look: ``airflow``, ``wall`` (opens without typing) and ``quality``."""
    return {
        "airflow": airflow.base_url(),
        "wall": wall_links()["kiosk"],
        "quality": f"{portal_url()}/quality",
        "portal": portal_url(),
    }


def logins() -> list[tuple[str, str, str]]:
    """Rows of (where, user, password) for the demo."""
    links = wall_links()
    rows = [("Airflow", airflow.USER, airflow.password()), ("Superset", links["user"], links["password"])]
    portal = settings().secrets_dir / "portal.json"
    if portal.exists():
        rows += [("门户 portal", user, word) for user, word in json.loads(portal.read_text()).items()]
    return rows


def publication() -> list[dict[str, Any]]:
    """``ops.publication`` of the current serving file."""
    import duckdb

    path = settings().serving_dir / "serving.duckdb"
    if not path.exists():
        return []
    with duckdb.connect(str(path.resolve()), read_only=True) as connection:
        rows = connection.execute("SELECT * FROM ops.publication ORDER BY product")
        names = [d[0] for d in rows.description]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
