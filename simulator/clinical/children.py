"""Children to the age of six: their cards and the check-ups of the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.children_growth import measured
from simulator.clinical.draw import NO_DAY, codes, days, flags, numbers, pick, serial_ids, to_days
from simulator.clinical.served import (
    Served,
    add_months,
    after_weekend,
    card_states,
    family,
    numbered,
    same,
    span,
)

WEEKS = np.array([35, 36, 37, 38, 39, 40, 41])
WEEK_SHARE = np.array([0.02, 0.03, 0.08, 0.2, 0.32, 0.27, 0.08])


@dataclass(frozen=True)
class Births:
    """One entry per resident; twins share what belongs to the birth. ``second``: of the day of birth."""

    gest_days: np.ndarray
    stay: np.ndarray
    second: np.ndarray
    weight_g: np.ndarray
    length_cm: np.ndarray
    twin: np.ndarray
    leader: np.ndarray
    mother: np.ndarray

    @property
    def weeks(self) -> np.ndarray:
        return self.gest_days // 7


@dataclass(frozen=True)
class Children:
    """One entry per child with a card. ``z``: weight, length, head; ``ended`` NaT before the end of the programme."""

    who: np.ndarray
    birth: np.ndarray
    sex: np.ndarray
    carded: np.ndarray
    ended: np.ndarray
    z: np.ndarray
    delay: np.ndarray

    def __len__(self) -> int:
        return len(self.who)


def _link(column: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(column, -1).to_numpy()


def make_births(city: Any, served: Served, rng: np.random.Generator) -> Births:
    """Weeks, weight and stay of every resident's birth. ``mother``: resident whose archive may carry it, or -1."""
    size = len(served.birth)
    twin = _link(city.residents["twin_id"])
    every = np.arange(size)
    leader = np.where((twin >= 0) & (twin < every), twin, every)
    weeks = WEEKS[np.searchsorted(np.cumsum(WEEK_SHARE), rng.random(size) * 0.9999)]
    gest = (weeks * 7 + rng.integers(0, 7, size))[leader]
    z = np.clip(rng.normal(0, 0.8, size), -1.8, 1.8)
    sex, start = served.cohort.sex, np.zeros(size)
    early = np.maximum(37 - gest // 7, 0) + np.where(twin >= 0, 1.2, 0)
    weight = np.clip(measured("weight", sex, start, z) * 1000 - 260 * early, 1300, 4600)
    mother = _link(city.residents["mother_resident_id"])
    age = (served.birth - served.birth[np.maximum(mother, 0)]).astype("int64") / 365.25
    # A woman of 16 to 50 with a sound archive; others are not linked to the child.
    known = (mother >= 0) & served.sound[mother] & (served.cohort.sex[mother] == 2) & (age > 16) & (age < 50)
    return Births(
        gest, rng.integers(2, 6, size)[leader], rng.integers(0, 86400, size)[leader], np.round(weight, -1),
        np.round(measured("height", sex, start, z) - 0.7 * early, 1), twin >= 0, leader, np.where(known, mother, -1),
    )  # fmt: skip


def make_children(served: Served, rng: np.random.Generator) -> Children:
    """Who has a card: born in the window or still under seven when it began, alive, with a sound archive."""
    birth = served.cohort.birth
    sixth = add_months(birth, 72)
    able = (
        served.sound
        & np.isnat(served.cohort.death)
        & (served.opened < sixth)
        & (served.opened <= served.horizon)
    )
    who = np.flatnonzero(able & (sixth + 90 >= served.begin))
    size = len(who)
    # The programme ends some weeks after the check-up at six, before the seventh birthday.
    ended = sixth[who] + span(rng, 75, 150, size)
    ended = np.where(ended <= served.horizon, ended, NO_DAY)
    common = rng.normal(0, 0.45, size)[:, None]
    z = np.clip(common + rng.normal(0, 0.45, (size, 3)), -1.1, 1.1)
    return Children(
        who, birth[who], served.cohort.sex[who], served.opened[who], ended, z, rng.integers(0, 7, size)
    )


def make_cards(kids: Children, births: Births, served: Served) -> pa.Table:
    who, early = kids.who, births.weeks[kids.who] < 37
    light = births.weight_g[who] < 2500
    mother = births.mother[who]
    table = pa.table({
        "card_id": serial_ids("ET", np.arange(1, len(kids) + 1), 8), "archive_id": served.archive_id(who),
        "carded_on": days(kids.carded), "birth_date": days(kids.birth), "sex_code": codes(kids.sex),
        "mother_archive_id": served.archive_id(mother, mother < 0), "gest_weeks": numbers(births.weeks[who]),
        "birth_weight_g": numbers(births.weight_g[who]), "birth_length_cm": numbers(births.length_cm[who], 1),
        "conception_code": codes(1 + births.twin[who]), "hearing_screen_code": codes(np.ones(len(kids))),
        "disease_screen_code": codes(np.ones(len(kids))), "is_high_risk": flags(early | light),
        "high_risk_factors": pick(["早产", "低出生体重", "早产、低出生体重"], early + 2 * light - 1),
        "doctor_id": served.doctor(who), "org_code": served.org(who), "resident": pa.array(who),
    })  # fmt: skip
    return card_states(table, kids.carded, kids.ended, served, pa.nulls(len(kids), pa.string()))


def make_visits(
    kids: Children, served: Served, hospital_of: dict[str, str], rng: np.random.Generator
) -> pa.Table:
    """Every stage that falls after the card was opened and into the window, a few days after the age is reached."""
    stages = family()["children"]["stages"]
    parts = []
    for place, stage in enumerate(stages.values()):
        day = add_months(kids.birth, stage["months"]) + kids.delay.astype("timedelta64[D]")
        day = after_weekend(day + span(rng, 0, stage["late"], len(kids)))
        parts.append((np.full(len(kids), place), day))
    number, day = (np.concatenate(p) for p in zip(*parts, strict=True))
    child = np.tile(np.arange(len(kids)), len(stages))
    keep = (day >= np.maximum(kids.carded[child], served.begin)) & (day <= served.horizon)
    number, day, child = number[keep], day[keep], child[keep]
    who, size, sex = kids.who[child], len(child), kids.sex[child]
    month = np.array([s["months"] for s in stages.values()])[number]
    age = (day - kids.birth[child]).astype("int64")
    z = kids.z[child] + np.clip(rng.normal(0, 0.06, (size, 3)), -0.15, 0.15)
    has = {k: np.array([bool(s.get(k)) for s in stages.values()])[number] for k in ("hgb", "hearing")}
    hgb = np.where(has["hgb"], np.round(rng.normal(120, 8, size)), np.nan)
    low = hgb < 110
    failed = rng.random(size) < 0.02
    closes = 9.5 + kids.who[child] % 8
    infant = month <= 36
    open_ = age / 30.4375 < closes
    eyesight = np.round(np.clip(rng.normal(0.75 + (month - 48) / 120, 0.08, (2, size)), 0.5, 1.2), 1)
    texts = family()["children"]
    after = np.array([*[s["months"] for s in stages.values()][1:], 84])[number]
    org = served.org(who)
    targets = [f"{hospital_of[code.as_py()]}儿科" for code in org.unique()]
    target = pa.array(targets, pa.string()).take(pc.index_in(org, org.unique()))
    columns: dict[str, Any] = {
        "archive_id": served.archive_id(who), "visited_on": days(day), "stage_code": pick(list(stages), number),
        "month_age": numbers(np.floor(age / 30.4375)), "weight_kg": numbers(measured("weight", sex, age, z[:, 0]), 2),
        "height_cm": numbers(measured("height", sex, age, z[:, 1]), 1),
        "head_circ_cm": numbers(measured("head", sex, age, z[:, 2]), 1, ~infant),
        "fontanelle_code": codes(1 + open_, month > 24), "fontanelle_cm": numbers(np.clip(2.2 - age / 300, 0.5, 2), 1, ~open_),
        "teeth_count": numbers(np.clip((month - 6) * 0.9, 0, 20), 0, ~infant).cast(pa.int64()),
        "eye_code": codes(np.ones(size), ~infant), "is_eye_care": flags(np.ones(size)),
        "vision_left": numbers(eyesight[0], 1, infant), "vision_right": numbers(eyesight[1], 1, infant),
        "hearing_code": codes(np.ones(size), ~has["hearing"]), "hgb_g_l": numbers(hgb),
        "development_code": codes(1 + failed), "outdoor_h_day": numbers(1 + who % 3),
        "vitamin_d_iu_day": numbers(np.full(size, 400), 0, month > 36),
        "dx_text": pick(["营养性缺铁性贫血"], np.where(low, 0, -1)),
        "guidance": pick([*texts["guidance"], texts["anaemia_guidance"]],
                         np.where(low, len(texts["guidance"]), (who + month) % len(texts["guidance"]))),
        "is_referred": flags(failed), "referral_reason": pick(["发育评估未通过"], np.where(failed, 0, -1)),
        "referral_org": pc.if_else(pa.array(failed), target, None),
        "next_visit_on": days(np.where(after > 72, NO_DAY, add_months(kids.birth[child], after))),
        "form_version_code": same("v3", size),
    }  # fmt: skip
    return numbered(
        columns | served.stamp(rng, who, day + span(rng, 0, 3, size)), "visit_id", "ETJ", "visited_on"
    )


def make_guidance(kids: Children, visits: pa.Table, served: Served, rng: np.random.Generator) -> pa.Table:
    """``tcm_child``: traditional guidance, given on the day of the check-up of that stage."""
    settings = family()["children"]
    rows = visits.filter(pc.is_in(visits["stage_code"], pa.array(list(settings["tcm_guidance"]))))
    who, day = rows["resident"].to_numpy(), to_days(rows["visited_on"])
    number = np.array(
        [list(settings["tcm_guidance"]).index(s) for s in rows["stage_code"].to_pylist()], dtype="int64"
    )
    columns: dict[str, Any] = {
        "archive_id": rows["archive_id"], "visited_on": rows["visited_on"], "stage_code": rows["stage_code"],
        "month_age": rows["month_age"], "guidance": pick(list(settings["tcm_guidance"].values()), number),
        "is_acupressure_taught": flags(number >= 2), "next_visit_on": rows["next_visit_on"],
    }  # fmt: skip
    stamp = served.stamp(rng, who, day + span(rng, 0, 3, len(who)))
    return numbered(columns | stamp, "visit_id", "ZYE", "visited_on")
