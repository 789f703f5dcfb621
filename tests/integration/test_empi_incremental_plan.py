"""When a day is linked alone and when it is not, and what comes in beside registrations: deaths and laboratories."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import empi
from empi import incremental, model, state
from lake import ledger, tables
from lake.contracts import table_contract
from lake.errors import MedlakeError
from tests.empi_town import FIRST, Town, all_at_once, compare, show, visible

SECOND = FIRST + timedelta(days=1)
OUTPUTS = ("silver/person", "silver/person_identifier", "silver/person_event")


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A town after its first, full run; tests work on copies."""
    from lake.settings import settings

    home = tmp_path_factory.mktemp("town") / "var"
    before = os.environ.get("MEDLAKE_HOME")
    os.environ["MEDLAKE_HOME"] = str(home)
    settings.cache_clear()
    town = Town(11, ahead=False)
    town.deliver(town.day(120, 0))
    assert empi.link(FIRST)["reason"] == "no_state"
    if before is None:
        del os.environ["MEDLAKE_HOME"]
    else:
        os.environ["MEDLAKE_HOME"] = before
    settings.cache_clear()
    return home


@pytest.fixture
def town(linked: Path, lake_home: Path) -> Town:
    """The same town on the second day, in a lake of its own; the town's memory is rebuilt from its seed."""
    shutil.copytree(linked, lake_home, dirs_exist_ok=True)
    made = Town(11, ahead=False)
    made.day(120, 0)
    return made


def test_a_day_without_news_changes_nothing(town: Town) -> None:
    before = {n: ledger.visible("silver/")[n] for n in OUTPUTS}
    done = empi.link(SECOND)
    assert (done["mode"], done["reason"], done["core"]) == ("incremental", "valid_state", 0)
    assert {n: ledger.visible("silver/")[n] for n in OUTPUTS} == before
    assert done["persons"] == tables.row_count("silver/person")


def test_a_few_changes_are_linked_alone_and_many_all_at_once(town: Town) -> None:
    town.deliver(town.day(2, 2))
    assert empi.link(SECOND)["mode"] == "incremental"
    town.deliver(town.day(20, 2))
    done = empi.link(SECOND + timedelta(days=1))
    assert (done["mode"], done["reason"]) == ("full", "many_changes")
    town.deliver(town.day(2, 0))
    done = empi.link(SECOND + timedelta(days=2))
    assert (done["mode"], done["records"]) == (
        "incremental",
        len([r for r in town.rows.values() if not r["is_deleted"]]),
    )


def test_the_first_run_of_a_month_renews_the_statistics(town: Town) -> None:
    done = empi.link(date(2026, 12, 3))
    assert (done["mode"], done["reason"]) == ("full", "new_month")
    assert empi.link(date(2026, 12, 4))["mode"] == "incremental"


def _break(town: Town) -> None:
    state.path().write_bytes(state.path().read_bytes()[:5000])


def _remove(town: Town) -> None:
    state.path().unlink()


def _other_model(town: Town) -> None:
    own = state.path().parents[1] / "models" / "empi.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps(json.loads(model.PACKAGED.read_text("utf-8"))), "utf-8")


def _other_crosswalk(town: Town) -> None:
    """As if the last run had been killed after its tables and before its state."""
    kept = state.path().with_name("kept")
    shutil.copy(state.path(), kept)
    town.deliver(town.day(2, 2))
    assert empi.link(FIRST)["mode"] == "incremental"
    kept.replace(state.path())


def _rewritten(town: Town) -> None:
    """A data file of the version that was read is no longer on disk."""
    old = {f["path"] for f in tables.files("silver/patient")}
    town.deliver(town.day(1, 8))
    for gone in old - {f["path"] for f in tables.files("silver/patient")}:
        (tables.path("silver/patient") / gone).unlink()


def _crowded(town: Town) -> None:
    town.deliver([town.register() for _ in range(405)])
    crowd = sorted(town.rows)[-405:]
    for key in crowd:
        town.rows[key] |= {"name": "张小英", "birth_date": date(1980, 2, 2), "id_no": None}
    town.deliver(crowd)


@pytest.mark.parametrize(
    ("happens", "day", "reason"),
    [
        (_remove, SECOND, "no_state"),
        (_break, SECOND, "no_state"),
        (_other_model, SECOND, "other_model_or_software"),
        (_other_crosswalk, SECOND, "other_crosswalk"),
        (_rewritten, SECOND, "source_rewritten"),
        (_crowded, SECOND, "crowded"),
        (lambda town: None, FIRST - timedelta(days=1), "earlier_date"),
    ],
)
def test_without_firm_ground_a_run_is_full_and_says_why(
    town: Town, happens: Callable[[Town], None], day: date, reason: str
) -> None:
    happens(town)
    with pytest.raises(MedlakeError) as refused:
        empi.link(day, mode="incremental")
    assert refused.value.code == "E316"
    assert reason in refused.value.en
    done = empi.link(day)
    assert done["mode"] == "full"
    assert done["reason"] == ("many_changes" if reason == "crowded" else reason)


def test_two_processes_do_not_link_at_once(town: Town) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(1, flush=True); time.sleep(99)",
         str(state.path())],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(MedlakeError) as refused:
            empi.link(SECOND)
        assert refused.value.code == "E315"
    finally:
        holder.kill()
        holder.wait()
    assert empi.link(SECOND)["mode"] == "incremental"


@pytest.mark.parametrize("point", ["empi.crosswalk_written", "empi.outputs_recorded"])
def test_killed_on_a_day_and_run_again(town: Town, point: str) -> None:
    town.deliver(town.day(8, 20))
    before = visible("silver/person_identifier")
    ran = subprocess.run(
        [sys.executable, "-c", f"import empi, datetime; empi.link(datetime.date({SECOND:%Y, %-m, %-d}), mode='incremental')"],
        env=os.environ | {"MEDLAKE_KILL_AT": point},
        check=False,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL
    done = empi.link(SECOND, mode="auto" if point == "empi.outputs_recorded" else "incremental")
    if point == "empi.outputs_recorded":
        assert (done["mode"], done["reason"], done["created"]) == ("full", "other_crosswalk", 0)
    else:
        connection = all_at_once(SECOND, before)
        compare(connection)
        connection.close()


def test_a_death_reaches_a_person_whose_registrations_stay(town: Town) -> None:
    at = visible("silver/person")
    connection = _connection()
    empi_id, id_no, name = connection.execute(
        f"SELECT empi_id, id_no, name FROM {at} WHERE id_no IS NOT NULL AND name IS NOT NULL ORDER BY empi_id LIMIT 1"
    ).fetchall()[0]
    _silver("death_registry", {"id_no": id_no, "name": name, "died_on": date(2026, 11, 1)})
    assert empi.link(SECOND)["reason"] == "other_sources", "the register is new"
    other, id_no, name = connection.execute(
        f"SELECT empi_id, id_no, name FROM {at} WHERE id_no IS NOT NULL AND name IS NOT NULL AND NOT is_deceased "
        "ORDER BY empi_id DESC LIMIT 1"
    ).fetchall()[0]
    _silver("death_registry", {"id_no": id_no, "name": name, "died_on": date(2026, 11, 2)})
    done = empi.link(SECOND + timedelta(days=1))
    assert (done["mode"], done["created"]) == ("incremental", 0)
    dead = connection.execute(
        f"SELECT empi_id, death_date FROM {visible('silver/person')} WHERE is_deceased AND empi_id IN (?, ?)",
        [empi_id, other],
    ).fetchall()
    assert dict(dead) == {empi_id: date(2026, 11, 1), other: date(2026, 11, 2)}
    connection.close()


def test_a_laboratory_patient_is_a_record_until_the_hospital_registers_it(town: Town) -> None:
    seen = datetime(2026, 11, 2, 8, tzinfo=UTC)
    report = {"org_code": "H001", "requesting_org_code": "H101", "panel_code": "GLU", "reported_at": seen}
    someone = next(r for (t, _), r in sorted(town.rows.items()) if t == "patient" and not r["is_deleted"])
    _silver("lab_report", report | {"report_id": "r1", "patient_local_id": "L-1", "name": "张小英"})
    empi.link(SECOND)
    _silver("lab_report", report | {"report_id": "r2", "patient_local_id": "L-2", "name": "王建国"})
    known = {k: someone[k] for k in ("org_code", "patient_local_id")}
    _silver("lab_report", report | {"report_id": "r3", **known, "requesting_org_code": known["org_code"]})
    third = SECOND + timedelta(days=1)
    before = visible("silver/person_identifier")
    done = empi.link(third)
    assert (done["mode"], done["created"] + done["linked"]) == ("incremental", 1)
    connection = all_at_once(third, before)
    compare(connection)
    connection.close()
    key = ("patient", "L-2")
    town.rows[key] = {"patient_local_id": "L-2", "org_code": "H101", "name": "王建国", "is_deleted": False}
    town.deliver([key])
    before = visible("silver/person_identifier")
    assert empi.link(third + timedelta(days=1))["mode"] == "incremental"
    connection = all_at_once(third + timedelta(days=1), before)
    compare(connection)
    assert connection.execute(
        "SELECT identifier_value FROM record WHERE source_system = 'lis'"
    ).fetchall() == [("L-1",)]
    connection.close()


def test_parameters_are_dated(lake_home: Path) -> None:
    assert incremental.parameters(date(2026, 11, 20)) == incremental.parameters(date(2020, 1, 1))
    assert set(incremental.parameters(FIRST)) == {
        "valid_from",
        "max_changed_share",
        "full_every",
        "max_day_block",
    }


def _connection() -> Any:
    from lake import duck

    return duck.connect()


def _silver(name: str, row: dict[str, Any]) -> None:
    contract = table_contract(name)
    schema = contract.silver_schema()
    full = dict.fromkeys(schema.names) | {"data_date": FIRST, "batch_id": "b"} | row
    full |= {
        k: full[k] or f"{name}-{row.get('id_no')}"
        for k in contract.full_key
        if schema.field(k).type == pa.string()
    }
    tables.merge(f"silver/{name}", pa.Table.from_pylist([full], schema=schema), key=contract.full_key)
    show(f"silver/{name}")
