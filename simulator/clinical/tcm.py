"""Traditional medicine for the elderly: 33 questions a year, nine scores, a constitution and what it is advised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import DAY, days, pick
from simulator.clinical.served import Served, family, numbered, span

ELDER_AGE = 65
FIRST_YEAR_BACK = 2
YES, TENDS, BALANCED = 11, 9, 17  # 老年人体质判定标准表


def scores(answers: np.ndarray) -> dict[str, pa.Array]:
    """Score and judgement of the nine constitutions, the main one and its advice. ``answers``: n x 33, 1 to 5."""
    settings = family()["tcm"]
    names, out = [], {}
    sums = []
    for scale in settings["scales"].values():
        total = answers[:, np.array(scale["items"]) - 1].sum(axis=1)
        sums.append(total)
        names.append(scale["guidance"])
        out[f"{scale['name']}_score"] = pa.array(total)
        judged = np.select([total >= YES, total >= TENDS], [0, 1], 2)
        out[f"{scale['name']}_judge_code"] = pick(["yes", "tendency", "no"], judged)
    stack = np.stack(sums, axis=1)
    most = stack.max(axis=1)
    balanced = settings["balanced"]
    calm = answers[:, np.array(balanced["straight"]) - 1].sum(axis=1)
    calm = calm + (6 - answers[:, np.array(balanced["reversed"]) - 1]).sum(axis=1)
    judged = np.select([(calm >= BALANCED) & (most < 8), (calm >= BALANCED) & (most < 10)], [0, 1], 2)
    out["ping_he_score"] = pa.array(calm)
    out["ping_he_judge_code"] = pick(["yes", "mostly", "no"], judged)
    main = np.where(most >= TENDS, stack.argmax(axis=1), len(names))
    out["constitution_code"] = pick([*settings["scales"], "9"], main)
    out["guidance"] = pick([*names, balanced["guidance"]], main)
    return out


def make_elders(served: Served, rng: np.random.Generator) -> pa.Table:
    """``tcm_elder``: once in every calendar year in which the archive's owner is 65 or older, while alive.

    The years are those of the norm: who turns 65 in a year belongs to it. Records begin two whole years before the
    last delivery's year.
    """
    has = np.flatnonzero(served.archive >= 0)
    year_of_birth = served.birth[has].astype("datetime64[Y]").astype("int64") + 1970
    last = served.window.horizon.year
    all_who, all_day = [], []
    for year in range(served.window.end.year - FIRST_YEAR_BACK, last + 1):
        first = np.maximum(np.datetime64(f"{year}-01-04", "D"), served.opened[has])
        length = (np.datetime64(f"{year}-12-28", "D") - first).astype("int64")
        # Who registers in the last days of a year is assessed at registration.
        day = first + (rng.random(len(has)) * np.maximum(length, 1)).astype("int64").astype("timedelta64[D]")
        death = served.cohort.death[has]
        comes = (year - year_of_birth >= ELDER_AGE) & (
            served.opened[has].astype("datetime64[Y]").astype("int64") + 1970 <= year
        )
        comes &= (np.isnat(death) | (day < death)) & (day <= served.horizon)
        all_who.append(has[comes])
        all_day.append(day[comes].astype(DAY))
    who, day = np.concatenate(all_who), np.concatenate(all_day)
    size = len(who)
    answers = 1 + np.searchsorted([0.62, 0.87, 0.97], rng.random((size, 33)), side="right")
    scales = [np.array(s["items"]) - 1 for s in family()["tcm"]["scales"].values()]
    # A resident keeps the same leaning over the years; two in five lean nowhere.
    leaning = (who * 7 + 3) % 13
    for number, items in enumerate(scales):
        rows = np.flatnonzero(leaning == number)
        answers[np.ix_(rows, items)] = np.minimum(answers[np.ix_(rows, items)] + 1 + (rows % 2)[:, None], 5)
    answers[:, 0] = np.where(leaning == 0, 2, 4 + who % 2)
    columns: dict[str, Any] = {"archive_id": served.archive_id(who), "assessed_on": days(day)}
    columns |= {f"q{i + 1}": pa.array(answers[:, i]) for i in range(33)}
    stamp = served.stamp(rng, who, day + span(rng, 0, 3, size))
    return numbered(columns | scores(answers) | stamp, "record_id", "ZYT", "assessed_on")
