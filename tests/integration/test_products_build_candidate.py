"""The candidate file over several days: same twice, same by increments as afresh, whole or untouched when killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

import catalog
from lake import duck, ops
from lake.errors import MedlakeError
from lake.settings import settings
from products.build import build, docs
from products.paths import candidate_path
from tests.fixtures_silver import deliver, link, resident, shanghai, write

DAY = date(2026, 11, 19)
NEXT = DAY + timedelta(days=1)
IDENTIFYING = (
    "姓名P1",
    "姓名P2",
    "429701196001010",
    "13900001111",
    "湖滨街道1号",
    "A1",
    "A2",
    "L1",
    "L2",
    "P1",
    "P2",
)

Rows = dict[str, list[dict[str, Any]]]


def encounters(day: date) -> list[dict[str, Any]]:
    """Two of the first day; the next day one of them corrected, one late, one new."""

    def one(key: str, patient: str, fee: float, on: date, delivered: date) -> dict[str, Any]:
        return {
            "org_code": "H001",
            "encounter_id": key,
            "patient_local_id": patient,
            "class_code": "AMB",
            "started_at": shanghai(on),
            "total_fee": fee,
            "data_date": delivered,
            "batch_id": f"his-{delivered:%Y%m%d}",
        }

    first = [one("E1", "L1", 10.0, DAY, DAY), one("E2", "L2", 20.0, DAY, DAY)]
    if day == DAY:
        return first
    return [
        one("E1", "L1", 11.0, DAY, NEXT),
        first[1],
        one("E0", "L1", 5.0, DAY - timedelta(days=2), NEXT),
        one("E3", "L2", 30.0, NEXT, NEXT),
    ]


def silver(day: date, merged: bool = False) -> Rows:
    second = "P1" if merged else "P2"
    return {
        "person": [
            resident(p, phone="13900001111", addr_detail="湖滨街道1号")
            for p in ("P1", *(() if merged else ("P2",)))
        ],
        "person_identifier": [
            link("P1", "his", "H001", "L1"),
            link(second, "his", "H001", "L2"),
            link("P1", "public_health", "C201", "A1"),
            link(second, "public_health", "C201", "A2"),
        ],
        "ph_archive": [
            {"archive_id": a, "birth_date": date(1960, 1, 1), "sex_code": "1", "created_on": date(2020, 1, 1)}
            for a in ("A1", "A2")
        ],
        "htn_card": [
            {"card_id": f"K-{a}", "archive_id": a, "carded_on": date(2020, 1, 1)} for a in ("A1", "A2")
        ],
        "htn_visit": [
            {
                "visit_id": f"V-{a}",
                "archive_id": a,
                "visited_on": DAY,
                "visit_way_code": "1",
                "sbp_mmhg": 182.0,
            }
            for a in ("A1", "A2")
        ],
        "lab_report": [
            {
                "org_code": "H001",
                "report_id": "R1",
                "patient_local_id": "L2",
                "reported_at": shanghai(DAY),
                "name": "姓名P2",
            }
        ],
        "lab_result": [{"org_code": "H001", "report_id": "R1", "seq": 1, "item_code": "K", "value_num": 4.0}],
        "encounter": encounters(day),
        "quality.finding": [
            {
                "finding_id": "f",
                "table_name": "htn_card",
                "record_key": "K-A1",
                "severity": "error",
                "state": "open",
            }
        ],
    }


def dump(path: Path) -> dict[str, list[Any]]:
    """All rows of gold, but for sizes on disk."""
    with duck.connect(path, read_only=True) as con:
        names = con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold' ORDER BY 1"
        ).fetchall()
        return {
            name: con.execute(f"SELECT COLUMNS(c -> c <> 'bytes') FROM gold.{name} ORDER BY ALL").fetchall()
            for (name,) in names
        }


def _enter(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.setenv("MEDLAKE_HOME", str(home))
    patch.delenv("MEDLAKE_KILL_AT", raising=False)
    settings.cache_clear()
    ops._engine.cache_clear()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    _enter(monkeypatch, tmp_path / "var")
    yield tmp_path / "var"
    settings.cache_clear()
    ops._engine.cache_clear()


@pytest.fixture(scope="module")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one day built, for tests that only look."""
    path = tmp_path_factory.mktemp("built") / "var"
    with pytest.MonkeyPatch.context() as patch:
        _enter(patch, path)
        write(DAY, silver(DAY))
        assert not build(DAY)["failed"]
    return path


@pytest.fixture
def built(built_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    _enter(monkeypatch, built_home)
    yield built_home
    settings.cache_clear()
    ops._engine.cache_clear()


def test_days_by_increment_equal_days_afresh(home: Path) -> None:
    """Corrections, late rows and a merge of two residents arrive by increment; the same day twice changes nothing."""
    write(DAY, silver(DAY))
    first = build(DAY)
    assert first["fresh"] == "no candidate yet" and not first["failed"]
    before = dump(candidate_path())
    assert build(DAY)["fresh"] == ""
    assert dump(candidate_path()) == before

    write(NEXT, silver(NEXT, merged=True))
    assert build(NEXT)["fresh"] == ""
    by_increment = dump(candidate_path())
    assert len(by_increment["fct_encounter"]) == 4
    assert by_increment["fct_encounter"] != before["fct_encounter"]
    people = {row[2] for row in by_increment["fct_encounter"]}
    assert len(people) == 1, "the untouched row of the merged resident has the survivor's token too"

    assert build(NEXT, full_refresh=True)["fresh"] == "asked for"
    assert dump(candidate_path()) == by_increment

    again = build(DAY)  # the earlier day once more: nothing of the later one may stay
    assert again["fresh"] == "the candidate is of a later date"
    assert dump(candidate_path()) == before


def test_gold_holds_nobodys_name_or_number(built: Path) -> None:
    texts = {
        str(value)
        for name, rows in dump(candidate_path()).items()
        if not name.startswith("catalog_")  # these two describe, and hold no record
        for row in rows
        for value in row
    }
    for secret in IDENTIFYING:
        assert not [t for t in texts if t == secret or (len(secret) > 4 and secret in t)], secret


def test_the_catalogue_lists_what_was_built_with_sizes_lineage_and_quality(built: Path) -> None:
    listed = {a["asset_id"]: a for a in catalog.assets()}
    with duck.connect(candidate_path(), read_only=True) as con:
        gold = con.execute(
            "SELECT 'gold.' || table_name FROM duckdb_tables() WHERE schema_name = 'gold'"
        ).fetchall()
        for (name,) in gold:
            counted = con.execute(f"SELECT count(*) FROM {name}").fetchone()
            assert (listed[name]["row_count"],) == counted, name
            columns = [c for (c,) in con.execute(f"SELECT column_name FROM (DESCRIBE {name})").fetchall()]
            assert [f["field"] for f in catalog.fields(name)] == columns, name
            kinds = [k for (k,) in con.execute(f"SELECT column_type FROM (DESCRIBE {name})").fetchall()]
            written = [
                f["type"].replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE") for f in catalog.fields(name)
            ]
            assert written == kinds, name
    assert {"silver.encounter", "silver.person", "quality.finding"} <= set(listed)
    assert "silver.ph_exam" not in listed, "nobody delivered it"
    encounter = listed["gold.daily_encounter"]
    assert "gold.fct_encounter" in encounter["upstream"] and "gold.wall_kpi" in encounter["downstream"]
    assert "exposure.operations_wall" in encounter["downstream"]
    assert (
        encounter["freshness"] == DAY
        and encounter["product"] == "operations"
        and encounter["owner"] == "运营管理部"
    )
    assert (
        listed["silver.htn_card"]["quality_score"] == 50.0 and listed["silver.htn_card"]["open_findings"] == 1
    )
    assert listed["gold.htn_management"]["quality_score"] == 50.0, "as good as the worst it is made of"
    assert listed["gold.fct_encounter"]["quality_score"] is None, "no rule judged what it is made of"
    assert listed["silver.encounter"]["bytes"] > 0 and listed["gold.dim_org"]["bytes"] > 0
    with pytest.raises(MedlakeError, match="E507"):
        catalog.fields("gold.nothing")


def test_a_broken_key_blocks_its_products_and_nobody_elses(home: Path) -> None:
    """An archive that comes twice must not double people: all that stands on it fails, laboratory does not."""
    write(DAY, silver(DAY))
    assert not build(DAY)["failed"]
    broken = silver(NEXT)
    broken["ph_archive"] += broken["ph_archive"][:1]
    write(NEXT, broken)
    report = build(NEXT)
    assert {"stg_archive", "htn_management", "chronic_management"} <= set(report["failed"])
    assert "chronic_disease" in report["failed_products"] and "laboratory" not in report["failed_products"]
    with duck.connect(candidate_path(), read_only=True) as con:
        rows = con.execute(
            "SELECT model, status, message FROM ops.build_result WHERE status = 'fail'"
        ).fetchall()
        assert rows and all("A1" not in message for _, _, message in rows)
        assert con.execute("SELECT data_date FROM ops.build_info").fetchone() == (NEXT,)
        products = dict(con.execute("SELECT table_name, product FROM ops.asset_product").fetchall())
    assert products["htn_management"] == "chronic_disease" and products["catalog_asset"] == "catalog"

    write(NEXT, silver(NEXT))  # mended: the next build goes on without help
    mended = build(NEXT)
    assert not mended["failed"]
    with duck.connect(candidate_path(), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM gold.htn_management").fetchone() == (2,)


def test_a_day_on_which_most_feeds_are_silent_is_built(home: Path) -> None:
    write(DAY, {"encounter": []})
    report = build(DAY)
    assert not report["failed"]
    with duck.connect(candidate_path(), read_only=True) as con:
        assert con.execute("SELECT count(*), sum(value) FROM gold.wall_kpi").fetchone() == (6, 0)
        assert con.execute("SELECT count(*) FROM gold.district_map").fetchone() == (18,)


def test_a_run_without_tables_says_what_to_do(home: Path) -> None:
    write(DAY, {})
    with pytest.raises(MedlakeError, match="E501"):
        build(DAY)
    assert not candidate_path().exists()


def test_an_unreadable_candidate_is_replaced(home: Path) -> None:
    write(DAY, silver(DAY))
    candidate_path().parent.mkdir(parents=True)
    candidate_path().write_bytes(b"not a database")
    report = build(DAY)
    assert report["fresh"] == "no candidate yet" and not report["failed"]
    with duck.connect(candidate_path(), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM gold.wall_kpi").fetchone() == (6,)


def test_docs_are_generated_and_leave_the_candidate_alone(built: Path) -> None:
    before = candidate_path().read_bytes()
    folder = docs()
    assert (folder / "index.html").stat().st_size > 0
    assert "wall_kpi" in (folder / "catalog.json").read_text("utf-8")
    assert candidate_path().read_bytes() == before


def test_nothing_to_document_before_a_build(home: Path) -> None:
    with pytest.raises(MedlakeError, match="E505"):
        docs()


def test_a_killed_build_leaves_the_last_candidate_and_the_next_one_finishes(home: Path) -> None:
    write(DAY, silver(DAY))
    build(DAY)
    before = candidate_path().read_bytes()
    write(NEXT, silver(NEXT))
    deliver("his", NEXT, ["H001"])
    command = f"from datetime import date; from products import build; build(date.fromisoformat('{NEXT}'))"
    for at in ("build.prepared", "build.modelled", "build.catalogued"):
        killed = subprocess.run(
            [sys.executable, "-c", command],
            env=os.environ | {"MEDLAKE_KILL_AT": at},
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, (at, killed.stderr.decode()[-2000:])
        assert candidate_path().read_bytes() == before, at
    assert not build(NEXT)["failed"]
    after_kill = dump(candidate_path())
    build(NEXT, full_refresh=True)
    assert dump(candidate_path()) == after_kill


def test_the_file_is_free_for_others_after_a_build(built: Path) -> None:
    """dbt's adapter would keep it open in this process, and publishing could not attach it."""
    with duckdb.connect(str(candidate_path())) as con:
        con.execute("CREATE TABLE ops.probe AS SELECT 1 AS one")
