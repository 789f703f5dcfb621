"""Airflow for the demo: environment, start-up process by process, and the few REST calls that drive a day."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from lake.crypto import secret
from lake.settings import settings
from medlake.demo import processes

CHAIN = ("link", "check", "build", "publish")
USER = "admin"


def ingest_dags() -> list[str]:
    """The DAGs that bring a date in, one a connected feed."""
    from lake.contracts import feeds

    connected = settings().connected_feeds.split()
    return [f"ingest_{f}" for f in feeds() if f in connected or connected == ["all"]]


def dags() -> list[str]:
    """Every DAG that the demo drives."""
    return [*ingest_dags(), "backfill", *CHAIN]


def _home() -> Path:
    return settings().home / "airflow"


def base_url() -> str:
    return f"http://{settings().host}:{settings().airflow_port}"


def password() -> str:
    """The demo's Airflow password, made once and kept under ``home/secrets``."""
    return base64.b32encode(secret("airflow-login", 10)).decode().lower()


def environment() -> dict[str, str]:
    """What every Airflow process needs. Lean, SQLite, loopback only."""
    s = settings()
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    logins = home / "logins.json"
    logins.write_text(json.dumps({USER: password()}))
    logins.chmod(0o600)
    options = {
        "CORE__DAGS_FOLDER": s.project_root / "dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__DEFAULT_TIMEZONE": "Asia/Shanghai",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(secret("airflow-fernet")).decode(),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": logins,
        "CORE__EXECUTION_API_SERVER_URL": f"{base_url()}/execution/",
        "API__HOST": s.host,
        "API__PORT": s.airflow_port,
        "API__BASE_URL": base_url(),
        "API__WORKERS": 1,
        "API__SECRET_KEY": secret("airflow-api").hex(),
        "API_AUTH__JWT_SECRET": secret("airflow-jwt").hex(),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 300,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,
        "SCHEDULER__ENABLE_HEALTH_CHECK": False,
        "LOGGING__LOGGING_LEVEL": "WARNING",
        "LOGGING__BASE_LOG_FOLDER": home / "logs",
        "USAGE_DATA_COLLECTION__ENABLED": False,
        "OPENLINEAGE__NAMESPACE": "medlake-airflow",
        "OPENLINEAGE__TRANSPORT": json.dumps(_lineage()),
        "OPENLINEAGE__DISABLE_SOURCE_CODE": True,
        "OPENLINEAGE__EXECUTE_IN_THREAD": True,
    }
    env = {f"AIRFLOW__{k}": str(v) for k, v in options.items()}
    env["AIRFLOW_HOME"] = str(home)
    env["MEDLAKE_HOME"] = str(s.home)
    env["PYTHONWARNINGS"] = "ignore"
    # numeric libraries must not each start a thread per core in every worker
    env["OMP_NUM_THREADS"] = env["OPENBLAS_NUM_THREADS"] = "1"
    return env


def _lineage() -> dict[str, Any]:
    """Where Airflow's own OpenLineage events go: the collector, else a file an event beside those of the steps."""
    s = settings()
    if s.openlineage_url:
        return {"type": "http", "url": s.openlineage_url}
    return {"type": "file", "log_file_path": str(s.folder("lineage", "airflow") / "event"), "append": False}


def _argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *words]


def migrate() -> subprocess.Popen[bytes]:
    """Start the migration of Airflow's own database."""
    return processes.run_step("airflow-migrate", _argv("db", "migrate"), environment())


def start() -> None:
    """Start API server, scheduler and DAG processor, each a process of its own (nothing here is deferred)."""
    env = environment()
    processes.start("airflow-api", _argv("api-server"), env)
    processes.start("airflow-dag-processor", _argv("dag-processor"), env)
    processes.start("airflow-scheduler", _argv("scheduler", "--skip-serve-logs"), env)


def answers() -> bool:
    """Whether the API server is up."""
    try:
        return httpx.get(f"{base_url()}/api/v2/monitor/health", timeout=3).status_code == 200
    except httpx.HTTPError:
        return False


class Client:
    """A logged-in caller of Airflow's public API."""

    def __init__(self) -> None:
        token = httpx.post(
            f"{base_url()}/auth/token", json={"username": USER, "password": password()}, timeout=30
        ).raise_for_status()
        self._http = httpx.Client(
            base_url=f"{base_url()}/api/v2",
            headers={"Authorization": f"Bearer {token.json()['access_token']}"},
            timeout=60,
        )

    def dags(self) -> set[str]:
        found = self._http.get("/dags", params={"limit": 100}).raise_for_status().json()["dags"]
        return {d["dag_id"] for d in found}

    def import_errors(self) -> list[str]:
        found = self._http.get("/importErrors").raise_for_status().json()["import_errors"]
        return [e["filename"] for e in found]

    def make_pools(self) -> None:
        """Make the pools of ``dags/pools.json``; those that are there stay."""
        pools = json.loads((settings().project_root / "dags" / "pools.json").read_text("utf-8"))
        entities = [{"name": name, **pool} for name, pool in pools.items()]
        body = {"actions": [{"action": "create", "entities": entities, "action_on_existence": "skip"}]}
        self._http.patch("/pools", json=body).raise_for_status()

    def trigger(
        self, dag: str, *, partition_key: str | None = None, conf: dict[str, Any] | None = None
    ) -> str:
        """Start a run and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if partition_key:
            body["partition_key"] = partition_key
        return str(self._http.post(f"/dags/{dag}/dagRuns", json=body).raise_for_status().json()["dag_run_id"])

    def runs(self, dag: str, partition_key: str | None = None) -> list[dict[str, Any]]:
        """Runs of a DAG, newest first; of one partition only if asked."""
        query: dict[str, str | int] = {"order_by": "-run_after", "limit": 50}
        found = self._http.get(f"/dags/{dag}/dagRuns", params=query).raise_for_status().json()["dag_runs"]
        return [r for r in found if partition_key is None or r.get("partition_key") == partition_key]

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        answer = self._http.get(f"/dags/{dag}/dagRuns/{run_id}/taskInstances").raise_for_status()
        return list(answer.json()["task_instances"])

    def clear(self, dag: str, run_id: str) -> None:
        """Run the failed tasks of a run again."""
        body = {"dag_run_id": run_id, "dry_run": False, "only_failed": True}
        self._http.post(f"/dags/{dag}/clearTaskInstances", json=body).raise_for_status()
