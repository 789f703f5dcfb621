"""The truth is true: what the forty rules find in the delivered data is what the fault log says, no more, no less."""

from __future__ import annotations

from datetime import date

import pytest

from simulator.city import _build
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
