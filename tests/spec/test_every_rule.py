"""Each of the rules finds at least one fault of the simulated city, and next to nothing else."""

from __future__ import annotations

from collections import Counter
from datetime import date

import duckdb
import pytest

from lake import registry
from lake.contracts import contract
from quality.engine import evaluate
from quality.rule import rulebook
from simulator.city import FEEDS
from simulator.clinical.office import FEED_OF as OFFICE
from simulator.clinical.window import Window
from simulator.clinical.world import FEED_OF, Register, make_world
from simulator.faults.inject import put_faults
from simulator.faults.record import World
from simulator.people import make_city
from simulator.profile import Profile
from simulator.writers.operations_csv import columns
from tests.spec.simulated_silver import give, load, reads

END, SEED = date(2026, 11, 20), 20261122
Key = tuple[str, str, str, str]
#: Judged on what ingestion makes of a field (full-width digits written plain), which this world without files is not.
OF_FILES = {"ARC-001", "ARC-002", "ARC-004", "GEN-006"}


@pytest.fixture(scope="module")
def world() -> World:
    rates, window = Profile.load("default"), Window.of(END, 3, 3)
    city = make_city(rates, 4000, SEED, window.horizon)
    days = {
        "imaging_history_days": rates.history.pacs_history_days,
        "telemetry_history_days": rates.history.iot_history_days,
    }
    made = make_world(city, Register.of(registry.orgs()), window, rates.clinical | days, SEED)
    told = {"sex_of_resident": city.residents["sex_code"].to_pylist()}
    return put_faults(made, window, rates.faults | told, SEED)[0]


@pytest.fixture(scope="module")
def judged(world: World) -> tuple[set[Key], set[Key]]:
    """(what the truth names, what the rules find) on the last day."""
    book = rulebook()
    truth = {
        (r["rule_id"], r["table_name"], r["org_code"], r["record_key"])
        for r in world.truth().to_pylist()
        if r["rule_id"] and r["data_date"] <= END
    }
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA silver; CREATE SCHEMA flags")
        for table in sorted(reads(book)):
            if table in FEED_OF.keys() - {"audit_event"} or table == "imaging_series":
                load(connection, world, table, END)
        give(connection, world, END, ["copd_screen"])
        evaluate(connection, book, END)
        found = connection.execute(
            "SELECT rule_id, table_name, org_code, record_key FROM finding_now"
        ).fetchall()
    return truth, set(found)


def test_each_rule_is_hit(judged: tuple[set[Key], set[Key]]) -> None:
    truth, found = judged
    assert {r.id for r in rulebook().rules} - {rule for rule, *_ in truth & found} == set()


def test_precision_and_recall(judged: tuple[set[Key], set[Key]]) -> None:
    truth, found = judged
    assert len(truth & found) >= 0.99 * len(truth)
    assert len(truth & found) >= 0.99 * len(found)
    wrong = Counter(rule for rule, *_ in truth ^ found if rule not in OF_FILES)
    of = Counter(rule for rule, *_ in truth)
    assert {rule: n for rule, n in wrong.items() if n > 1 and n > 0.05 * of[rule]} == {}


def test_rules_of_weeks_and_offices_find_exactly_what_was_done(judged: tuple[set[Key], set[Key]]) -> None:
    """Those that need deliveries of weeks, staff, recordings, stays, or one doctor's many readings."""
    own = {"GEN-003", "GEN-005", "GEN-008", "GEN-009", "GEN-010", "EXM-030", "HTN-017", "HTN-018", "HTN-023", "HTN-027",
           "DM-017"}  # fmt: skip
    truth, found = ({k for k in keys if k[0] in own} for keys in judged)
    assert {rule for rule, *_ in truth} == own
    assert found == truth


def test_files_of_offices_and_wards_have_the_columns_of_their_contracts() -> None:
    for table in (*OFFICE, "inpatient_encounter"):
        feed = FEED_OF[table]
        assert feed in FEEDS
        known = [f.name for f in contract(feed).tables[table].fields]
        written = list(columns(table))
        assert written == [name for name in known if name in written], table
