"""Every step tells OpenLineage what it read and wrote, in events that the standard accepts."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from lake import lineage, runs, tables
from lake.errors import MedlakeError
from tests.lineage_world import Standard, events

DAY = date(2026, 11, 18)


def _told(home: Path) -> list[dict[str, object]]:
    found = events(home / "lineage" / "openlineage.jsonl")
    assert [p for e in found for p in Standard().problems(e)] == []
    return found


def test_a_step_names_what_it_read_and_wrote_at_which_version(lake_home: Path) -> None:
    tables.append("silver/person", pa.table({"empi_id": ["1", "2"]}))
    with lineage.step("empi.link", DAY):
        run = runs.open_run(DAY)
        lineage.reads_files("landing/his/H001", files=2, size=100)
        runs.record_output(run, {"silver/person": 0})
        lineage.writes({}, rows={"silver/person": 2})
    start, end = _told(lake_home)
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]  # type: ignore[index]
    (read,) = end["inputs"]  # type: ignore[misc]
    assert (read["name"], read["inputFacets"]["inputStatistics"]["fileCount"]) == ("landing/his/H001", 2)
    (wrote,) = end["outputs"]  # type: ignore[misc]
    assert wrote["facets"]["version"]["datasetVersion"] == "0"
    assert [f["name"] for f in wrote["facets"]["schema"]["fields"]] == ["empi_id"]
    assert wrote["outputFacets"]["outputStatistics"]["rowCount"] == 2


def test_a_step_that_fails_says_so_with_its_number_and_no_value(lake_home: Path) -> None:
    with pytest.raises(MedlakeError), lineage.step("quality.check", DAY):
        raise MedlakeError("E106", data_date=DAY)
    end = _told(lake_home)[-1]
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "E106"  # type: ignore[index]


def test_a_step_names_the_airflow_task_around_it(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = "0198c0de-0000-7000-8000-000000000001"
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"medlake-airflow/link.link/{run_id}")
    with lineage.step("empi.link", DAY):
        pass
    parent = _told(lake_home)[-1]["run"]["facets"]["parent"]  # type: ignore[index]
    assert (parent["job"]["name"], parent["run"]["runId"]) == ("link.link", run_id)


def test_a_collector_that_does_not_answer_does_not_stop_the_step(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake.settings import settings

    monkeypatch.setenv("MEDLAKE_OPENLINEAGE_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    done = []
    with lineage.step("empi.link", DAY):
        done.append(True)
    assert done == [True]
