"""The day's check by changes on a real lake: judged, scored and gated as a full one, killed midway and run again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import amended, contracts, runs, tables
from lake.errors import MedlakeError
from quality import daily
from quality.incremental import store
from quality.rule import RuleBook, rulebook
from tests import quality_world as world

pytestmark = pytest.mark.usefixtures("lake_home")

RULES = ("HTN-004", "HTN-006", "HTN-022", "ARC-002", "ARC-014", "EXM-003")
#: What a check leaves for others, by table; the versions of two checks must hold the same rows.
LEFT = ("finding", "exclusion", "scorecard", "scorecard_part", "gate", "validation", "rule", "rule_count")


def book() -> RuleBook:
    return rulebook().only(*RULES)


def left(day: date) -> dict[str, list[Any]]:
    """Rows of every table that a date's check wrote."""
    at = runs.get_run(day).versions
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = {}
        for table in LEFT:
            where = "WHERE evaluated <> 0" if table == "rule_count" else ""
            sql = f"SELECT * FROM {tables.scan_sql(f'quality/{table}', at[f'quality/{table}'])} {where} ORDER BY ALL"
            found[table] = connection.execute(sql).fetchall()
    return found


def alter(table: str, change: str, where: str, batch: str) -> int:
    """Deliver some of a table's rows anew with other values."""
    contract = contracts.table_contract(table)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        scan = tables.scan_sql(f"silver/{table}")
        rows = connection.execute(
            f"SELECT * REPLACE ({change}, '{batch}' AS batch_id) FROM {scan} WHERE {where}"
        )
        data = rows.to_arrow_table().cast(contract.silver_schema())
    tables.merge(f"silver/{table}", data, key=contract.full_key)
    return int(data.num_rows)


def two_days() -> None:
    """A city checked on the first day; on the second some pressures, births and telephones are others."""
    world.city(240)
    world.deliver(world.DAY_1)
    daily.check(world.DAY_1, book(), is_judged=False)
    other = "CASE WHEN sbp_mmhg > 140 THEN 128 ELSE sbp_mmhg + 40 END AS sbp_mmhg"
    assert alter("htn_visit", other, "hash(visit_id) % 20 = 0 OR sbp_mmhg > 140", "b2") > 10
    assert alter("ph_archive", "birth_date - 6000 AS birth_date", "hash(archive_id) % 20 = 0", "b2") > 3
    world.deliver(world.DAY_2)


def test_a_check_by_changes_leaves_what_a_full_one_leaves(lake_home: Path) -> None:
    two_days()
    near = daily.check(world.DAY_2, book(), mode="incremental")
    assert near["mode"] == "incremental" and 0 < near["judged_again"] < near["rows"] / 2
    by_changes = left(world.DAY_2)
    whole = daily.check(world.DAY_2, book(), mode="full")
    assert (whole["mode"], whole["because"]) == ("full", "asked")
    assert left(world.DAY_2) == by_changes
    told = ("rows", "evaluated", "failed", "findings", "new", "closed", "excluded", "gates")
    assert {n: near[n] for n in told} == {n: whole[n] for n in told}
    assert near["new"] > 5 and near["closed"] > 0
    # the day after stands on the full one of today; of a small lake the system itself judges all
    world.deliver(world.DAY_3)
    assert daily.check(world.DAY_3, book(), is_judged=False)["because"] == "small"


def test_a_killed_check_by_changes_is_run_again_to_the_same_end(lake_home: Path) -> None:
    two_days()
    code = (
        "from tests.integration.test_quality_incremental import book; from quality import daily; import datetime; "
        f"daily.check(datetime.date({world.DAY_2:%Y, %-m, %-d}), book(), is_judged=False, mode='incremental')"
    )
    env = os.environ | {"MEDLAKE_HOME": str(lake_home), "MEDLAKE_KILL_AT": "quality.write.finding"}
    killed = subprocess.run([sys.executable, "-c", code], env=env, check=False, capture_output=True)
    assert killed.returncode == -9
    assert store.FINDING not in runs.get_run(world.DAY_2).versions
    daily.check(world.DAY_2, book(), is_judged=False, mode="incremental")
    mended = left(world.DAY_2)
    daily.check(world.DAY_2, book(), is_judged=False, mode="full")
    assert left(world.DAY_2) == mended


def test_without_a_check_before_changes_are_refused_with_the_reason() -> None:
    world.city(60)
    world.deliver(world.DAY_1)
    with pytest.raises(MedlakeError, match="E456") as refused:
        daily.check(world.DAY_1, book(), is_judged=False, mode="incremental")
    assert "no check before" in str(refused.value)
    assert "quality/gate" not in runs.get_run(world.DAY_1).versions


def test_findings_are_written_whole_again_when_a_day_changes_many(lake_home: Path) -> None:
    two_days()
    daily.check(world.DAY_2, book(), is_judged=False, mode="incremental")
    assert amended.files(tables.open_table(store.FINDING).file_uris(), amends=True)
    assert alter("htn_visit", "170 AS sbp_mmhg", "true", "b3") > 500
    world.deliver(world.DAY_3)
    daily.check(world.DAY_3, book(), is_judged=False, mode="incremental")
    assert not amended.files(tables.open_table(store.FINDING).file_uris(), amends=True)
    mended = left(world.DAY_3)
    daily.check(world.DAY_3, book(), is_judged=False, mode="full")
    assert left(world.DAY_3) == mended
