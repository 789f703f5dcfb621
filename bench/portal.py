"""``make bench-portal``: fifty people on the portal of the demo, an export of 300,000 rows, a cohort of six million.

The load is on loopback, on a portal of its own beside the demo's data (``make demo`` first): sessions of eight roles, a
page a person every two seconds on average, for ``BENCH_SECONDS`` (60). Locust runs in a locked project of its own.
"""

from __future__ import annotations

import csv
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import Measure, measured, report, say

USERS = 50
SECONDS = 60
_PRE = re.compile(r'name="pre" value="([^"]+)"')

#: Role -> pages of its daily work.
PAGES = {
    "steward": ["/", "/findings", "/findings?severity=error&page=3", "/work", "/ledger", "/exports", "/identity",
                "/archives", "/tickets", "/tickets/stats", "/scores", "/gates", "/rules", "/corrections", "/quarantine",
                "/codes", "/due", "/ledger/batches"],
    "officer": ["/", "/exports", "/reports", "/work", "/findings?purpose=public_health", "/archives", "/tickets",
                "/scores", "/due", "/exports/new"],
    "doctor": ["/", "/work", "/findings?purpose=care", "/catalogue", "/tickets", "/scores", "/corrections", "/due",
               "/glass"],
    "laboratory": ["/", "/work", "/catalogue", "/findings?purpose=care"],
    "pharmacist": ["/", "/work", "/catalogue", "/findings?purpose=care"],
    "executive": ["/", "/ledger", "/catalogue", "/scores", "/gates", "/ledger/sources"],
    "researcher": ["/", "/research", "/catalogue?q=高血压"],
    "asset_manager": ["/", "/catalogue", "/catalogue?q=gxy"],
}  # fmt: skip


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(project: Path) -> Path:
    """Locust's environment from its lock file."""
    from lake.settings import settings

    uv = settings().project_root / ".uv" / "bin" / "uv"
    clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    argv = [str(uv) if uv.exists() else "uv", "sync", "--frozen", "--quiet", "--python", sys.executable]
    subprocess.run(
        [*argv, "--project", str(project)], env=clean | {"UV_PYTHON_DOWNLOADS": "never"}, check=True
    )
    return project / ".venv" / "bin"


def _log_in(base: str) -> dict[str, dict[str, Any]]:
    """A session a role; its cookie, as the browser would send it."""
    import httpx

    from portal import accounts

    words = json.loads(accounts.ensure().read_text("utf-8"))
    made = {}
    for role, pages in PAGES.items():
        with httpx.Client(base_url=base) as browser:
            pre = _PRE.search(browser.get("/login").text)
            form = {"user": role, "password": words[role], "pre": pre.group(1) if pre else "", "next": "/"}
            answer = browser.post("/login", data=form)
            if answer.status_code != 303:
                raise SystemExit(f"{role}: {answer.status_code}")
            cookie = "; ".join(f"{c.name}={c.value}" for c in browser.cookies.jar)
        made[role] = {"cookie": cookie, "pages": pages}
    return made


def load(users: int = USERS, seconds: int = SECONDS) -> dict[str, Any]:
    """``users, requests, errors, p50_ms, p95_ms, slowest_page, slowest_page_p95_ms``."""
    project = Path(__file__).parent / "portal_locust"
    binaries = _environment(project)
    port = _port()
    base = f"http://127.0.0.1:{port}"
    env = os.environ | {"MEDLAKE_PORTAL_PORT": str(port), "MEDLAKE_PORTAL_RATE_PER_SECOND": "1000"}
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "medlake"), "serve"],
        env=env | {"MEDLAKE_PORTAL_BURST": "1000"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.3)
        people = _log_in(base)
        with tempfile.TemporaryDirectory(prefix="medlake-bench-portal-") as folder:
            argv = [str(binaries / "locust"), "-f", str(project / "people.py"), "--headless", "--host", base]
            argv += [
                "-u",
                str(users),
                "-r",
                "10",
                "-t",
                f"{seconds}s",
                "--csv",
                f"{folder}/load",
                "--only-summary",
            ]
            argv += ["--exit-code-on-error", "0"]
            subprocess.run(
                argv, env=os.environ | {"MEDLAKE_LOAD": json.dumps(people)}, check=True, capture_output=True
            )
            if os.environ.get("BENCH_SHOW"):
                say((Path(folder) / "load_failures.csv").read_text("utf-8"))
            with (Path(folder) / "load_stats.csv").open(encoding="utf-8") as file:
                rows = {row["Name"]: row for row in csv.DictReader(file)}
    finally:
        server.terminate()
        server.wait(30)
    total = rows.pop("Aggregated")
    slowest = max(rows.values(), key=lambda row: float(row["95%"]))
    return {
        "users": users,
        "requests": int(total["Request Count"]),
        "errors": int(total["Failure Count"]),
        "p50_ms": float(total["50%"]),
        "p95_ms": float(total["95%"]),
        "slowest_page": slowest["Name"],
        "slowest_page_p95_ms": float(slowest["95%"]),
    }


def main() -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    import products

    if products.published_path() is None:
        raise SystemExit("先运行 make demo / run make demo first: the load needs its data")
    say("1 fifty people …")
    with measured() as ours:
        people = load(seconds=int(os.environ.get("BENCH_SECONDS", SECONDS)))
    say(json.dumps(people))
    say("2 an export and a cohort …")
    done = subprocess.run(
        [sys.executable, "-m", "bench.portal_export"], stdout=subprocess.PIPE, text=True, check=True
    )
    more = json.loads(done.stdout.strip().splitlines()[-1])
    return report("portal", ours, Measure(), floor_is="—", **people, **more)


if __name__ == "__main__":
    main()
