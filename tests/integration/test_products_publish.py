"""Publishing real files: what goes out, what is held back, what is refused, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

import products
from lake import tables
from lake.errors import MedlakeError
from lake.settings import settings
from products.paths import candidate_path
from tests import products_world as world

DAY_1, DAY_2 = world.DAY_1, world.DAY_2


def rows(sql: str) -> list[tuple]:
    con = duckdb.connect(str(products.serving_path()), read_only=True)
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()


def publication() -> dict[str, dict]:
    return {row["product"]: row for row in products.publication()}


def test_a_good_day_publishes_everything(lake_home: Path) -> None:
    world.day(DAY_1)
    report = products.publish(DAY_1)
    assert report["gate"] == "open" and report["blocked"] == []
    assert Path(products.serving_path()).name == report["file"]
    assert rows("SELECT count(*) FROM gold.daily_encounter") == [(28,)]
    assert rows(
        "SELECT data_date, received, loaded, duplicate, quarantined, open_findings, persons FROM ops.run_info"
    ) == [(DAY_1, 120, 110, 7, 3, 2, world.PERSONS)]
    assert rows("SELECT feed, received, loaded FROM ops.ledger") == [("his", 120, 110)]
    assert rows("SELECT count(*) FROM duckdb_views() WHERE NOT internal") == [(0,)]
    assert {row["data_date"] for row in products.publication()} == {DAY_1}
    assert tables.row_count("gold/daily_encounter") == 28
    products.assert_open(DAY_1)


def test_a_blocked_product_keeps_its_last_good_version(lake_home: Path) -> None:
    world.day(DAY_1)
    products.publish(DAY_1)
    before = rows("FROM gold.chronic_management ORDER BY ALL")
    world.day(DAY_2, salt=1000, closed={"chronic_disease": "随访记录有 31% 被排除"})
    report = products.publish(DAY_2)
    assert report["blocked"] == ["chronic_disease"] and report["gate"] == "closed"
    assert rows("FROM gold.chronic_management ORDER BY ALL") == before
    assert rows("SELECT max(visit_date) FROM gold.daily_encounter") == [(DAY_2,)]
    told = publication()
    assert told["chronic_disease"]["data_date"] == DAY_1 and told["chronic_disease"]["gate"] == "closed"
    assert "31%" in told["chronic_disease"]["reason_zh"]
    assert told["operations"]["data_date"] == DAY_2
    # the wall's cards name their product each: this one's is blocked, so it stays at its last good day
    assert rows("SELECT product, data_date FROM gold.wall_kpi ORDER BY 1") == [
        ("chronic_disease", DAY_1),
        ("operations", DAY_2),
    ]
    assert tables.read("gold/chronic_management").to_table()["managed"].to_pylist().count(1051) == 0
    with pytest.raises(MedlakeError) as error:
        products.assert_open(DAY_2)
    assert error.value.code == "E607" and "慢病管理" in error.value.zh


def test_a_blocked_product_comes_back(lake_home: Path) -> None:
    world.day(DAY_1)
    products.publish(DAY_1)
    world.day(DAY_2, salt=1000, closed={"chronic_disease": "x"})
    products.publish(DAY_2)
    world.judge(DAY_2)
    products.publish(DAY_2)
    assert rows("SELECT max(managed) FROM gold.chronic_management")[0][0] > 1000
    products.assert_open(DAY_2)


def test_never_published_and_blocked_is_empty_with_its_columns(lake_home: Path) -> None:
    world.day(DAY_1, closed={"chronic_disease": "x"})
    products.publish(DAY_1)
    assert rows("SELECT count(*) FROM gold.chronic_management") == [(0,)]
    columns = rows(
        "SELECT column_name FROM duckdb_columns() WHERE table_name = 'chronic_management' ORDER BY column_index"
    )
    assert [c for (c,) in columns] == ["disease", "org_code", "managed", "standard_managed"]
    told = publication()["chronic_disease"]
    assert told["data_date"] is None and told["published_at"] is None and "尚无合格版本" in told["reason_zh"]
    assert rows("SELECT product FROM gold.wall_kpi") == [("operations",)]


def test_a_model_that_did_not_build_blocks_its_product_alone(lake_home: Path) -> None:
    world.day(DAY_1)
    products.publish(DAY_1)
    world.deliver(DAY_2)
    world.link(DAY_2)
    world.judge(DAY_2)
    world.build(DAY_2, salt=1000, failed={"wall_kpi": "operations"})
    assert products.publish(DAY_2)["blocked"] == ["operations"]
    assert rows("SELECT DISTINCT data_date FROM gold.wall_kpi") == [(DAY_1,)]
    assert rows("SELECT max(managed) FROM gold.chronic_management")[0][0] > 1000
    assert "wall_kpi" in publication()["operations"]["reason_zh"]


def test_a_product_that_was_not_judged_is_closed(lake_home: Path) -> None:
    world.day(DAY_1)
    world.judge(DAY_1, omit=("laboratory",))
    assert products.publish(DAY_1)["blocked"] == ["laboratory"]


@pytest.mark.parametrize(
    ("extra_sql", "assets", "code", "named"),
    [
        ("CREATE VIEW gold.v AS SELECT 1 AS x", None, "E605", "gold.v"),
        ("CREATE TABLE gold.t AS SELECT 'x' AS id_no", None, "E606", "gold.t.id_no"),
        ("CREATE TABLE gold.t AS SELECT 'x' AS Phone", None, "E606", "gold.t.Phone"),
        ("CREATE TABLE gold.t AS SELECT 'E1' AS empi_id", None, "E606", "empi_id"),
        (
            "UPDATE gold.wall_alert SET text_zh = '患者42970119500304001X血钾危急'",
            None,
            "E611",
            "wall_alert.text_zh",
        ),
        ("UPDATE gold.wall_alert SET text_zh = '请联系13900000001'", None, "E611", "wall_alert.text_zh"),
        ("DROP TABLE gold.wall_alert", None, "E603", "wall_alert"),
        ("", world.ASSETS | {"dim_org": "nonsense"}, "E609", "nonsense"),
        ("UPDATE ops.build_info SET data_date = DATE '2026-01-01'", None, "E610", "2026-01-01"),
        ("UPDATE ops.build_info SET run_id = 'other'", None, "E610", "other"),
    ],
)
def test_what_must_not_go_out_stops_everything(
    lake_home: Path, extra_sql: str, assets: dict[str, str] | None, code: str, named: str
) -> None:
    world.day(DAY_1)
    products.publish(DAY_1)
    before = (products.serving_path(), world.snapshot(products.serving_path()))
    versions = {name: tables.version(name) for name in tables.names("gold/")}
    world.day(DAY_2)
    world.build(DAY_2, extra_sql=extra_sql, assets=assets)
    with pytest.raises(MedlakeError) as error:
        products.publish(DAY_2)
    assert error.value.code == code and named in error.value.zh
    assert (products.serving_path(), world.snapshot(products.serving_path())) == before
    assert versions == {name: tables.version(name) for name in tables.names("gold/")}


def test_nothing_judged_nothing_built_nothing_run(lake_home: Path) -> None:
    for missing in ("E106", "E602", "E601"):
        if missing == "E602":
            world.link(DAY_1)
            world.build(DAY_1)
        if missing == "E601":
            world.judge(DAY_1)
            candidate_path().unlink()
        with pytest.raises(MedlakeError) as error:
            products.publish(DAY_1)
        assert error.value.code == missing
    assert products.published_path() is None
    with pytest.raises(MedlakeError) as error:
        products.publication()
    assert error.value.code == "E608"


def test_twice_gives_the_same_tables_in_a_new_file(lake_home: Path) -> None:
    world.day(DAY_1)
    first = products.publish(DAY_1)
    content = world.snapshot(products.serving_path())
    second = products.publish(DAY_1)
    assert first["file"] != second["file"]
    assert world.snapshot(products.serving_path()) == content


def test_two_old_files_are_kept(lake_home: Path) -> None:
    world.day(DAY_1)
    files = [products.publish(DAY_1)["file"] for _ in range(5)]
    left = sorted(p.name for p in settings().serving_dir.glob("serving_*.duckdb"))
    assert left == sorted(files[-3:])


POINTS = ["planned", "written", "audited", "gold", "named", "link_drafted", "swapped"]
PUBLISH = [sys.executable, "-c", "import datetime, products; products.publish(datetime.date(2026, 11, 19))"]


def run_publish(home: Path, kill_at: str = "") -> int:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")}
    env |= {"MEDLAKE_HOME": str(home)} | ({"MEDLAKE_KILL_AT": kill_at} if kill_at else {})
    return subprocess.run(PUBLISH, env=env, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def second_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    """A home before the second day is published, with what is published then and what has to be afterwards."""
    home, control = (tmp_path_factory.mktemp("publish") / name for name in ("var", "control"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.day(DAY_1)
        products.publish(DAY_1)
        old = world.snapshot(products.serving_path())
        world.day(DAY_2, salt=1000, closed={"chronic_disease": "x"})
    settings.cache_clear()
    shutil.copytree(home, control, symlinks=True)
    assert run_publish(control) == 0
    return home, old, world.snapshot((control / "serving" / "serving.duckdb").resolve())


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_run_again_is_the_same(
    lake_home: Path, second_day: tuple[Path, dict, dict], point: str
) -> None:
    home, old, expected = second_day
    shutil.copytree(home, lake_home, symlinks=True)
    assert run_publish(lake_home, f"publish.{point}") == -signal.SIGKILL
    seen = world.snapshot(products.serving_path())  # whole, old or new, never between
    assert seen == (expected if point == "swapped" else old)

    products.publish(DAY_2)
    assert world.snapshot(products.serving_path()) == expected
    directory = settings().serving_dir
    stray = {p.name for p in directory.iterdir()} - {p.name for p in directory.glob("serving*.duckdb")}
    assert stray <= {".publish.lock"}
    assert len(list(directory.glob("serving_*.duckdb"))) <= 1 + settings().serving_keep


def test_readers_meet_a_whole_file_at_every_moment(lake_home: Path) -> None:
    world.day(DAY_1)
    products.publish(DAY_1)
    stop, seen, problems = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(rows("SELECT count(*) FROM gold.daily_encounter")[0][0])
            except Exception as error:
                problems.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        products.publish(DAY_1)
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems and set(seen) == {28} and len(seen) > 10
