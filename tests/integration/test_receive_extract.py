"""Extracts from a real PostgreSQL and a real MariaDB: what is read, what is never lost, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import ingestion
from ingestion.pull import database, database_keys, database_read, database_sources, database_state
from lake.errors import MedlakeError
from lake.settings import settings
from medlake.commands import extract
from tests import extract_world as world
from tests.extract_world import DAY, SourceDatabase, dropped, register, run
from tests.ingestion_world import content
from tests.servers import mariadb as mariadb_
from tests.servers.mariadb import MariaDB
from tests.servers.postgres import Postgres


@pytest.fixture(params=["postgresql", "mysql"])
def source(
    request: pytest.FixtureRequest, lake_home: Path, postgres_server: Postgres, mariadb_server: MariaDB
) -> Iterator[SourceDatabase]:
    if request.param == "postgresql":
        url = postgres_server.create("hospital")
        made = world.make("postgresql", url, url)
    else:
        url = mariadb_server.create("hospital")
        admin = sa.make_url(url).set(username="admin", password=mariadb_.PASSWORD)
        made = world.make("mysql", url, admin)
    register(made)
    yield made
    made.admin.dispose()


def _refused(code: str, table: str, **options: Any) -> MedlakeError:
    with pytest.raises(MedlakeError) as caught:
        run(table, **options)
    assert caught.value.code == code
    return caught.value


def test_values_arrive_exact(source: SourceDatabase) -> None:
    quote = "E'王''小\\\\东 %s\\n9'" if source.kind == "postgresql" else "'王''小\\\\东 %s\\n9'"
    blob = "'\\x00ff'::bytea" if source.kind == "postgresql" else "x'00ff'"
    source.do(source.patient("P1", "x", "2026-11-18 00:00:00.123456", blob))
    source.do(f"UPDATE person SET name = {quote}")
    source.do("INSERT INTO dx VALUES ('E1', 1, 'I10.x00', '2026-11-18 08:00:00', 123456789012345678.123456)")
    source.do("INSERT INTO dx VALUES ('E1', 2, NULL, NULL, NULL)")
    told, rows = run("patient")
    assert told["mode"] == "increment" and told["rows"] == 1
    assert rows[0]["PATIENT_LOCAL_ID"] == "P1" and rows[0]["NAME"] == "王'小\\东 %s\n9"
    assert rows[0]["SOURCE_UPDATED_AT"] == "2026-11-18T00:00:00.123456Z"
    assert rows[0]["BIRTH_DATE"] == "1958-03-12" and rows[0]["ADDR_DETAIL"] is None
    assert rows[0]["note"] == "AP8=" and told["columns_unknown"] == ["note"]
    told, rows = run("diagnosis")
    assert told["mode"] == "snapshot" and told["changed"] == 2
    by_seq = {r["SEQ"]: r for r in rows}
    assert by_seq["1"]["weight"] == "123456789012345678.123456"
    assert by_seq["1"]["DX_AT"].startswith("2026-11-18 08:00:00") and by_seq["1"]["_op"] == "U"
    assert by_seq["2"]["ICD10_CODE"] is None and by_seq["2"]["weight"] is None


def test_increments_continue_where_everything_is_settled(source: SourceDatabase) -> None:
    source.do(*(source.patient(f"P{n}", "a", f"2026-11-18 00:{n:02d}:00") for n in range(30)))
    assert run("patient")[0]["rows"] == 30
    again, rows = run(
        "patient"
    )  # the overlap counts back from the newest row: its last ten minutes come again
    assert again["rows"] == 10 and {r["PATIENT_LOCAL_ID"] for r in rows} == {f"P{n}" for n in range(20, 30)}
    source.do(source.patient("P3", "b", "2026-11-18 01:00:00"))
    _, rows = run("patient")
    assert ("P3", "b") in {(r["PATIENT_LOCAL_ID"], r["NAME"]) for r in rows}


def test_a_late_commit_within_the_overlap_is_not_lost(source: SourceDatabase) -> None:
    source.do(source.patient("P1", "a", "2026-11-18 00:00:00"))
    with source.open_transaction() as late:
        late.exec_driver_sql(source.patient("P2", "late", "2026-11-18 00:05:00").replace("%", "%%"))
        source.do(source.patient("P3", "c", "2026-11-18 00:09:00"))
        assert {r["PATIENT_LOCAL_ID"] for r in run("patient")[1]} == {"P1", "P3"}
        late.commit()
    assert "P2" in {r["PATIENT_LOCAL_ID"] for r in run("patient")[1]}


def test_many_rows_of_one_watermark_across_chunks(source: SourceDatabase) -> None:
    register(source, world.PATIENT | {"chunk_rows": 7})
    source.do(*(source.patient(f"P{n:03d}", "a", "2026-11-18 00:00:00") for n in range(50)))
    source.do(source.patient("P999", "a", "2026-11-18 02:00:00"))
    told, rows = run("patient")
    assert sorted(r["PATIENT_LOCAL_ID"] for r in rows) == [*(f"P{n:03d}" for n in range(50)), "P999"]
    assert len(told["files"]) >= 8
    assert {r["PATIENT_LOCAL_ID"] for r in run("patient")[1]} == {"P999"}


def test_rows_without_or_ahead_of_the_clock_neither_vanish_nor_move_the_frontier(
    source: SourceDatabase,
) -> None:
    source.do(source.patient("P1", "a", "2026-11-18 00:00:00"), source.patient("P2", "a", None))
    source.do(source.patient("P3", "wrong clock", "2037-01-01 00:00:00"))
    told, rows = run("patient")
    assert len(rows) == 3 and told["without_watermark"] == 1
    source.do(source.patient("P4", "later", "2026-11-18 03:00:00"))
    assert {r["PATIENT_LOCAL_ID"] for r in run("patient")[1]} >= {"P2", "P3", "P4"}


def test_a_watermark_without_a_zone_is_the_sources_local_time(source: SourceDatabase) -> None:
    """An hour ago in Shanghai is settled; taken for UTC it would lie seven hours ahead and come again each time."""
    ago = (
        "(now() at time zone 'Asia/Shanghai') - interval '{}'"
        if source.kind == "postgresql"
        else "utc_timestamp() + {}"
    )
    hour, half = (
        ("1 hour", "30 minutes")
        if source.kind == "postgresql"
        else ("interval 7 hour", "interval 450 minute")
    )
    source.do(
        "ALTER TABLE person ADD updated_local "
        + ("timestamp" if source.kind == "postgresql" else "datetime(6)")
    )
    source.do(
        source.patient("P1", "a", None).replace(
            "VALUES", "(pid, name, sex_code, birth_date, addr_detail, changed, note) VALUES"
        )
    )
    source.do(
        source.patient("P2", "a", None).replace(
            "VALUES", "(pid, name, sex_code, birth_date, addr_detail, changed, note) VALUES"
        )
    )
    source.do(f"UPDATE person SET updated_local = {ago.format(hour)} WHERE pid = 'P1'")
    source.do(f"UPDATE person SET updated_local = {ago.format(half)} WHERE pid = 'P2'")
    register(source, world.PATIENT | {"watermark": "updated_local", "overlap": 60})
    assert run("patient")[0]["rows"] == 2
    assert {r["PATIENT_LOCAL_ID"] for r in run("patient")[1]} == {"P2"}, "the newest may still have company"


def test_a_snapshot_finds_new_changed_and_deleted_rows(source: SourceDatabase) -> None:
    register(source, world.DIAGNOSIS | {"max_delete_share": 0.5})
    source.do(*(f"INSERT INTO dx VALUES ('E{n}', {s}, 'I10', NULL, 1.5)" for n in range(4) for s in (1, 2)))
    assert run("diagnosis")[0]["changed"] == 8
    told, rows = run("diagnosis")
    assert (told["rows"], told["changed"], told["deleted"], rows) == (8, 0, 0, [])
    source.do(
        "DELETE FROM dx WHERE encounter_id = 'E1' AND seq = 2",
        "INSERT INTO dx VALUES ('E9', 1, 'J18', NULL, NULL)",
    )
    source.do("UPDATE dx SET weight = NULL WHERE encounter_id = 'E2' AND seq = 1")
    told, rows = run("diagnosis")
    assert (told["changed"], told["deleted"]) == (2, 1)
    assert {(r["ENCOUNTER_ID"], r["SEQ"], r["_op"]) for r in rows} == {
        ("E9", "1", "U"),
        ("E2", "1", "U"),
        ("E1", "2", "D"),
    }
    source.do("INSERT INTO dx VALUES ('E1', 2, 'I10', NULL, 1.5)")
    assert [(r["ENCOUNTER_ID"], r["_op"]) for r in run("diagnosis")[1]] == [("E1", "U")]


def test_a_row_that_came_by_increment_and_is_deleted_is_found(source: SourceDatabase) -> None:
    source.do(*(source.patient(f"P{n}", "a", f"2026-11-18 0{n}:00:00") for n in range(6)))
    run("patient", full=True)
    source.do(source.patient("P7", "new", "2026-11-18 07:00:00"))
    run("patient")
    source.do("DELETE FROM person WHERE pid IN ('P7')")
    _, rows = run("patient", full=True)
    assert [(r["PATIENT_LOCAL_ID"], r["_op"]) for r in rows] == [("P7", "D")]
    pieces = list(database_keys.folder(world.NAME, "patient").glob("keys-*"))
    assert len(pieces) == 1, "a base stands for all that was before it"


def test_too_many_deletes_are_refused_until_somebody_says_they_are_real(source: SourceDatabase) -> None:
    source.do(*(f"INSERT INTO dx VALUES ('E{n}', 1, 'I10', NULL, 1)" for n in range(10)))
    run("diagnosis")
    source.do("DELETE FROM dx WHERE encounter_id <> 'E0'")
    error = _refused("E277", "diagnosis")
    assert "9" in error.zh and "10" in error.zh
    told, rows = run("diagnosis", accept_deletes=True)
    assert told["deleted"] == 9 and {r["_op"] for r in rows} == {"D"}


def test_a_renamed_column_is_told_and_not_read_as_null(source: SourceDatabase) -> None:
    source.do("INSERT INTO dx VALUES ('E1', 1, 'I10', NULL, 1)")
    run("diagnosis")
    rename = "RENAME COLUMN icd10_code TO icd_code"
    source.do(f"ALTER TABLE dx {rename}")
    error = _refused("E276", "diagnosis")
    assert "icd10_code" in error.zh and "icd_code" in error.zh
    register(source, world.DIAGNOSIS | {"columns": {"icd10_code": "icd_code"}})
    told, rows = run("diagnosis", accept_columns=True)
    assert told["columns_gone"] == ["icd10_code"] and told["columns_new"] == ["icd_code"]
    assert rows == [] and told["rows"] == 1, "the same values under another name are no change"


@pytest.mark.parametrize("point", ["extract.dropped", "extract.chunk"])
def test_a_kill_in_the_middle_loses_nothing_and_ingests_once(source: SourceDatabase, point: str) -> None:
    register(source, world.PATIENT | {"chunk_rows": 20})
    source.do(
        *(source.patient(f"P{n:03d}", "a", f"2026-11-18 {n // 60:02d}:{n % 60:02d}:00") for n in range(90))
    )
    code = (
        "from ingestion.pull import database; from datetime import date;"
        f"database.run('{world.NAME}', date(2026, 11, 18), table='patient')"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MEDLAKE_KILL_AT": point}, check=False
    )
    assert killed.returncode == -9
    first = len(dropped())
    assert first >= 20
    told, rows = run("patient")
    if point == "extract.chunk":
        assert told["rows"] == 70, "goes on after the chunk that was safe"
    assert {r["PATIENT_LOCAL_ID"] for r in dropped()} == {f"P{n:03d}" for n in range(90)}
    done = ingestion.ingest_feed("his", DAY)
    assert done["received"] == done["loaded"] + done["duplicate"] + done["quarantined"] == first + len(rows)
    assert [r[0] for r in content("silver/patient", "patient_local_id")] == [f"P{n:03d}" for n in range(90)]


def test_silver_follows_the_source(source: SourceDatabase) -> None:
    register(source, world.PATIENT, world.DIAGNOSIS | {"max_delete_share": 1})
    source.do(
        source.patient("P1", "王小东", "2026-11-18 00:00:00"),
        source.patient("P2", "李四", "2026-11-18 00:00:01"),
    )
    source.do(*(f"INSERT INTO dx VALUES ('E1', {n}, 'I10', '2026-11-18 08:00:00', 1)" for n in (1, 2)))
    database.run(world.NAME, DAY)
    assert ingestion.ingest_feed("his", DAY)["loaded"] == 4
    source.do(source.patient("P1", "王晓东", "2026-11-18 01:00:00"))
    source.do("DELETE FROM dx WHERE seq = 2")
    database.run(world.NAME, DAY)
    ingestion.ingest_feed("his", DAY)
    assert content("silver/patient", "patient_local_id, name") == [("P1", "王晓东"), ("P2", "李四")]
    found = content("silver/diagnosis", "seq, is_deleted, CAST(dx_at AS VARCHAR)")
    assert [(r[0], r[1]) for r in found] == [(1, False), (2, True)]
    assert found[0][2] == "2026-11-18 00:00:00+00", "a date-time without a zone is Shanghai's"


def test_date_times_of_another_zone(source: SourceDatabase) -> None:
    register(source, world.DIAGNOSIS, time_zone="Asia/Urumqi")
    source.do("INSERT INTO dx VALUES ('E1', 1, 'I10', '2026-11-18 08:00:00', 1)")
    assert run("diagnosis")[1][0]["DX_AT"] == "2026-11-18T02:00:00.000000Z"


def test_the_source_cannot_be_changed(source: SourceDatabase) -> None:
    opened = database_read.opened(database_sources.source(world.NAME))
    with pytest.raises(MedlakeError, match="E275"), opened as (_, engine), engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO dx VALUES ('E1', 1, 'I10', NULL, 1)")
    assert source.rows("SELECT count(*) FROM dx") == [(0,)]


def test_a_statement_has_its_time(source: SourceDatabase) -> None:
    register(source, world.DIAGNOSIS, query_timeout_seconds=1)
    source.do("INSERT INTO dx VALUES ('E1', 1, 'I10', NULL, 1)")
    slow = "pg_sleep(30)::text" if source.kind == "postgresql" else "sleep(30)"
    source.do(f"CREATE VIEW slow AS SELECT encounter_id, seq, {slow} AS icd10_code FROM dx")
    register(source, {"table": "diagnosis", "relation": "slow"}, query_timeout_seconds=1)
    error = _refused("E275", "diagnosis")
    assert "timeout" in error.en


def test_a_wrong_password_is_told_without_it(source: SourceDatabase) -> None:
    if source.kind == "postgresql":
        url = sa.make_url(source.url).set(database="nowhere")
        source.url = url.set(password="s3cret-word").render_as_string(hide_password=False)
        register(source)
    else:
        secret = settings().secrets_dir / "his-c201.password"
        secret.write_text("s3cret-word", "utf-8")
    error = _refused("E275", "diagnosis")
    logs = "".join(p.read_text("utf-8") for p in settings().log_dir.glob("*"))
    assert "s3cret-word" not in str(error) + logs + json.dumps(database.sources(), default=str)


def test_two_runs_of_one_table_do_not_meet(source: SourceDatabase) -> None:
    from filelock import FileLock

    with FileLock(database_keys.folder(world.NAME, "diagnosis") / "lock"):
        _refused("E278", "diagnosis")


def test_the_register_is_checked(source: SourceDatabase) -> None:
    register(source, world.DIAGNOSIS | {"columns": {"nope": "x"}})
    _refused("E274", "diagnosis")
    register(source, world.DIAGNOSIS, password="in clear")
    _refused("E274", "diagnosis")
    register(source, world.DIAGNOSIS)
    database_sources.path().chmod(0o644)
    assert "0600" in _refused("E274", "diagnosis").en
    register(source, {"table": "diagnosis", "relation": "nowhere"})
    _refused("E276", "diagnosis")


MEASURE = """
import json, resource, sys
from datetime import date
from ingestion.pull import database
database.run("his-c201", date(2026, 11, 18), table="diagnosis")  # loads drivers and engines
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = [database.run("his-c201", date(2026, 11, 18), table="patient", full=f)[0] for f in (False, True)]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
print(json.dumps({"rows": [t["rows"] for t in told], "changed": told[1]["changed"], "grown_mb": grown / 1024}))
"""


def test_memory_is_bounded_by_the_chunk(source: SourceDatabase) -> None:
    """200,000 rows of 600 bytes are 120 MB of text; what is held at once is a few chunks of 10,000."""
    many = "FROM generate_series(1, 200000) seq" if source.kind == "postgresql" else "FROM seq_1_to_200000"
    at = (
        "timestamptz '2026-11-01 00:00:00+00'"
        if source.kind == "postgresql"
        else "timestamp '2026-11-01 00:00:00'"
    )
    second = "seq * interval '1 second'" if source.kind == "postgresql" else "interval seq second"
    values = f"concat('P', seq), repeat(md5(concat('', seq)), 19), '1', NULL, NULL, {at} + {second}, NULL"
    source.do(f"INSERT INTO person SELECT {values} {many}")
    source.do("CREATE INDEX by_change ON person (changed)")
    register(source, world.PATIENT | {"chunk_rows": 10_000}, world.DIAGNOSIS)
    env = os.environ | {"MEDLAKE_DUCKDB_MEMORY": "80MB"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], env=env, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == [200_000, 200_000] and found["changed"] == 0
    assert found["grown_mb"] < 250, found
    assert database_state.load(world.NAME, "patient").frontier is not None


def test_on_the_command_line(source: SourceDatabase) -> None:
    source.do(source.patient("P1", "王小东", "2026-11-18 00:00:00"))
    runner = CliRunner()
    done = runner.invoke(extract.app, ["run", world.NAME, "--date", "2026-11-18", "--ingest", "--json"])
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 0 and told["ingested"]["loaded"] == 1
    assert [(t["table"], t["mode"], t["rows"]) for t in told["tables"]] == [
        ("patient", "increment", 1),
        ("diagnosis", "snapshot", 0),
    ]
    listed = runner.invoke(extract.app, ["sources", "--json"]).stdout.splitlines()[-1]
    assert [(r["table"], r["runs"]) for r in json.loads(listed)["rows"]] == [("patient", 1), ("diagnosis", 1)]
    assert mariadb_.PASSWORD not in done.stdout + listed
    assert runner.invoke(extract.app, ["run", "nowhere", "--json"]).exit_code == 1


@pytest.mark.parametrize("column", ["changed", "version"])
def test_any_database_that_sqlalchemy_reaches(lake_home: Path, tmp_path: Path, column: str) -> None:
    """The path of SQL Server and Oracle, here with SQLite's driver: values become text on our side."""
    url = f"sqlite:///{tmp_path / 'his.db'}"
    fields = "pid varchar(20) PRIMARY KEY, name text, changed datetime, version integer, weight numeric(9, 3), note blob"
    ddl = f"CREATE TABLE person ({fields})"
    engine = sa.create_engine(url)
    made = SourceDatabase("sqlite", url, engine)
    made.do(
        ddl,
        *(
            f"INSERT INTO person VALUES ('P{n}', '王', '2026-11-18 0{n}:00:00.000000', {n}, 1.5, x'00ff')"
            for n in range(8)
        ),
    )
    columns = {"patient_local_id": "pid", "source_updated_at": "changed"}
    register(
        made,
        {
            "table": "patient",
            "relation": "person",
            "columns": columns,
            "watermark": column,
            "overlap": 1,
            "chunk_rows": 3,
        },
    )
    told, rows = run("patient")
    assert told["rows"] == 8 and len(told["files"]) == 3
    assert rows[0]["SOURCE_UPDATED_AT"] == "2026-11-18 00:00:00" and rows[0]["note"] == "AP8="
    made.do("INSERT INTO person VALUES ('P9', '李', '2026-11-18 09:00:00.000000', 9, 1, NULL)")
    _, rows = run("patient")
    assert {r["PATIENT_LOCAL_ID"] for r in rows} >= {"P9"} and len(rows) <= 2
    made.do("DELETE FROM person WHERE pid = 'P0'")
    _, rows = run("patient", full=True)
    assert [(r["PATIENT_LOCAL_ID"], r["_op"]) for r in rows] == [("P0", "D")]
    engine.dispose()
