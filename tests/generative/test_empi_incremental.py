"""Day by day or all at once: with the same frozen statistics the same persons, to the letter of crosswalk and state."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import empi
from lake import runs
from tests.empi_town import FIRST, Town, all_at_once, compare, rows, visible


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
