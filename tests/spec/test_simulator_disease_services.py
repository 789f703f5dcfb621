"""Programmes for single diseases in the simulated city, held against the rules of the norm: SMI, TB, IDR, COPD and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from lake import registry
from lake.contracts import table_contract
from lake.settings import settings
from quality.access_log import delivered_events
from quality.engine import evaluate
from quality.rule import rulebook
from simulator.clinical import world as clinical
from simulator.clinical.disease_services import TABLES
from simulator.clinical.rounds import rounds
from simulator.clinical.window import Window
from simulator.clinical.world import Register, make_world
from simulator.faults import natural_state
from simulator.faults.inject import put_faults
from simulator.faults.natural import NARROW, WIDE
from simulator.faults.record import KEYS, World
from simulator.people import make_city
from simulator.profile import Profile
from simulator.writers import access_log, base

END = date(2026, 11, 20)
DOMAINS = ("SMI", "TB-", "IDR", "COP", "ARC", "EXM", "HTN", "DM-")
#: Not of a world of this size in memory: the laboratory's typed values, attachments, stays in hospital, notifiable
#: tests, and the hundred or fifty readings of one institution in a quarter.
ELSEWHERE = {"EXM-023", "EXM-030", "HTN-017", "HTN-018", "HTN-023", "DM-017", "IDR-005", "SMI-011"}
Key = tuple[str, str, str, str]


def built(residents: int, seed: int) -> tuple[Any, dict[str, pa.Table], Window, dict[str, Any]]:
    rates, window = Profile.load("default"), Window.of(END, 3, 3)
    city = make_city(rates, residents, seed, window.horizon)
    days = {"imaging_history_days": 1, "telemetry_history_days": 1}
    tables = make_world(city, Register.of(registry.orgs()), window, rates.clinical | days, seed)
    told = {"sex_of_resident": city.residents["sex_code"].to_pylist()}
    return city, tables, window, rates.faults | told


def judged(city: Any, world: World) -> tuple[set[Key], set[Key]]:
    """(what the truth names, what the rules find) on the state of the last day, with every registration linked."""
    rules = [r.id for r in rulebook().rules if r.id.startswith(DOMAINS)]
    truth = {
        (r["rule_id"], r["table_name"], r["org_code"], r["record_key"])
        for r in world.truth().to_pylist()
        if r["rule_id"] in rules and r["data_date"] <= END
    }
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA flags")
        for name in KEYS:
            if name == "audit_event" or not world.tables[name].num_rows:
                continue
            contract, rows = table_contract(name), world.tables[name]
            rows = rows.filter(pc.less_equal(rows["deliver_on"], pa.scalar(END, pa.date32())))
            connection.register("given", rows.append_column("data_date", rows["deliver_on"]))
            have = {*rows.column_names, "data_date"}
            stamp = next(s for s in ("source_updated_at", "recorded_at", "deliver_on") if s in have)
            if name == "ph_archive":  # ingestion writes full-width characters of a number as plain ones
                mended = connection.execute(
                    f"SELECT translate(id_no, '{WIDE}', '{NARROW}') FROM given"
                ).fetch_arrow_table()
                rows = rows.set_column(rows.schema.get_field_index("id_no"), "id_no", mended.column(0))
                connection.register("given", rows.append_column("data_date", rows["deliver_on"]))
            columns = [
                f"({c} - INTERVAL 8 HOUR)::TIMESTAMP AT TIME ZONE 'UTC' AS \"{c}\""
                if kind == "TIMESTAMPTZ" and c in have
                else f'{c if c in have else "NULL"}::{kind} AS "{c}"'
                for c, kind in contract.silver_columns.items()
            ]
            connection.execute(
                f"CREATE TABLE silver.{name} AS SELECT {', '.join(columns)} FROM (SELECT * FROM given QUALIFY row_number() "
                f"OVER (PARTITION BY org_code, {', '.join(contract.key)} ORDER BY {stamp} DESC, deliver_on DESC) = 1)"
            )
        known = pc.is_in(city.registrations["source_system"], pa.array(["his", "public_health"]))
        connection.register("registration", city.registrations.filter(known))
        connection.execute("""
            CREATE TABLE silver.person_identifier AS
            SELECT 'P' || resident_id AS empi_id, source_system, org_code, 'MR' AS identifier_type,
                local_id AS identifier_value, NULL::DATE AS valid_to FROM registration""")
        evaluate(connection, rulebook().only(*rules), END)
        found = connection.execute(
            "SELECT DISTINCT rule_id, table_name, org_code, record_key FROM finding_now"
        ).fetchall()
    aside = {"EXM-023", "SMI-011"}
    return {t for t in truth if t[0] not in aside}, {f for f in found if f[0] not in aside}


@pytest.fixture(scope="module")
def town() -> Iterator[tuple[Any, World, World, dict[str, pa.Table]]]:
    """The same city with its faults, and clean."""
    city, tables, window, rates = built(2400, 5)
    faulty, _ = put_faults(tables, window, rates, 5)
    clean, _ = put_faults(tables, window, rates | {"rules_enabled": False, "malformed": False}, 5)
    yield city, faulty, clean, tables


def test_every_rule_is_broken_and_every_break_is_found(town: tuple[Any, World, World, Any]) -> None:
    city, faulty, *_ = town
    truth, found = judged(city, faulty)
    wanted = {r.id for r in rulebook().rules if r.id.startswith(DOMAINS)} - ELSEWHERE
    # Ten people on insulin, all with another fault; institutions with a hundred archives are more than this town has.
    assert wanted - {rule for rule, *_ in found} <= {
        "ARC-006",
        "ARC-026",
        "ARC-031",
        "ARC-032",
        "DM-011",
        "EXM-008",
    }
    assert truth - found == set(), "missed"
    assert found - truth == set(), "unexplained"


def test_a_clean_city_breaks_only_what_the_world_itself_brings(town: tuple[Any, World, World, Any]) -> None:
    city, _, clean, _ = town
    truth, found = judged(city, clean)
    assert truth == found
    assert not {rule for rule, *_ in found if rule[:3] in ("SMI",)}
    assert {rule for rule, *_ in found if rule[:2] in ("TB", "ID", "CO")} <= {"TB-007", "IDR-014", "COPD-001"}
    assert {r["origin"] for r in clean.truth().to_pylist() if r["rule_id"]} == {"natural"}


def test_nobody_is_seen_after_death_or_before_it_is_known(town: tuple[Any, World, World, Any]) -> None:
    tables = town[2].tables
    days = {"smi_visit": "visited_on", "tb_visit": "visited_on", "copd_visit": "visited_on", "copd_screen": "screened_on",
            "tb_first_visit": "visited_at", "tb_close": "stopped_on", "chronic_one_table": "visited_on"}  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("death", tables["death_registry"])
        for name, day in days.items():
            connection.register("given", tables[name])
            early = f"SELECT count(*) FROM given WHERE recorded_at::DATE < {day}::DATE OR deliver_on < recorded_at::DATE"
            assert connection.execute(early).fetchone() == (0,), name
            late = f"SELECT count(*) FROM given JOIN death USING (resident) WHERE {day}::DATE > died_on"
            assert connection.execute(late).fetchone() == (0,), name


def test_ids_are_unique_and_parents_exist(town: tuple[Any, World, World, Any]) -> None:
    world = town[1].tables
    with duckdb.connect() as connection:
        for name in (*TABLES, "ph_archive"):
            connection.register(name, world[name])
        for name in TABLES:
            key = ", ".join(KEYS[name])
            twice = f"SELECT count(*) FROM (SELECT 1 FROM {name} GROUP BY org_code, {key}, deliver_on HAVING count(*) > 1)"
            assert connection.execute(twice).fetchone() == (0,), name
            lost = f"SELECT count(*) FROM {name} AS c ANTI JOIN ph_archive AS p USING (archive_id) WHERE c.archive_id IS NOT NULL"
            assert connection.execute(lost).fetchone() == (0,), name
        card = "SELECT count(*) FROM smi_visit AS v ANTI JOIN smi_card AS c USING (card_id, archive_id)"
        assert connection.execute(card).fetchone() == (0,)


def test_the_other_tables_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of their own: without the programmes, what does not speak of them is the same to the byte."""
    _, with_them, _, _ = built(400, 11)
    made = clinical.make_disease_services

    def none(*given: Any) -> dict[str, pa.Table]:
        return {n: t.slice(0, 0) if n != "ph_exam" else t for n, t in made(*given).items()}

    monkeypatch.setattr(clinical, "make_disease_services", none)
    _, without, _, _ = built(400, 11)
    assert all(with_them[name].num_rows for name in TABLES if name != "tb_close")
    # Contracts name the packages of patients with a card, so they differ; nothing else does.
    for name in set(without) - {*TABLES, "audit_event", "fd_contract", "fd_service"}:
        assert with_them[name].equals(without[name]), name


@pytest.mark.parametrize("seed", [10, 12])
def test_a_hamlet_with_next_to_nobody_to_serve(seed: int) -> None:
    """Tables without a row break nothing, and what the truth names is there."""
    _, tables, window, rates = built(30, seed)
    world, _ = put_faults(tables, window, rates, seed)
    for entry in world.truth().to_pylist():
        if entry["table_name"] in TABLES:
            rows = world.tables[entry["table_name"]]
            assert rows.num_rows, entry


def test_files_have_the_headers_and_codes_of_the_contract() -> None:
    layout = yaml.safe_load((base.HERE / "public_health.yaml").read_text("utf-8"))
    for table in TABLES:
        fields = {f.name: f for f in table_contract(table).fields}
        for column, spec in layout[table]["columns"].items():
            assert spec["header"] == fields[column].physical_name, (table, column)
        assert {f.name for f in fields.values() if f.required} <= set(layout[table]["columns"])


def test_statements_of_the_truth_speak_of_rules_that_there_are() -> None:
    known = {r.id for r in rulebook().rules}
    for rule, statements in natural_state.rules().items():
        assert rule in known
        assert {s["table"] for s in statements} <= set(KEYS)


def test_appointments_keep_office_days_and_their_distance() -> None:
    start = np.array(["2025-01-04", "2025-03-03"], dtype="datetime64[D]")
    last = np.array(["2025-12-31", "2025-03-02"], dtype="datetime64[D]")
    person, day = rounds(np.random.default_rng(1), start, last, 76, 89)
    assert set(person.tolist()) == {0}  # the second ends before it begins
    assert day[0] == np.datetime64("2025-01-03")  # a Saturday moves to Friday
    gaps = np.diff(day).astype(int)
    assert gaps.min() >= 74
    assert gaps.max() <= 91
    assert ((day.astype("int64") + 3) % 7 < 5).all()


def test_delivered_access_logs_are_read_by_day_and_institution(
    town: tuple[Any, World, World, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulated log comes back as it was written; a stranger's folder and a broken line do not."""
    monkeypatch.setenv("MEDLAKE_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        world, window = town[1], town[1].window
        drop = base.Drop(settings().sources_dir, frozenset(window.data_dates))
        drop.replace()
        access_log.write(drop, world.tables["audit_event"])
        events = delivered_events(END)
        table = world.tables["audit_event"]
        written = table.filter(pc.less_equal(table["deliver_on"], pa.scalar(END, pa.date32())))
        assert sorted(e["event_id"] for e in events) == sorted(written["event_id"].to_pylist())
        guilty = {r["record_key"] for r in world.truth().to_pylist() if r["rule_id"] == "SMI-011"}
        allowed = ("精防医生", "责任医生", "审计")
        assert guilty == {
            e["event_id"] for e in events if e["actor_role"] not in allowed and e["result"] == "ok"
        }
        assert events[0]["happened_at"].utcoffset().total_seconds() == 8 * 3600
        earlier = delivered_events(window.history_end)
        assert 0 < len(earlier) <= len(events)
        strange = drop.root / END.isoformat() / "access_log" / "NOBODY" / "audit_event_1.csv"
        strange.parent.mkdir(parents=True)
        strange.write_text("event_id,happened_at\nX,2026-11-20 08:00:00\n")
        broken = drop.root / END.isoformat() / "access_log" / "C201" / "audit_event_broken.csv"
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_text(",".join(access_log.COLUMNS) + "\nZ1,not a time,a,b,view,smi_card,x,ok\n")
        assert delivered_events(END) == events
    finally:
        settings.cache_clear()
