"""From an archive and from files to silver: counts stay right over days, deletions reach every table."""

from __future__ import annotations

import json
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import ingestion
from ingestion.pull import pacs, pacs_completeness
from lake.settings import settings
from tests.ingestion_world import DAY, NEXT, content, drop
from tests.integration.test_imaging_pacs_pull import image, qido, register
from tests.servers.orthanc import Orthanc

STUDY = "1.2.826.0.1.4"


def current(table: str, columns: str) -> list[tuple[Any, ...]]:
    return [row[:-1] for row in content(f"silver/{table}", f"{columns}, is_deleted") if not row[-1]]


@pytest.fixture
def archive(lake_home: Path, orthanc_server: Orthanc) -> Orthanc:
    for series, instance in ((1, 1), (1, 2), (2, 1)):
        orthanc_server.store(image(4, series, instance))
        orthanc_server.store(image(5, series, instance))
    register(qido(orthanc_server))
    return orthanc_server


def pull(day: date = DAY) -> dict[str, Any]:
    pacs.pull("main", day, start=DAY, end=DAY)
    return ingestion.ingest_feed("dicom", day)


def test_what_the_archive_announces_and_what_arrives_meet_in_the_end(archive: Orthanc) -> None:
    assert pull()["tables"]["imaging_study"]["loaded"] == 2
    assert current("imaging_study", "study_instance_uid, instance_count, name") == [
        (STUDY, 3, "王小东"),
        ("1.2.826.0.1.5", 3, "王小东"),
    ]
    # objects come over two days; their headers must not take the announced counts away
    for day, objects in ((DAY, [(1, 1)]), (NEXT, [(1, 2), (2, 1)])):
        for series, instance in objects:
            drop("pacs", "H001", f"IM{series}{instance}", image(4, series, instance), day)
    ingestion.ingest_feed("pacs", DAY)
    (gap,) = pacs_completeness.studies()
    assert (gap["study_instance_uid"], gap["announced_instances"], gap["arrived_instances"]) == (STUDY, 3, 1)
    assert gap["missing_instances"] == 2
    ingestion.ingest_feed("pacs", NEXT)
    assert pacs_completeness.studies() == []
    found = {s["study_instance_uid"]: s for s in pacs_completeness.studies("H001", incomplete_only=False)}
    study = found[STUDY]
    assert (study["arrived_series"], study["arrived_instances"], study["modalities"]) == (2, 3, "CT")
    assert study["arrived_bytes"] == sum(len(image(4, s, i)) for s, i in ((1, 1), (1, 2), (2, 1)))
    assert found["1.2.826.0.1.5"]["arrived_instances"] is None  # its objects are not delivered
    assert current("imaging_study", "instance_count") == [(3,), (3,)]
    again = ingestion.ingest_paths(
        [settings().sources_dir / NEXT.isoformat() / "pacs"], "dicom", data_date=NEXT
    )
    assert again["loaded"] == 0 and again["duplicate"] == again["received"] > 0


def test_more_objects_of_a_known_study_leave_its_row_as_it_is(lake_home: Path) -> None:
    for n, day in enumerate((DAY, NEXT, NEXT + timedelta(days=1)), 1):
        drop("pacs", "H001", f"{n}.dcm", image(4, 1, n), day)
        counts = ingestion.ingest_feed("pacs", day)["tables"]
        assert counts["imaging_instance"]["loaded"] == 1
        assert counts["imaging_study"]["loaded"] == (1 if n == 1 else 0)
    assert len(current("imaging_instance", "sop_instance_uid")) == 3
    (study,) = pacs_completeness.studies(incomplete_only=False)
    assert (study["arrived_instances"], study["announced_instances"], study["missing_instances"]) == (
        3,
        None,
        None,
    )


def test_a_study_that_the_archive_deletes_goes_from_every_table_and_can_come_back(archive: Orthanc) -> None:
    drop("pacs", "H001", "IM1", image(4, 1, 1))
    drop("pacs", "H001", "IM2", image(5, 1, 1))
    pull()
    archive.delete(STUDY)
    counts = pull(NEXT)["tables"]
    assert {t: c["quarantined"] for t, c in counts.items()} == dict.fromkeys(counts, 0)
    for table in ("imaging_study", "imaging_series", "imaging_instance"):
        assert {r[0] for r in current(table, "study_instance_uid")} == {"1.2.826.0.1.5"}
    for series, instance in ((1, 1), (2, 1)):
        archive.store(image(4, series, instance))
    pull(NEXT + timedelta(days=1))
    assert (STUDY, 2) in current("imaging_study", "study_instance_uid, instance_count")


def test_reports_of_the_radiology_system_come_beside_the_images(lake_home: Path) -> None:
    from lake.contracts import table_contract

    fields = {f.name: f.physical_name for f in table_contract("imaging_report").fields}
    row = {
        "exam_no": "A17",
        "patient_local_id": "P1",
        "exam_item_name": "胸部CT",
        "exam_at": "2026-11-18 08:15:00",
    }
    text = ",".join(fields[n] for n in row) + "\n" + ",".join(row.values()) + "\n"
    drop("pacs", "H001", "imaging_report_20261118.csv", text.encode())
    drop("pacs", "H001", "IM1", image(4, 1, 1))
    assert ingestion.ingest_feed("pacs", DAY)["quarantined"] == 0
    assert current("imaging_report", "exam_no, exam_item_name") == [("A17", "胸部CT")]


def medlake(name: str, *words: str) -> tuple[int, dict[str, Any]]:
    """One command of ``medlake.commands``, run as a process; its last line."""
    import sys

    from lake.settings import PROJECT_ROOT

    script = f"from medlake.commands.{name} import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--json"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout.strip().splitlines()[-1])


def test_the_command_pulls_and_ingests_and_tells(archive: Orthanc) -> None:
    days = ("--date", NEXT.isoformat(), "--from", DAY.isoformat(), "--to", DAY.isoformat())
    code, told = medlake("pacs", "pull", "--source", "main", *days, "--ingest")
    assert code == 0
    assert (told["studies"], told["changed"], told["files"], told["quarantined"]) == (2, 2, 1, 0)
    assert told["loaded"] == 2 + 4  # studies and series
    code, told = medlake("pacs", "pull", "--source", "absent")
    assert code == 1 and "E255" in json.dumps(told)
