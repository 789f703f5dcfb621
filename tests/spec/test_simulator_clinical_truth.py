"""The truth is true: what the forty rules find in the delivered data is what the fault log says, no more, no less."""

from __future__ import annotations

from datetime import date

import pytest

from simulator.city import _build
from simulator.faults.bad_day import resubmit
from tests.spec.simulator_clinical_oracle import RULES, findings, load

END = date(2026, 11, 20)
ON_SERVICES = {rule for rule, _, _ in RULES} | {"HTN-002", "DM-002", "ARC-017"}


@pytest.mark.parametrize(("residents", "seed"), [(2600, 11), (4000, 5)])
def test_rules_find_exactly_the_logged_faults(residents: int, seed: int) -> None:
    built = _build(residents, 3, END, 3, seed, "default")
    found = findings(load(built.world.tables, END), END)
    logged = {
        (row["rule_id"], row["table_name"], row["record_key"])
        for row in built.world.truth().to_pylist()
        if row["rule_id"] in ON_SERVICES and row["data_date"] <= END
    }
    assert found - logged == set(), "rows break a rule that nobody injected"
    assert logged - found == set(), "a logged fault breaks no rule"
    assert len({rule for rule, _, _ in found}) >= 28, "nearly every rule has something to find"


def test_every_rule_of_the_archives_is_in_the_truth() -> None:
    built = _build(4000, 3, END, 3, 5, "default")
    logged = {row["rule_id"] for row in built.world.truth().to_pylist() if row["table_name"] == "ph_archive"}
    assert {f"ARC-{n:03d}" for n in (1, 2, 4, 5, 7, 9, 13, 16, 17)} <= logged


def test_what_a_bad_day_breaks_is_logged() -> None:
    bad = date(2026, 11, 21)
    built = _build(2600, 3, END, 3, 11, "default")
    resubmit(built.world, bad, 0.45)
    found = findings(load(built.world.tables, bad), bad)
    rules = {"HTN-001", "HTN-002", "HTN-009", "HTN-021", "DM-001"}
    logged = {
        (row["rule_id"], row["table_name"], row["record_key"])
        for row in built.world.truth().to_pylist()
        if row["rule_id"] in rules and row["data_date"] <= bad
    }
    assert {f for f in found if f[0] in rules} == logged
    broken = sum(rule in rules and table == "htn_visit" for rule, table, _ in found)
    assert broken > 0.4 * built.world.tables["htn_visit"].num_rows / 1.5
