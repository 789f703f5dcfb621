"""Faults of COPD-001 to COPD-003."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.faults.copies import history_end, in_ids, settled
from simulator.faults.record import World
from simulator.faults.tcm import closed_year, newest_archives

CARD, VISIT, SCREEN = "copd_card", "copd_visit", "copd_screen"
YEAR = 372  # a year and the grace for late entries


def inject(world: World) -> None:
    not_screened(world)
    year = world.array(CARD, "carded_on").astype("datetime64[Y]").astype("int64") + 1970
    managed = (
        settled(world, CARD, "card_id")
        & (world.array(CARD, "status_code") == "active")
        & (year < closed_year(world))
    )
    rows = world.choose(CARD, "COPD-002", managed)
    world.note(CARD, rows, "COPD-002", "rule", "card_id")
    archives = world.array(CARD, "archive_id")[rows].tolist()
    in_year = world.array(VISIT, "visited_on").astype("datetime64[Y]").astype("int64") + 1970 == closed_year(
        world
    )
    world.drop(VISIT, np.flatnonzero(in_year & in_ids(world, VISIT, "archive_id", archives)))
    measured = ~np.isnan(world.array(VISIT, "fev1_fvc")) & (
        world.array(VISIT, "deliver_on") <= history_end(world)
    )
    rows = world.choose(VISIT, "COPD-003", measured)
    world.put(VISIT, rows, fev1_fvc=0.78)
    world.note(VISIT, rows, "COPD-003", "rule", "fev1_fvc,icd10_code")


def not_screened(world: World) -> None:
    """People at risk by their newest examination whom nobody asked for a year (COPD-001); every open archive of theirs."""
    exams = world.tables["ph_exam"]
    known = pc.less_equal(exams["deliver_on"], pa.scalar(world.window.history_end, pa.date32()))
    exams = exams.filter(known).sort_by([("exam_on", "descending"), ("exam_id", "ascending")])
    last: dict[int, bool] = {}
    for who, smokes in zip(
        exams["resident"].to_pylist(), exams["smoke_status_code"].to_pylist(), strict=True
    ):
        last.setdefault(who, smokes != "1")  # newest first; smoking does not change between examinations
    archives = world.tables["ph_archive"]
    newest = newest_archives(world)
    born = world.array("ph_archive", "birth_date")
    open_ = newest & (world.array("ph_archive", "status_code") == "0") & (born + 366 * 36 < world.end)
    living = set(archives.filter(pa.array(open_))["resident"].to_pylist())
    who = world.array(SCREEN, "resident")
    recent = world.array(SCREEN, "screened_on") > world.end - YEAR
    rows = world.choose(
        SCREEN,
        "COPD-001",
        recent & np.array([last.get(r, False) and r in living for r in who.tolist()], dtype=bool),
    )
    chosen = np.unique(who[rows])
    world.note(
        "ph_archive",
        np.flatnonzero(open_ & np.isin(world.array("ph_archive", "resident"), chosen)),
        "COPD-001",
        "rule",
        "archive_id",
    )
    world.drop(SCREEN, np.flatnonzero(recent & np.isin(who, chosen)))
