"""Mothers, children, traditional medicine and family doctors of the simulated city, held against the rules of the norm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from lake import registry
from lake.contracts import contract, table_contract
from quality.engine import evaluate
from quality.rule import rulebook
from simulator.clinical import world as clinical
from simulator.clinical.children_growth import measured
from simulator.clinical.served import add_months, after_weekend
from simulator.clinical.tcm import scores
from simulator.clinical.window import Window
from simulator.clinical.world import FEED_OF, Register, make_world
from simulator.faults import family
from simulator.faults.inject import put_faults
from simulator.faults.malformed import Damage
from simulator.faults.record import KEYS, World
from simulator.people import make_city
from simulator.profile import Profile
from simulator.writers.base import HERE

END = date(2026, 11, 20)
DOMAINS = ("CHD", "MAT", "TCM", "FDC")
OWN = (
    *(
        "birth_record",
        "newborn_visit",
        "child_card",
        "child_visit",
        "vaccination_record",
        "preg_card",
        "prenatal_visit",
    ),
    *("delivery", "postpartum_visit", "tcm_child", "tcm_elder", "fd_contract", "fd_service"),
)
CHILD = ("birth_record", "child_card", "child_visit", "vaccination_record")
MOTHER = ("preg_card", "prenatal_visit", "delivery", "postpartum_visit")
RULES = [r for r in rulebook().rules if r.id[:3] in DOMAINS]


def built(residents: int, seed: int) -> tuple[Any, dict[str, pa.Table], Window, Profile]:
    rates, window = Profile.load("default"), Window.of(END, 3, 3)
    city = make_city(rates, residents, seed, window.horizon)
    days = {"imaging_history_days": 1, "telemetry_history_days": 1}
    return (
        city,
        make_world(city, Register.of(registry.orgs()), window, rates.clinical | days, seed),
        window,
        rates,
    )


Judged = tuple[set[tuple[str, str, str, str]], set[tuple[str, str, str, str]], World]


def judged(city: Any, world: World) -> Judged:
    """(what the truth names, what the rules find) as (rule, table, institution, key) on the state of the last day."""
    last = pa.scalar(END, pa.date32())
    truth = {
        (r["rule_id"], r["table_name"], r["org_code"], r["record_key"])
        for r in world.truth().to_pylist()
        if r["rule_id"] and r["rule_id"][:3] in DOMAINS and r["data_date"] <= END
    }
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA flags")
        for table in (
            *OWN,
            "ph_archive",
            "htn_card",
            "dm_card",
            "encounter",
            "prescription_item",
            "idr_card",
            "smi_card",
            "tb_notice",
        ):
            kinds = table_contract(table).silver_columns
            if table not in world.tables or not world.tables[table].num_columns:
                empty = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in kinds.items())
                connection.execute(f"CREATE TABLE silver.{table} AS SELECT {empty} WHERE false")
                continue
            rows = world.tables[table]
            rows = rows.filter(pc.less_equal(rows["deliver_on"], last))
            connection.register("given", rows)
            stamp = next(
                s
                for s in ("source_updated_at", "recorded_at", "rx_at", "started_at")
                if s in rows.column_names
            )
            columns = [
                f"({column} - INTERVAL 8 HOUR)::TIMESTAMP AT TIME ZONE 'UTC' AS \"{column}\""
                if kind == "TIMESTAMP WITH TIME ZONE" and column in rows.column_names
                else f'{column if column in rows.column_names else "NULL"}::{kind} AS "{column}"'
                for column, kind in kinds.items()
            ]
            connection.execute(
                f"CREATE TABLE silver.{table} AS SELECT {', '.join(columns)} FROM (SELECT * FROM given QUALIFY row_number() "
                f"OVER (PARTITION BY org_code, {', '.join(KEYS[table])} ORDER BY {stamp} DESC) = 1)"
            )
        known = city.registrations.filter(
            pc.is_in(city.registrations["source_system"], pa.array(["his", "public_health"]))
        )
        connection.register("registration", known)
        connection.execute("""
            CREATE TABLE silver.person_identifier AS
            SELECT 'P' || resident_id AS empi_id, source_system, org_code, 'MR' AS identifier_type,
                local_id AS identifier_value, NULL::DATE AS valid_to FROM registration""")
        evaluate(connection, rulebook().only(*(r.id for r in RULES)), END)
        found = connection.execute(
            "SELECT rule_id, table_name, org_code, record_key FROM finding_now"
        ).fetchall()
    return truth, {row for row in found if row[0][:3] in DOMAINS}, world


@pytest.fixture(scope="module")
def town() -> Iterator[tuple[Judged, Judged]]:
    """The same city with its faults, and clean."""
    city, tables, window, rates = built(2400, 5)
    tables.setdefault("idr_card", pa.table({}))  # the reporting system is connected, nobody was reported
    faulty, _ = put_faults(tables, window, rates.faults, 5)
    clean, _ = put_faults(tables, window, rates.faults | {"rules_enabled": False, "malformed": False}, 5)
    yield judged(city, faulty), judged(city, clean)


def test_every_rule_is_broken_and_every_break_is_found(town: tuple[Judged, Judged]) -> None:
    truth, found, _ = town[0]
    assert {r.id for r in RULES} == {rule for rule, *_ in truth}
    assert not truth - found, "missed"
    assert not found - truth, "unexplained"


def test_a_clean_city_breaks_only_what_the_world_itself_brings(town: tuple[Judged, Judged]) -> None:
    truth, found, world = town[1]
    natural = {"MAT-020", "TCM-001", "FDC-007"}
    assert {rule for rule, *_ in found} <= natural
    assert truth == found
    origins = {r["origin"] for r in world.truth().to_pylist() if r["rule_id"] in natural}
    assert origins <= {"natural"}


@pytest.mark.parametrize("tables", [CHILD, MOTHER])
def test_nobody_has_two_injected_faults(town: tuple[Judged, Judged], tables: tuple[str, ...]) -> None:
    """One fault would hide or cause another: rules look at neighbours and across a person's records."""
    world = town[0][2]
    rules: dict[str, set[str]] = {}
    for entry in world.truth().to_pylist():
        if entry["table_name"] in tables and entry["rule_id"] and entry["rule_id"][:3] in ("CHD", "MAT"):
            rows = world.tables[entry["table_name"]]
            key = KEYS[entry["table_name"]][0]
            for archive in rows.filter(pc.equal(rows[key], entry["record_key"]))["archive_id"].to_pylist():
                rules.setdefault(archive, set()).add(entry["rule_id"])
    assert rules
    assert max(map(len, rules.values())) == 1


def test_ids_are_unique_and_parents_exist(town: tuple[Judged, Judged]) -> None:
    world = town[0][2].tables
    with duckdb.connect() as connection:
        for name in (*OWN, "ph_archive"):
            weeks = pc.less(
                world[name]["deliver_on"], END - timedelta(days=3)
            )  # exports before the history repeat it
            connection.register(name, world[name].filter(pc.invert(weeks)))
        for name in OWN:
            stamp = "source_updated_at" if "source_updated_at" in world[name].column_names else "recorded_at"
            twice = f"SELECT count(*) FROM (SELECT 1 FROM {name} GROUP BY org_code, {KEYS[name][0]}, {stamp} HAVING count(*) > 1)"
            assert connection.execute(twice).fetchone() == (0,), name
        for child, column, parent, key in (
            *((n, "archive_id", "ph_archive", "archive_id") for n in OWN),
            ("child_card", "mother_archive_id", "ph_archive", "archive_id"),
            ("prenatal_visit", "card_id", "preg_card", "card_id"),
            ("postpartum_visit", "delivery_id", "delivery", "delivery_id"),
            ("birth_record", "delivery_id", "delivery", "delivery_id"),
            ("fd_service", "contract_id", "fd_contract", "contract_id"),
        ):
            on = f"c.{column} = p.{key} WHERE c.{column} IS NOT NULL"
            orphans = f"SELECT count(*) FROM {child} AS c ANTI JOIN {parent} AS p ON {on}"
            assert connection.execute(orphans).fetchone() == (0,), (child, column)


def test_nothing_is_known_before_it_happened_and_nobody_is_served_after_death(
    town: tuple[Judged, Judged],
) -> None:
    world = town[1][2].tables
    days = {
        **dict.fromkeys(
            ("newborn_visit", "child_visit", "prenatal_visit", "postpartum_visit", "tcm_child"), "visited_on"
        ),
        "tcm_elder": "assessed_on",
        "birth_record": "born_at",
        "delivery": "delivered_at",
        "vaccination_record": "given_at",
    }
    with duckdb.connect() as connection:
        connection.register("death", world["death_registry"])
        for name, day in days.items():
            connection.register("given", world[name])
            early = f"SELECT count(*) FROM given WHERE recorded_at::DATE < {day}::DATE OR deliver_on < recorded_at::DATE"
            assert connection.execute(early).fetchone() == (0,), name
            late = f"SELECT count(*) FROM given JOIN death USING (resident) WHERE {day}::DATE > died_on"
            assert connection.execute(late).fetchone() == (0,), name


def test_the_other_tables_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services for families draw from streams of their own: they add tables and truth, and move nothing."""

    def city() -> tuple[World, Damage]:
        _, tables, window, rates = built(500, 11)
        return put_faults(tables, window, rates.faults, 11)

    world, damage = city()
    made = clinical.make_family_services
    monkeypatch.setattr(
        clinical, "make_family_services", lambda *given: {n: t.slice(0, 0) for n, t in made(*given).items()}
    )
    monkeypatch.setattr(family, "inject", lambda *_: None)
    monkeypatch.setattr(family, "note", lambda *_: None)
    before, before_damage = city()
    assert damage == before_damage
    assert all(world.tables[name].num_rows for name in OWN)
    for name in set(before.tables) - set(OWN) - {"staff"}:  # doctors of the services are staff too
        rows = before.tables[name]
        assert world.tables[name].equals(rows), name
    others = [r for r in world.truth().to_pylist() if r["table_name"] not in (*OWN, "contract_day")]
    others = [r for r in others if not r["rule_id"] or r["rule_id"][:3] not in DOMAINS]
    every_service = ("ARC-028", "HTN-020", "GEN-005", "GEN-008", "GEN-009")  # count services of any kind
    others = [r for r in others if r["rule_id"] not in every_service]
    assert others == [r for r in before.truth().to_pylist() if r["rule_id"] not in every_service]


@pytest.mark.parametrize("seed", [10, 12, 20])
def test_a_hamlet_with_next_to_nobody_to_serve(seed: int) -> None:
    """Tables without a row break nothing, and what the truth names is there."""
    _, tables, window, rates = built(30, seed)
    world, _ = put_faults(tables, window, rates.faults, seed)
    for entry in world.truth().to_pylist():
        if entry["table_name"] in OWN:
            rows = world.tables[entry["table_name"]]
            assert entry["record_key"] in rows[KEYS[entry["table_name"]][0]].to_pylist()


def test_files_have_the_headers_and_codes_of_the_contract() -> None:
    layout = yaml.safe_load((HERE / "public_health.yaml").read_text("utf-8"))
    assert set(contract("public_health").tables) >= {
        t for t, feed in FEED_OF.items() if feed == "public_health"
    }
    for table in OWN:
        fields = {f.name: f for f in table_contract(table).fields}
        for column, spec in layout[table]["columns"].items():
            assert spec["header"] == fields[column].physical_name, (table, column)
        assert {f.name for f in fields.values() if f.required} <= set(layout[table]["columns"])


def test_growth_follows_the_standard() -> None:
    """WHO 2006, boys of twelve months: median 9.6 kg, 75.7 cm, 46.1 cm; two deviations less: 7.7 kg, 71.0 cm, 43.5 cm."""
    one, year = np.array([1]), np.array([365])
    median = [round(float(measured(m, one, year, np.zeros(1))[0]), 1) for m in ("weight", "height", "head")]
    low = [round(float(measured(m, one, year, np.full(1, -2.0))[0]), 1) for m in ("weight", "height", "head")]
    assert median == [9.6, 75.7, 46.1]
    assert low == [7.7, 71.0, 43.5]


def test_months_and_weekends_as_people_count_them() -> None:
    day = np.array(["2024-01-31", "2023-12-31", "2024-02-29"], dtype="datetime64[D]")
    assert add_months(day, 1).astype(str).tolist() == ["2024-02-29", "2024-01-31", "2024-03-29"]
    assert add_months(day, 12).astype(str).tolist() == ["2025-01-31", "2024-12-31", "2025-02-28"]
    week = np.arange("2026-11-16", "2026-11-23", dtype="datetime64[D]")
    assert (after_weekend(week) - week).astype(int).tolist() == [0, 0, 0, 0, 0, 2, 1]


@pytest.mark.parametrize(
    ("changes", "main", "qi_xu", "balanced"),
    [
        ({}, "9", ("no", 4), ("yes", 21)),  # 1 + 4 x (6 - 1)
        ({2: 3, 3: 3, 4: 3, 14: 3}, "3", ("yes", 12), ("no", 17)),
        ({2: 3, 3: 2, 4: 2, 14: 2, 1: 5}, "3", ("tendency", 9), ("mostly", 22)),
        ({3: 3, 14: 3, 1: 5}, "9", ("no", 8), ("mostly", 25)),
    ],
)
def test_constitutions_are_judged_as_the_table_says(
    changes: dict[int, int], main: str, qi_xu: tuple[str, int], balanced: tuple[str, int]
) -> None:
    """老年人体质判定标准表: 11 and more yes, 9 and 10 tends to; balanced from 17 when no other reaches 8 (mostly: 10)."""
    answers = np.ones((1, 33), dtype="int64")
    for item, value in changes.items():
        answers[0, item - 1] = value
    got = {name: column[0].as_py() for name, column in scores(answers).items()}
    assert got["constitution_code"] == main
    assert (got["qi_xu_judge_code"], got["qi_xu_score"]) == qi_xu
    assert (got["ping_he_judge_code"], got["ping_he_score"]) == balanced
