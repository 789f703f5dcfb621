"""Day by day or all at once: with the same frozen statistics the same persons, to the letter of crosswalk and state."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import empi
from lake import duck, runs, tables
from tests.empi_town import FIRST, Town, all_at_once, compare, rows, show, visible


@pytest.mark.parametrize("seed", [1, 2])
def test_day_by_day_is_all_at_once(lake_home: Path, seed: int) -> None:
    town = Town(seed)
    town.deliver(town.day(150, 0))
    first = empi.link(FIRST)
    assert (first["mode"], first["reason"]) == ("full", "no_state")
    seen = {"changed": 0, "merged": 0, "split": 0}
    for number in range(1, 4):
        day = FIRST + timedelta(days=number)
        town.deliver(town.day(12, 14))
        if number > 1:
            town.decide()
        before = visible("silver/person_identifier")
        done = empi.link(day, mode="incremental")
        assert done["mode"] == "incremental"
        connection = all_at_once(day, before)
        compare(connection)
        events = rows(connection, "SELECT event_id FROM event")
        told = rows(
            connection,
            f"SELECT event_id FROM {visible('silver/person_event')} WHERE run_id = '{runs.get_run(day).run_id}'",
        )
        assert told == events
        connection.close()
        seen = {k: seen[k] + done.get(k, 0) for k in seen}
    assert seen["merged"] and seen["split"], "the days moved people"


@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_whoever_was_gone_for_a_day_is_back_with_the_id(lake_home: Path, mode: str) -> None:
    """A source left a file out: persons of one registration had nobody, and are the same persons afterwards."""
    town = Town(3)
    town.deliver(town.day(150, 0))
    empi.link(FIRST)
    sole = [
        (org_code, number, empi_id)
        for empi_id, org_code, number in rows(
            duck.connect(),
            f"""SELECT empi_id, any_value(org_code), any_value(identifier_value)
            FROM {visible("silver/person_identifier")} WHERE identifier_type = 'MR'
            GROUP BY empi_id HAVING count(*) = 1 ORDER BY min(identifier_value)""",
        )
        # an id number whose birth date is still to come says nothing today, and joins its bearer on that day
        if ("patient", number) in town.rows
        and (town.rows["patient", number]["id_no"] or "")[6:14] <= f"{FIRST:%Y%m%d}"
    ]
    assert len(sole) > 15
    keys = [("patient", number) for _, number, _ in sole]
    for offset, gone in ((1, True), (2, False)):
        for key in keys:
            town.rows[key]["is_deleted"] = gone
        town.deliver(keys)
        day = FIRST + timedelta(days=offset)
        before = visible("silver/person_identifier")
        assert empi.link(day, mode=mode)["mode"] == mode
        if mode == "incremental":
            connection = all_at_once(day, before)
            compare(connection)
            connection.close()
        now = dict(
            rows(
                duck.connect(),
                f"""SELECT identifier_value, empi_id FROM {visible("silver/person_identifier")}
                WHERE identifier_type = 'MR' AND valid_to IS NULL""",
            )
        )
        found = [now.get(number) for _, number, _ in sole]
        assert found == ([None] * len(sole) if gone else [empi_id for _, _, empi_id in sole])


def test_no_decision_is_lost_over_ten_runs(lake_home: Path) -> None:
    """Twenty decisions on forty registrations, none of them twice; registers change every day, full runs in between."""
    town = Town(5)
    town.deliver(town.day(90, 0))
    system = {"patient": "his", "ph_archive": "public_health"}
    keys = [k for k in sorted(town.rows) if not town.rows[k]["is_deleted"]]
    chosen = town.random.sample(keys, 40)
    said = [
        (one, other, "must_link" if place % 2 else "cannot_link")
        for place, (one, other) in enumerate(zip(chosen[::2], chosen[1::2], strict=True))
    ]
    given = []
    for one, other, decision in said:
        row = {"decision": decision}
        for side, (table, number) in zip("lr", (one, other), strict=True):
            row |= {f"source_system_{side}": system[table], f"identifier_value_{side}": number}
            row[f"org_code_{side}"] = town.rows[table, number]["org_code"]
        given.append(row)
    tables.append("silver/match_decision", pa.Table.from_pylist(given))
    show("silver/match_decision")
    lost = []
    for number in range(10):
        changed = [town.change(k) for k in town.random.sample([k for k in keys if k not in chosen], 6)]
        town.deliver(sorted({*changed, *(town.register() for _ in range(3))}))
        empi.link(FIRST + timedelta(days=number), mode="incremental" if number % 3 else "full")
        now = {
            (s, v): empi_id
            for s, v, empi_id in rows(
                duck.connect(),
                f"""SELECT source_system, identifier_value, empi_id FROM {visible("silver/person_identifier")}
                WHERE identifier_type = 'MR' AND valid_to IS NULL""",
            )
        }
        for one, other, decision in said:
            is_one = now[system[one[0]], one[1]] == now[system[other[0]], other[1]]
            lost += [(number, one, other)] if is_one != (decision == "must_link") else []
    assert lost == []
