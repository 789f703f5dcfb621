"""Hypertension and type-2 diabetes cards: who is managed, since when, and the quarterly dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.archive import Archives
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import (
    DAY,
    NO_DAY,
    age_on,
    before_weekend,
    codes,
    days,
    flags,
    instants,
    pick,
    serial_ids,
    stream,
)
from simulator.clinical.window import Window

MANAGED_FROM_AGE = 35
QUARTER_GAP = (
    76,
    89,
)  # days between quarterly visits; with the weekend shift at most 91, so 4 fall in any year


@dataclass(frozen=True)
class Care:
    """One entry per managed person. `archive` indexes Archives; days are NaT where there is no such card.

    `anchors` is the matrix of quarterly visit days (persons x visits, NaT outside the management period);
    `last` the last day on which a visit can happen (death, end of management or the horizon).
    """

    archive: np.ndarray
    who: np.ndarray
    birth: np.ndarray
    htn_from: np.ndarray
    dm_from: np.ndarray
    ended: np.ndarray
    end_reason: np.ndarray
    last: np.ndarray
    anchors: np.ndarray


def _first_possible(
    on: np.ndarray, wanted: np.ndarray, birth: np.ndarray, opened: np.ndarray, lag: np.ndarray
) -> np.ndarray:
    """Earliest carding: after diagnosis, with an archive, at 35 or older by the archive's birth date."""
    grown = birth + np.timedelta64(int(365.25 * MANAGED_FROM_AGE) + 2, "D")
    day = np.maximum(np.maximum(on + lag, opened), grown) + np.timedelta64(3, "D")
    return np.where(wanted & ~np.isnat(on), day, NO_DAY)


def _anchors(
    rng: np.random.Generator, start: np.ndarray, last: np.ndarray, first_day: np.datetime64
) -> np.ndarray:
    steps = int((last.max() - first_day).astype("int64")) // (QUARTER_GAP[0] - 2) + 2
    columns = [before_weekend(start)]
    for _ in range(steps):  # a step per quarter, all persons at once
        gap = rng.integers(QUARTER_GAP[0], QUARTER_GAP[1] + 1, len(start)).astype("timedelta64[D]")
        columns.append(before_weekend(columns[-1] + gap))
    grid = np.stack(columns, axis=1)
    grid[grid > last[:, None]] = NO_DAY
    return grid


def make_care(
    archives: Archives, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int
) -> Care:
    """Decide who is managed for what and lay out the quarterly dates."""
    rng = stream(seed, "care")
    person = np.flatnonzero(archives.of_resident >= 0)
    person = person[~np.isnat(cohort.htn_on[person]) | ~np.isnat(cohort.dm_on[person])]
    archive = archives.of_resident[person]
    size, birth, opened = len(person), archives.birth[archive], archives.opened[archive]
    lag = rng.integers(0, 60, size).astype("timedelta64[D]")
    carded = float(rates["carded"])
    htn = _first_possible(cohort.htn_on[person], rng.random(size) < carded, birth, opened, lag)
    dm = _first_possible(cohort.dm_on[person], rng.random(size) < carded, birth, opened, lag)

    begin, horizon = np.datetime64(window.public_health_start), np.datetime64(window.horizon)
    first = np.fmin(htn, dm)
    start = np.where(first < begin, begin + rng.integers(2, 78, size).astype("timedelta64[D]"), first)
    span = (np.datetime64(window.history_end) - begin).astype("int64")
    leaves = begin + rng.integers(200, max(span, 201) + 1, size).astype("timedelta64[D]")
    leaves = np.where((rng.random(size) < rates["leaves_care"]) & (leaves > start + 120), leaves, NO_DAY)
    leaves = np.where(leaves <= np.datetime64(window.history_end), leaves, NO_DAY)
    death = cohort.death[person]
    ended = np.where(~np.isnat(death) & ~(leaves < death), death, leaves)
    reason = np.where(np.isnat(ended), 0, np.where(ended == death, 1, rng.integers(2, 5, size)))
    last = np.fmin(ended - np.timedelta64(1, "D"), horizon)
    grid = _anchors(rng, start, last, begin)
    has_visit = ~np.isnat(grid[:, 0])

    def snap(day: np.ndarray) -> np.ndarray:
        """A card opened in the window is opened at a visit; one that meets no visit is not opened."""
        on_or_after = np.where(
            grid >= day[:, None] - np.timedelta64(3, "D"), grid, np.datetime64("9999-12-31")
        )
        earliest = on_or_after.min(axis=1)
        snapped = np.where(day < begin, day, earliest)
        return np.where(np.isnat(day) | (snapped > horizon), NO_DAY, snapped).astype(DAY)

    htn, dm = snap(htn), snap(dm)
    keep = has_visit & ~(np.isnat(htn) & np.isnat(dm)) & (np.isnat(ended) | (ended > np.fmin(htn, dm)))
    return Care(
        archive[keep], person[keep], birth[keep], htn[keep], dm[keep],
        ended[keep], reason[keep], last[keep], grid[keep],
    )  # fmt: skip


def make_cards(
    care: Care, archives: Archives, cohort: Cohort, window: Window, seed: int
) -> dict[str, pa.Table]:
    """`htn_card` and `dm_card`; a card ended in the daily window comes again with its end."""
    rng = stream(seed, "card")
    out: dict[str, pa.Table] = {}
    for name, since, confirmed in (("htn", care.htn_from, cohort.htn_on), ("dm", care.dm_from, cohort.dm_on)):
        has = np.flatnonzero(~np.isnat(since) & (np.isnat(care.ended) | (since < care.ended)))
        who, ended = care.who[has], care.ended[has]
        opened = since[has]
        base_ended = ~np.isnat(ended) & (ended <= np.datetime64(window.history_end))
        touched = np.where(base_ended, ended, opened)
        seconds = rng.integers(8 * 3600, 17 * 3600, len(has)).astype("timedelta64[s]")
        org = archives.org_code.take(pa.array(care.archive[has]))
        station = rng.integers(1, 12, len(has))
        columns: dict[str, Any] = {
            "card_id": serial_ids("GXY" if name == "htn" else "TNB", np.arange(1, len(has) + 1), 8),
            "archive_id": archives.archive_id.take(pa.array(care.archive[has])),
            "carded_on": days(opened), "confirmed_on": days(np.minimum(confirmed[who], opened)),
        }  # fmt: skip
        if name == "htn":
            risk = 1 + (rng.random(len(has)) < 0.6) + cohort.has_cvd[who] + cohort.has_dm[who]
            columns |= {
                "risk_level_code": codes(np.minimum(risk, 4)), "has_dm": flags(~np.isnat(cohort.dm_on[who])),
                "has_ckd": flags(cohort.has_ckd[who]), "has_cvd": flags(cohort.has_cvd[who]),
            }  # fmt: skip
        else:
            columns["dm_type_code"] = pick(["2"], np.zeros(len(has), dtype="int64"))
        columns |= {
            "status_code": pick(["active", "ended"], base_ended.astype("int64")),
            "ended_on": days(np.where(base_ended, ended, NO_DAY)),
            "end_reason_code": codes(care.end_reason[has], ~base_ended),
            "doctor_id": serial_ids(pc.binary_join_element_wise(org, "G", ""), station, 2),
            "source_updated_at": instants(touched.astype("datetime64[s]") + seconds),
            "org_code": org, "deliver_on": days(window.deliver_on(touched)), "resident": who,
        }  # fmt: skip
        table = pa.table(columns)
        later = ~np.isnat(ended) & ~base_ended & (ended <= np.datetime64(window.horizon))
        out[f"{name}_card"] = pa.concat_tables([table, _endings(table, later, care, has, window)])
    return out


def _endings(table: pa.Table, later: np.ndarray, care: Care, has: np.ndarray, window: Window) -> pa.Table:
    rows, ended = table.filter(pa.array(later)), care.ended[has][later]
    known = ended + np.timedelta64(2, "D")
    new = {
        "status_code": pa.array(["ended"] * rows.num_rows, pa.string()),
        "ended_on": days(ended),
        "end_reason_code": codes(care.end_reason[has][later]),
        "source_updated_at": instants(known.astype("datetime64[s]") + np.timedelta64(16, "h")),
        "deliver_on": days(window.deliver_on(known)),
    }
    for name, column in new.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows.cast(table.schema)


def age_at(care: Care, person: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Age by the birth date that the archive shows: that is what the doctor's system computes."""
    return age_on(care.birth[person], day)
