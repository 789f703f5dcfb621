"""The step ``link`` on a real lake: Delta tables in, three Delta tables out, twice the same, killed and the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import empi
from lake import ledger, ops, runs, tables
from lake.contracts import table_contract
from lake.errors import MedlakeError
from lake.settings import settings
from tests.empi_world import id_number

DAY = date(2026, 11, 18)
OUTPUTS = ("silver/person", "silver/person_identifier", "silver/person_event")
BORN = date(1958, 3, 12)
ZHANG: dict[str, Any] = {
    "name": "张建国",
    "sex_code": "1",
    "birth_date": BORN,
    "id_no": id_number(BORN, 211),
    "phone": "13907221234",
    "addr_detail": "湖东区湖滨街道湖滨老洲社区3组12号",
}


def deliver(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Put rows into a silver table and make it visible, as a committed batch does."""
    contract = table_contract(name)
    schema = contract.silver_schema()
    full = [dict.fromkeys(schema.names) | {"data_date": DAY, "batch_id": "b1"} | r for r in rows]
    tables.merge(f"silver/{name}", pa.Table.from_pylist(full, schema=schema), key=contract.full_key)
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, f"silver/{name}", tables.version(f"silver/{name}"), "b1")


def patient(local_id: str, org_code: str = "H101", **given: Any) -> dict[str, Any]:
    at = datetime(2026, 11, 17, tzinfo=UTC)
    return {"patient_local_id": local_id, "org_code": org_code, "source_updated_at": at} | given


def archive(archive_id: str, org_code: str = "C201", **given: Any) -> dict[str, Any]:
    at = datetime(2026, 11, 16, tzinfo=UTC)
    return {
        "archive_id": archive_id,
        "org_code": org_code,
        "status_code": "1",
        "source_updated_at": at,
    } | given


def content(name: str) -> list[tuple[Any, ...]]:
    """All rows of the visible version, sorted."""
    rows = tables.read(name, ledger.visible("silver/")[name]).to_table().to_pylist()
    return sorted((tuple(sorted(r.items())) for r in rows), key=repr)


def crosswalk() -> dict[tuple[str, str, str], str]:
    """Open ``MR`` rows: (system, institution, local id) -> empi_id."""
    at = ledger.visible("silver/")["silver/person_identifier"]
    rows = tables.read("silver/person_identifier", at).to_table().to_pylist()
    rows = [r for r in rows if r["identifier_type"] == "MR" and r["valid_to"] is None]
    found = {(r["source_system"], r["org_code"], r["identifier_value"]): r["empi_id"] for r in rows}
    assert len(found) == len(rows), "one open row per record"
    return found


def events(kind: str) -> list[dict[str, Any]]:
    at = ledger.visible("silver/")["silver/person_event"]
    return [
        r for r in tables.read("silver/person_event", at).to_table().to_pylist() if r["event_type"] == kind
    ]


@pytest.fixture
def town(lake_home: Path) -> Path:
    """Zhang in two registers, Li in one, an unknown patient, and who only the laboratory and imaging know."""
    li = {"name": "李芳", "sex_code": "2", "birth_date": date(1990, 2, 3), "phone": "13307229999"}
    deliver(
        "patient",
        [
            patient("1", **ZHANG),
            patient("2", org_code="H102", **li),
            patient("3", name="无名氏", sex_code="1"),
        ],
    )
    deliver("ph_archive", [archive("A1", addr_region_code="429701001201", **ZHANG | {"name": "章建国"})])
    seen = datetime(2026, 11, 17, 8, tzinfo=UTC)
    report = {"requesting_org_code": "H101", "panel_code": "GLU", "reported_at": seen, "org_code": "H001"}
    deliver(
        "lab_report",
        [
            report | {"report_id": "r1", "patient_local_id": "1", "name": "张建国"},
            report | {"report_id": "r2", "patient_local_id": "77", "name": None},
            report
            | {
                "report_id": "r3",
                "patient_local_id": "77",
                **{k: ZHANG[k] for k in ("name", "birth_date", "id_no")},
            },
        ],
    )
    image = {
        "study_instance_uid": "1",
        "series_instance_uid": "1",
        "file_bytes": 1,
        "org_code": "H102",
        "study_at": seen,
    }
    deliver(
        "imaging_instance",
        [
            image | {"sop_instance_uid": "1.1", "patient_local_id": "2", "name": "李芳"},
            image
            | {
                "sop_instance_uid": "1.2",
                "patient_local_id": "88",
                "name": "赵云",
                "birth_date": date(1980, 1, 2),
            },
        ],
    )
    return lake_home


def test_who_is_who(town: Path) -> None:
    result = empi.link(DAY)
    found = crosswalk()
    zhang = found["his", "H101", "1"]
    assert found["public_health", "C201", "A1"] == found["lis", "H101", "77"] == zhang
    assert set(found) == {
        ("his", "H101", "1"), ("his", "H102", "2"), ("his", "H101", "3"), ("public_health", "C201", "A1"),
        ("lis", "H101", "77"), ("pacs", "H102", "88"),
    }  # fmt: skip
    assert (result["records"], result["persons"], result["created"], result["linked"]) == (6, 4, 4, 2)


def test_the_golden_record(town: Path) -> None:
    empi.link(DAY)
    zhang = crosswalk()["his", "H101", "1"]
    (row,) = [dict(r) for r in content("silver/person") if dict(r)["empi_id"] == zhang]
    assert row["name"] == "张建国" and row["id_no"] == ZHANG["id_no"] and row["birth_date"] == BORN
    assert row["region_code"] == "429701001201" and row["record_count"] == 3 and row["has_trusted_id"]
    assert not row["is_deceased"] and row["person_token"] != zhang


def test_a_death_is_believed_from_the_register(town: Path) -> None:
    death = {"death_id": "D1", "org_code": "C201", "died_on": date(2026, 11, 1)}
    deliver("death_registry", [death | {k: ZHANG[k] for k in ("name", "id_no", "birth_date")}])
    empi.link(DAY)
    zhang = crosswalk()["his", "H101", "1"]
    dead = [dict(r) for r in content("silver/person") if dict(r)["is_deceased"]]
    assert [(d["empi_id"], d["death_date"]) for d in dead] == [(zhang, date(2026, 11, 1))]


def test_numbers_of_a_person_are_in_the_crosswalk(town: Path) -> None:
    empi.link(DAY)
    rows = [dict(r) for r in content("silver/person_identifier")]
    zhang = crosswalk()["his", "H101", "1"]
    known = {(r["source_system"], r["identifier_value"]) for r in rows if r["identifier_type"] == "NI"}
    assert known == {(s, ZHANG["id_no"]) for s in ("his", "public_health", "lis")}
    assert {r["empi_id"] for r in rows if r["identifier_type"] == "NI"} == {zhang}


def test_linking_twice_gives_the_same_tables(town: Path) -> None:
    empi.link(DAY)
    first, versions = [content(n) for n in OUTPUTS], [tables.version(n) for n in OUTPUTS]
    again = empi.link(DAY)
    assert [content(n) for n in OUTPUTS] == first
    assert [tables.version(n) for n in OUTPUTS] == versions
    assert again["created"] == again["linked"] == again["merged"] == again["split"] == 0


def test_a_lake_of_an_older_release_is_taken_over_with_its_ids(town: Path) -> None:
    """Its tables have fewer columns, and there are fewer of them; no state was kept."""
    empi.link(DAY)
    first, people = crosswalk(), content("silver/person")
    older = {
        "silver/person": ["value_source", "value_records"],
        "silver/person_event": ["before", "after", "actor", "change_id", "undoes"],
    }
    for name, later in older.items():
        kept = tables.read(name).to_table().drop_columns(later)
        tables.drop(name)
        tables.overwrite(name, kept)
        with ops.engine().begin() as connection:
            ledger.set_visible(connection, name, tables.version(name), None)
    (settings().home / "empi" / "state.duckdb").unlink()
    again = empi.link(DAY + timedelta(days=1))
    assert (again["mode"], again["created"], again["merged"]) == ("full", 0, 0)
    assert crosswalk() == first and content("silver/person") == people
    deliver("patient", [patient("P99", name="新来的", birth_date=date(1990, 1, 2))])
    assert empi.link(DAY + timedelta(days=2), mode="full")["created"] == 1
    assert set(tables.columns("silver/person_event")) > set(older["silver/person_event"])


def test_the_run_records_what_was_written(town: Path) -> None:
    empi.link(DAY)
    assert {n: runs.get_run(DAY).versions[n] for n in OUTPUTS} == {n: tables.version(n) for n in OUTPUTS}


def test_a_new_day_keeps_the_ids_of_whom_it_does_not_touch(town: Path) -> None:
    empi.link(DAY)
    before = crosswalk()
    deliver(
        "patient",
        [patient("9", org_code="H103", **ZHANG), patient("10", name="周杰", birth_date=date(2001, 5, 5))],
    )
    result = empi.link(DAY + timedelta(days=1))
    after = crosswalk()
    assert {k: after[k] for k in before} == before
    assert after["his", "H103", "9"] == before["his", "H101", "1"]
    assert (result["created"], result["linked"], result["merged"], result["split"]) == (1, 1, 0, 0)
    assert {r["occurred_on"] for r in events("link")} == {DAY, DAY + timedelta(days=1)}


def test_a_late_proof_merges_two_persons_and_keeps_the_bigger_id(town: Path) -> None:
    """Zhang's record at H103 had neither id nor phone; the next day H103 corrects it."""
    bare = {"name": "张国建", "sex_code": "1", "birth_date": date(1957, 3, 12)}
    deliver("patient", [patient("9", org_code="H103", **bare)])
    empi.link(DAY)
    before = crosswalk()
    assert before["his", "H103", "9"] != before["his", "H101", "1"]
    deliver("patient", [patient("9", org_code="H103", **ZHANG)])
    result = empi.link(DAY + timedelta(days=1))
    after = crosswalk()
    assert after["his", "H103", "9"] == after["his", "H101", "1"] == before["his", "H101", "1"]
    assert result["merged"] == 1
    (merge,) = events("merge")
    assert (merge["empi_id"], merge["other_empi_id"]) == (
        before["his", "H101", "1"],
        before["his", "H103", "9"],
    )
    history = [
        dict(r)
        for r in content("silver/person_identifier")
        if dict(r)["empi_id"] == before["his", "H103", "9"]
    ]
    assert history and all(r["valid_to"] == DAY + timedelta(days=1) for r in history), "closed, not deleted"


def test_a_corrected_record_splits_off_with_a_new_id(town: Path) -> None:
    empi.link(DAY)
    before = crosswalk()
    wang = {
        "name": "王海燕",
        "sex_code": "2",
        "birth_date": date(1975, 9, 9),
        "id_no": id_number(date(1975, 9, 9), 388),
    }
    deliver("ph_archive", [archive("A1", **ZHANG | wang | {"phone": "13607220000"})])
    result = empi.link(DAY + timedelta(days=1))
    after = crosswalk()
    assert after["his", "H101", "1"] == before["his", "H101", "1"]
    assert after["public_health", "C201", "A1"] not in before.values()
    (split,) = events("split")
    assert (split["empi_id"], split["other_empi_id"]) == (
        after["public_health", "C201", "A1"],
        before["his", "H101", "1"],
    )
    assert result["split"] == 1


def test_a_decision_is_an_input(town: Path) -> None:
    keys = {"source_system_l": "his", "org_code_l": "H101", "identifier_value_l": "1"}
    keys |= {"source_system_r": "public_health", "org_code_r": "C201", "identifier_value_r": "A1"}
    tables.overwrite("silver/match_decision", pa.Table.from_pylist([keys | {"decision": "cannot_link"}]))
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, "silver/match_decision", 0, None)
    empi.link(DAY)
    found = crosswalk()
    assert found["his", "H101", "1"] != found["public_health", "C201", "A1"]


@pytest.mark.parametrize("point", ["empi.events_written", "empi.crosswalk_written", "empi.person_written"])
def test_killed_and_run_again_is_as_if_never_killed(town: Path, point: str) -> None:
    code = f"import empi, datetime; empi.link(datetime.date.fromisoformat('{DAY}'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MEDLAKE_KILL_AT": point}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not any(n in ledger.visible("silver/") for n in OUTPUTS), "nothing is half visible"
    empi.link(DAY)
    assert len(events("create")) == 4 and len(events("link")) == 2
    assert len(crosswalk()) == 6 and len(content("silver/person")) == 4


def test_without_a_register_there_is_nothing_to_link(lake_home: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        empi.link(DAY)
    assert caught.value.code == "E301"


def test_an_empty_register_gives_empty_tables(lake_home: Path) -> None:
    deliver("patient", [])
    result = empi.link(DAY)
    assert (result["records"], result["persons"]) == (0, 0)
    assert content("silver/person") == []


def test_no_patient_data_in_the_log(town: Path) -> None:
    empi.link(DAY)
    text = "".join(p.read_text("utf-8") for p in (town / "logs").glob("*.jsonl"))
    assert '"event": "linked"' in text
    for value in ("张建国", "李芳", ZHANG["id_no"], ZHANG["phone"], *crosswalk().values()):
        assert value not in text


def test_a_model_of_other_comparisons_is_refused(town: Path) -> None:
    (town / "models").mkdir(parents=True)
    (town / "models" / "empi.json").write_text('{"trained_on": 5, "splink": {"comparisons": []}}')
    with pytest.raises(MedlakeError) as caught:
        empi.link(DAY)
    assert caught.value.code == "E302"


def test_too_few_records_to_train(town: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        empi.train(DAY)
    assert caught.value.code == "E304"


def test_no_truth_to_evaluate(town: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        empi.evaluate()
    assert caught.value.code == "E305"


def test_a_small_city_reaches_the_targets(lake_home: Path) -> None:
    """Registrations of a simulated city with the committed error rates; the truth is opened by evaluation only."""
    from bench.empi_city import DAY as CITY_DAY
    from bench.empi_city import make as prepare

    prepare(str(lake_home), residents=6000, seed=3)
    result = empi.link(CITY_DAY)
    found = empi.evaluate()
    assert found["records"] == result["records"] and found["persons"] == result["persons"]
    assert found["precision"] >= 0.995
    assert found["recall"] >= 0.985
    assert found["exact_clusters"] >= 0.99
    trusted = tables.read("silver/person_identifier").to_table().to_pylist()
    numbers: dict[str, set[str]] = {}
    for row in trusted:
        if row["identifier_type"] == "NI":
            numbers.setdefault(row["empi_id"], set()).add(row["identifier_value"])
    assert max(map(len, numbers.values())) == 1, "no person with two trusted ids"


def test_training_on_the_lake_takes_the_place_of_the_packaged_model(lake_home: Path) -> None:
    from bench.empi_city import DAY as CITY_DAY
    from bench.empi_city import make as prepare
    from empi import model

    prepare(str(lake_home), residents=6000, seed=3)
    trained = empi.train(CITY_DAY)
    assert model.path() == Path(trained["path"]) and trained["records"] > 8000
    empi.link(CITY_DAY)
    found = empi.evaluate()
    assert found["precision"] >= 0.99 and found["recall"] >= 0.97
