"""A gate taken apart: since when, what the fewest steps are, and what an integrity check asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb
import pytest

from lake import runs, tables
from quality.gates_explained import Explained, Mend, explain
from tests.tickets_world import checked, finding

DAYS = [date(2026, 11, d) for d in (15, 16, 17, 18)]
PRODUCT = "chronic_disease"


def gates(
    states: Sequence[str],
    *,
    excluded: int = 0,
    eligible: int = 1000,
    check: bool = False,
    orgs: Sequence[str] = (),
) -> Explained:
    """Check ``len(states)`` dates; on the last one ``orgs`` have an excluded record each, all of HTN-022."""
    found = [finding(f"V{n}", org_code=o) for n, o in enumerate(orgs)]
    found += [finding("V0", rule_id="ARC-002", org_code=orgs[0])] if excluded > len(orgs) else []
    day = DAYS[len(states) - 1]
    checked(day, found)
    message = "his：当日没有已提交的批次"
    reason = f"完整性检查未通过 INT-004：{message}" if check else "剔除记录过多"
    rows = ", ".join(
        f"(DATE '{d}', '{PRODUCT}', '{s}', '{reason if s == 'closed' else ''}', '', {len(orgs)}::BIGINT, "
        f"{eligible}::BIGINT, {round(100 * len(orgs) / eligible, 2)}::DOUBLE)"
        for d, s in zip(DAYS, states, strict=False)
    )
    listed = (
        ", ".join(f"('{PRODUCT}', 'htn_visit', '{o}', 'V{n}')" for n, o in enumerate(orgs))
        or "('', '', '', '')"
    )
    effects = f"'{PRODUCT}:exclude,quality:show' AS effects"
    sqls = {
        "gate": f"FROM (VALUES {rows}) AS t(data_date, product, gate, reason_zh, reason_en, excluded, eligible, excluded_pct)",
        "exclusion": f"FROM (VALUES {listed}) AS t(product, table_name, org_code, record_key)",
        "validation": f"SELECT DATE '{day}' AS data_date, 'integrity' AS suite, 'INT-004' AS rule_id, 'his' AS subject, "
        f"false AS success, 1 AS failed, '{message}' AS message_zh",
        "rule": f"SELECT *, {effects} FROM {tables.scan_sql('quality/rule')}",
    }
    with duckdb.connect() as connection:
        made = {
            f"quality/{n}": tables.overwrite(f"quality/{n}", connection.sql(s).to_arrow_table())
            for n, s in sqls.items()
        }
    runs.record_output(runs.get_run(day), made)
    (one,) = explain(PRODUCT)
    return one


@pytest.mark.parametrize(
    ("states", "since"),
    [
        (("closed",), DAYS[0]),
        (("open", "closed", "closed"), DAYS[1]),
        (("closed", "open", "open", "closed"), DAYS[3]),
        (("closed", "open"), DAYS[1]),
    ],
)
def test_since_is_the_first_of_the_unbroken_run(
    lake_home: Path, states: tuple[str, ...], since: date
) -> None:
    told = gates(states, orgs=["C201"], eligible=2)
    assert (told.gate, told.since) == (states[-1], since)


def test_the_fewest_steps_go_first(lake_home: Path) -> None:
    told = gates(("closed",), orgs=["C202"] + ["C201"] * 9, eligible=25)
    assert (told.excluded_pct, told.limit_pct) == (40.0, 20.0)
    assert told.to_mend == 5
    assert told.steps == (Mend("HTN-022", "标题HTN-022", "C201", 5),)
    assert "mend 5 of HTN-022 at C201" in told.advice_en
    assert told.also == 0


def test_several_steps_where_one_is_not_enough_and_records_with_two_faults_apart(lake_home: Path) -> None:
    told = gates(("closed",), orgs=["C203", "C201", "C201", "C202", "C202", "C202"], excluded=7, eligible=10)
    assert told.to_mend == 4
    assert [(s.org_code, s.records) for s in told.steps] == [("C202", 3), ("C201", 1)]
    assert told.also == 1, "C203's record fails two rules: mending one of them frees nothing"


def test_where_records_with_several_faults_must_be_mended_too_it_says_so(lake_home: Path) -> None:
    told = gates(("closed",), orgs=["C203"], excluded=2, eligible=2)
    assert (told.to_mend, told.steps, told.also) == (1, (), 1)
    assert "1 of the 1 records that fail several rules" in told.advice_en
    assert "1条" in told.advice_zh


def test_an_integrity_check_blocks_by_itself(lake_home: Path) -> None:
    told = gates(("closed",), check=True, orgs=["C201"])
    assert (told.to_mend, told.steps) == (0, ())
    assert [(c["check_id"], c["subject"]) for c in told.checks] == [("INT-004", "his")]
    assert "INT-004" in told.advice_zh and "INT-004" in told.advice_en


def test_an_open_gate_asks_for_nothing(lake_home: Path) -> None:
    told = gates(("open",), orgs=["C201"])
    assert (told.to_mend, told.checks, told.advice_zh) == (0, (), "")
