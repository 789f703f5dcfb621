"""Every DAG loads, is thin, and hands the date on; loading imports none of the heavy libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOAD = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
sys.path.insert(0, sys.argv[1])  # as the DAG processor does for its bundle
bag = DagBag(dag_folder=sys.argv[1])
heavy = [m for m in ("great_expectations", "splink", "dbt", "duckdb", "deltalake", "pandas") if m in sys.modules]
print(json.dumps({
    "errors": {Path(k).name: v[-300:] for k, v in bag.import_errors.items()},
    "dags": {d.dag_id: {
        "tasks": [t.task_id for t in d.tasks],
        "outlets": sorted(a.name for t in d.tasks for a in t.outlets),
        "timetable": type(d.timetable).__name__,
        "pools": sorted({t.pool for t in d.tasks}),
    } for d in bag.dags.values()},
    "heavy": heavy,
}))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    home = tmp_path_factory.mktemp("airflow")
    env = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True
    )
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(ROOT / "dags")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _connected() -> set[str]:
    from lake.settings import Settings

    return set(Settings.model_fields["connected_feeds"].default.split())


def test_every_dag_loads(loaded: dict[str, object]) -> None:
    assert loaded["errors"] == {}
    assert set(loaded["dags"]) == {  # type: ignore[call-overload]
        *(f"ingest_{feed}" for feed in _connected()),
        *("backfill", "watch", "link", "check", "build", "publish", "forensics"),
    }


def test_a_feed_tells_of_each_of_its_silver_tables(loaded: dict[str, object]) -> None:
    from lake.contracts import contract

    dags: dict[str, dict[str, object]] = loaded["dags"]  # type: ignore[assignment]
    for feed in _connected():
        assert dags[f"ingest_{feed}"]["outlets"] == sorted(f"silver_{t}" for t in contract(feed).tables)


def test_each_step_hands_its_asset_to_the_next(loaded: dict[str, object]) -> None:
    dags: dict[str, dict[str, object]] = loaded["dags"]  # type: ignore[assignment]
    assert dags["backfill"]["outlets"] == []
    for name in ("link", "check", "build", "publish"):
        assert dags[name]["timetable"] == "PartitionedAssetTimetable"
        assert len(dags[name]["outlets"]) == 1  # type: ignore[arg-type]


def test_every_pool_that_a_task_names_is_made(loaded: dict[str, object]) -> None:
    pools = json.loads((ROOT / "dags" / "pools.json").read_text("utf-8"))
    dags: dict[str, dict[str, object]] = loaded["dags"]  # type: ignore[assignment]
    named = {pool for dag in dags.values() for pool in dag["pools"]}  # type: ignore[attr-defined]
    assert named - {"default_pool"} <= set(pools)


def test_loading_a_dag_is_cheap(loaded: dict[str, object]) -> None:
    assert loaded["heavy"] == []
