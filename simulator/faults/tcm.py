"""Faults of TCM-001 to TCM-005."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import numbers
from simulator.clinical.served import add_months
from simulator.clinical.tcm import ELDER_AGE, scores
from simulator.faults.copies import history_end, look, place, settled
from simulator.faults.record import World

ELDER, CHILD = "tcm_elder", "tcm_child"
YEAR_END_GRACE = 4  # days into a new year before the old one is over for good
WINDOW = 60  # days after reaching the age, before guidance is missing


def inject(world: World) -> None:
    """Answers and judgements first; who was not assessed at all is logged by :func:`note_not_assessed`."""
    known = world.array(ELDER, "deliver_on") <= world.end
    score = world.array(ELDER, "qi_xu_score")
    rows = world.choose(ELDER, "TCM-002", known)
    odd = np.arange(len(rows)) % 2 == 1
    # A sum that is not the sum of its answers, or an answer beyond the scale.
    answer = world.array(ELDER, "q33")[rows]
    total = world.array(ELDER, "xue_yu_score")[rows]
    world.put(ELDER, rows, qi_xu_score=np.where(odd, score[rows], score[rows] + 2), q33=np.where(odd, 6, answer),
              xue_yu_score=np.where(odd, total + 6 - answer, total))  # fmt: skip
    world.note(ELDER, rows, "TCM-002", "rule", "qi_xu_score,q33")

    rows = world.choose(ELDER, "TCM-003", known)
    same = np.full((len(rows), 33), 3)
    world.put(ELDER, rows, **{f"q{i + 1}": numbers(same[:, i]) for i in range(33)}, **scores(same))
    world.note(ELDER, rows, "TCM-003", "rule", "q1,q33")

    rows = world.choose(ELDER, "TCM-005", known & (world.array(ELDER, "constitution_code") != "9"))
    world.put(ELDER, rows, guidance=[None if i % 2 else "无" for i in range(len(rows))])
    world.note(ELDER, rows, "TCM-005", "rule", "guidance")
    not_assessed(world)
    guidance_missed(world)


def closed_year(world: World) -> int:
    """The last calendar year that is over, with grace, on the last day."""
    year = world.window.end.year
    return year - (
        1
        if world.window.end > world.window.end.replace(month=1, day=1) + timedelta(days=YEAR_END_GRACE - 1)
        else 2
    )


def _years(world: World) -> np.ndarray:
    years: np.ndarray = world.array(ELDER, "assessed_on").astype("datetime64[Y]").astype("int64") + 1970
    return years


def not_assessed(world: World) -> None:
    """Some of the elderly whom nobody asked in the last closed year."""
    rows = world.choose(ELDER, "TCM-001", _years(world) == closed_year(world))
    world.drop(ELDER, rows)


def guidance_missed(world: World) -> None:
    """One of the six sessions for a small child did not take place (TCM-004)."""
    card = place(world, "child_card", "archive_id", world.tables[CHILD]["archive_id"].to_pylist())
    months = np.array(
        [int(s.removesuffix("m")) for s in world.tables[CHILD]["stage_code"].to_pylist()], dtype="int64"
    )
    reached = add_months(look(world.array("child_card", "birth_date"), card), months)
    day = world.array(CHILD, "visited_on")
    begun = np.maximum(
        look(world.array("child_card", "carded_on"), card), day.min() if len(day) else history_end(world)
    )
    open_ = (world.array("child_card", "status_code") == "active") & settled(world, "child_card", "card_id")
    due = (card >= 0) & look(open_, card) & (reached >= begun) & (reached + WINDOW + 6 < history_end(world))
    rows = world.choose(CHILD, "TCM-004", due)
    world.note("child_card", np.sort(card[rows]), "TCM-004", "rule", "card_id")
    world.drop(CHILD, rows)


def note_not_assessed(world: World) -> None:
    """Log every active archive of the elderly whose owner was not assessed in the last closed year (TCM-001).

    Besides the dropped assessments these are people who died that year and whose archive nobody closed.
    """
    year, table = closed_year(world), "ph_archive"
    elder = world.tables[ELDER]
    done = (_years(world) == year) & (world.array(ELDER, "deliver_on") <= world.end)
    seen = pc.unique(elder.filter(pa.array(done))["resident"].combine_chunks())
    newest = newest_archives(world)
    born = world.array(table, "birth_date").astype("datetime64[Y]").astype("int64") + 1970
    opened = world.array(table, "created_on").astype("datetime64[Y]").astype("int64") + 1970
    old = newest & ~np.isnat(world.array(table, "birth_date")) & (year - born >= ELDER_AGE) & (opened <= year)
    old &= (world.array(table, "status_code") == "0") & ~world.array(table, "is_dead").astype(bool)
    asked = pc.is_in(world.tables[table]["resident"], seen).to_numpy()
    world.note(table, np.flatnonzero(old & ~asked), "TCM-001", "rule", "archive_id", "natural")


def newest_archives(world: World) -> np.ndarray:
    """The archive rows that stand at the end: the newest delivered version of each."""
    known = np.flatnonzero(world.array("ph_archive", "deliver_on") <= world.end)
    ids = world.array("ph_archive", "archive_id").astype(str)[known]
    stamp = world.array("ph_archive", "source_updated_at")[known]
    order = np.lexsort((stamp, ids))
    last = np.r_[ids[order][1:] != ids[order][:-1], True] if len(order) else np.zeros(0, dtype=bool)
    out = np.zeros(world.tables["ph_archive"].num_rows, dtype=bool)
    out[known[order[last]]] = True
    return out
