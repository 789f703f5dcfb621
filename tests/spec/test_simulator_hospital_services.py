"""Charges, laboratory, imaging, machines, pharmacy and insurance of the simulated city, held against their rules."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import ingestion
from lake import registry
from lake.settings import settings
from quality.engine import evaluate
from quality.rule import rulebook
from simulator.clinical import world as clinical
from simulator.clinical.hospital_services import FEED_OF
from simulator.clinical.window import Window
from simulator.clinical.world import Register, make_world
from simulator.faults.inject import put_faults
from simulator.faults.record import KEYS, World
from simulator.people import make_city
from simulator.profile import Profile
from simulator.writers import base, operations_csv
from tests.spec.simulated_silver import load, reads

END = date(2026, 11, 20)
DOMAINS = ("HIS", "LIS", "PAC", "IOT", "PHM", "INS")
BOOK = rulebook().only(*(r.id for r in rulebook().rules if r.domain in DOMAINS))
RULES = {r.id for r in BOOK.rules}


def built(residents: int, seed: int) -> tuple[Any, dict[str, pa.Table], Window, Profile]:
    rates, window = Profile.load("default"), Window.of(END, 2, 3)
    city = make_city(rates, residents, seed, window.horizon)
    days = {"imaging_history_days": rates.history.pacs_history_days, "telemetry_history_days": 20}
    made = make_world(city, Register.of(registry.orgs()), window, rates.clinical | days, seed)
    return city, made, window, rates


Judged = tuple[set[tuple[str, str, str, str]], set[tuple[str, str, str, str]]]


def judged(world: World) -> Judged:
    """(what the truth names, what the rules find) as (rule, table, institution, key) on the state of the last day."""
    truth = {
        (r["rule_id"], r["table_name"], r["org_code"], r["record_key"])
        for r in world.truth().to_pylist()
        if r["rule_id"] in RULES and r["data_date"] <= END
    }
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA flags")
        for table in sorted(reads(BOOK)):
            load(connection, world, table, END)
        evaluate(connection, BOOK, END)
        found = connection.execute(
            "SELECT rule_id, table_name, org_code, record_key FROM finding_now"
        ).fetchall()
    return truth, set(found)


@pytest.fixture(scope="module")
def city() -> tuple[Any, dict[str, pa.Table], Window, Profile]:
    return built(4000, 5)


@pytest.fixture(scope="module")
def faulty(city: tuple[Any, dict[str, pa.Table], Window, Profile]) -> World:
    made, tables, window, rates = city
    told = {
        "sex_of_resident": made.residents["sex_code"].to_pylist(),
        "hospital_least": 2,
    }  # there are few stays
    return put_faults(tables, window, rates.faults | told, 5)[0]


def test_every_rule_is_broken_and_every_break_is_found(faulty: World) -> None:
    truth, found = judged(faulty)
    assert {rule for rule, *_ in truth} == RULES
    assert found - truth == set()
    assert truth - found == set()


def test_a_clean_city_breaks_only_what_the_world_itself_brings(
    city: tuple[Any, dict[str, pa.Table], Window, Profile],
) -> None:
    """Wrong registrations and strangers' pictures, all of them logged as nobody's doing."""
    made, tables, window, rates = city
    clean = {
        "sex_of_resident": made.residents["sex_code"].to_pylist(),
        "rules_enabled": False,
        "malformed": False,
    }
    world, _ = put_faults(tables, window, rates.faults | clean, 5)
    truth, found = judged(world)
    assert found == truth
    assert {r["origin"] for r in world.truth().to_pylist() if r["rule_id"] in RULES} <= {"natural"}


def test_no_encounter_has_two_injected_faults_in_its_bill(faulty: World) -> None:
    seen = [
        (r["table_name"], r["org_code"], r["record_key"])
        for r in faulty.truth().to_pylist()
        if r["rule_id"] in RULES and r["table_name"] in ("fee_item", "settlement", "stock_out", "encounter")
        and r["origin"] == "injected" and r["rule_id"] not in ("INS-003", "INS-004")
    ]  # fmt: skip
    assert len(seen) > 50
    assert len(set(seen)) == len(seen)


def test_the_other_tables_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hospital services draw from streams of their own: they add tables, and to a picture's header its dose."""
    _, tables, _, _ = built(400, 11)
    made = clinical.make_hospital_services
    monkeypatch.setattr(
        clinical, "make_hospital_services", lambda *given: {n: t.slice(0, 0) for n, t in made(*given).items() if n in FEED_OF}
    )  # fmt: skip
    _, before, _, _ = built(400, 11)
    for name in set(before) - set(FEED_OF):
        rows = tables[name].drop_columns(["ctdi_vol_mgy"]) if name == "imaging_instance" else tables[name]
        assert rows.equals(before[name]), name
    assert {n for n in FEED_OF if n != "imaging_study" and not tables[n].num_rows} <= {"deduction"}


@pytest.mark.parametrize("seed", [10, 20])
def test_a_hamlet_with_next_to_nobody_in_hospital(seed: int) -> None:
    """Tables without a row break nothing, and what the truth names is there."""
    made, tables, window, rates = built(25, seed)
    told = {"sex_of_resident": made.residents["sex_code"].to_pylist()}
    world, _ = put_faults(tables, window, rates.faults | told, seed)
    for entry in world.truth().to_pylist():
        if entry["table_name"] in FEED_OF and entry["table_name"] != "imaging_study":
            rows = world.tables[entry["table_name"]]
            first = KEYS[entry["table_name"]][0]
            assert entry["record_key"].split("|")[0] in map(str, rows[first].to_pylist()), entry


def test_feeds_take_every_row(lake_home: Path, faulty: World) -> None:
    """The files of pharmacy and insurance, of one institution's history, by the doors of those feeds."""
    own = {n: t.filter(pc.equal(t["org_code"], pa.scalar("C201"))) for n, t in faulty.tables.items()
           if FEED_OF.get(n) in ("pharmacy", "insurance")}  # fmt: skip
    day = END - timedelta(days=2)
    drop = base.Drop(settings().sources_dir, frozenset({day}))
    with base.connect() as connection:
        for name, rows in own.items():
            operations_csv.write(connection, drop, name, rows)
    for feed in ("pharmacy", "insurance"):
        taken = ingestion.ingest_feed(feed, day)
        sent = sum(pc.sum(pc.equal(t["deliver_on"], pa.scalar(day, pa.date32()))).as_py() or 0
                   for n, t in own.items() if FEED_OF[n] == feed)  # fmt: skip
        assert (taken["received"], taken["quarantined"], taken["failed_files"]) == (sent, 0, 0)
        assert sent > 50
