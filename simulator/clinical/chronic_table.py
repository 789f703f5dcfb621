"""The one-table follow-up of several diseases at once (慢病一张表), and the archive's past diseases as a list."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.cohort import blood_pressure
from simulator.clinical.draw import codes, days, flags, instants, numbers, pick, to_days
from simulator.clinical.followup import systolic_goal
from simulator.clinical.rounds import rounds
from simulator.clinical.served import Served, numbered, same, span

OPERATIONS = (("阑尾切除术", None), ("胆囊切除术", None), ("白内障手术", None))
WOMEN, MEN = ("剖宫产术", None), ("前列腺电切术", None)


def make_diseases(served: Served, world: Mapping[str, pa.Table], rng: np.random.Generator) -> pa.Table:
    """``ph_archive_disease``: every known hypertension and diabetes of an archive's owner, and some operations.

    Who is known to be ill and has no card of the programme declined to be managed.
    """
    parts = []
    everybody = np.flatnonzero(served.archive >= 0)
    for seq, (label, icd, on, card) in enumerate((
        ("高血压", "I10.x00", served.cohort.htn_on, "htn_card"), ("2型糖尿病", "E11.900", served.cohort.dm_on, "dm_card"),
    ), start=1):  # fmt: skip
        who = everybody[~np.isnat(on[everybody]) & (on[everybody] <= served.horizon)]
        managed = np.isin(who, world[card]["resident"].to_numpy())
        parts.append(
            _rows(
                served,
                who,
                "disease",
                seq,
                pa.array([label] * len(who)),
                pa.array([icd] * len(who)),
                on[who],
                ~managed,
            )
        )
    age = (served.begin - served.birth).astype("int64") // 366
    operated = everybody[(age[everybody] > 40) & (rng.random(len(everybody)) < 0.06)]
    of = rng.integers(0, len(OPERATIONS) + 1, len(operated))
    names = np.array([o[0] for o in OPERATIONS] + [""])[of]
    own = np.where(served.cohort.sex[operated] == 2, WOMEN[0], MEN[0])
    names = np.where(names == "", own, names)
    day = served.begin - rng.integers(30, 4000, len(operated))
    parts.append(
        _rows(
            served,
            operated,
            "surgery",
            1,
            pa.array(names.tolist(), pa.string()),
            pa.nulls(len(operated), pa.string()),
            day,
            np.zeros(len(operated), bool),
        )
    )
    return pa.concat_tables(parts).combine_chunks()


def _rows(
    served: Served, who: np.ndarray, kind: str, seq: int, name: pa.Array, icd: pa.Array, on: np.ndarray, refused: np.ndarray
) -> pa.Table:  # fmt: skip
    known = np.maximum(on, served.opened[who])
    size = len(who)
    return pa.table({
        "archive_id": served.archive_id(who), "history_kind_code": same(kind, size), "seq": pa.array(np.full(size, seq)),
        "disease_name": name.cast(pa.string()), "icd10_code": icd.cast(pa.string()), "occurred_on": days(on),
        "is_managed_refused": flags(refused),
        "recorded_at": instants(known.astype("datetime64[s]") + np.timedelta64(15 * 3600, "s")),
        "org_code": served.org(who), "deliver_on": days(served.window.deliver_on(known)), "resident": pa.array(who),
    })  # fmt: skip


def make_one_table(served: Served, world: Mapping[str, pa.Table], rng: np.random.Generator) -> pa.Table:
    """``chronic_one_table``: a joint visit every half year for patients with a card of COPD and one of hypertension."""
    active = world["htn_card"].filter(pc.equal(world["htn_card"]["status_code"], "active"))
    lung = world["copd_card"].filter(pc.equal(world["copd_card"]["status_code"], "active"))
    who = np.unique(
        lung.filter(pc.is_in(lung["resident"], active["resident"].combine_chunks()))["resident"].to_numpy()
    )
    death = served.cohort.death[who]
    who = who[np.isnat(death)]
    begun = np.zeros(len(served.birth), dtype="datetime64[D]")
    for table in (active, lung):
        residents = table["resident"].to_numpy()
        begun[residents] = np.maximum(begun[residents], to_days(table["carded_on"]))
    start = np.maximum(begun[who], served.begin) + 20 + rng.integers(0, 150, len(who))
    person, day = rounds(rng, start, np.full(len(who), served.horizon), 170, 182)
    people, size = who[person], len(person)
    cohort = served.cohort
    age = (day - served.birth[people]).astype("int64") // 366
    sbp, dbp = blood_pressure(cohort, people, day, systolic_goal(age), rng.normal(size=(2, size)))
    weight = np.round(cohort.weight_kg[people] + rng.normal(0, 0.8, size), 1)
    height = cohort.height_cm[people]
    good = (sbp < systolic_goal(age)) & (dbp < 90)
    nothing = pa.nulls(size, pa.string())
    columns = {
        "archive_id": served.archive_id(people), "visited_on": days(day), "visit_way_code": codes(1 + (rng.random(size) < 0.3)),
        "diseases": same("高血压、慢阻肺", size), "symptoms": pick(["无症状", "活动后气促"], person % 2),
        "sbp_mmhg": numbers(sbp), "dbp_mmhg": numbers(dbp), "heart_rate_bpm": numbers(cohort.heart_rate[people]),
        "height_cm": numbers(height, 1), "weight_kg": numbers(weight, 1), "bmi": numbers(weight / (height / 100) ** 2, 1),
        "salt_level_code": codes(1 + people % 3), "med_compliance_code": codes(np.ones(size)),
        "drugs": same("苯磺酸氨氯地平片|5mg|每日一次;噻托溴铵粉吸入剂|18ug|每日一次", size), "is_adverse": flags(np.zeros(size)),
        "htn_visit_class_code": codes(np.where(good, 1, 2)), "copd_visit_class_code": codes(np.ones(size)),
        "is_referred": flags(np.zeros(size)), "referral_reason": nothing, "referral_org": nothing, "next_visit_on": days(day + 90),
    }  # fmt: skip
    typed = day + span(rng, 0, 3, size)
    return numbered(columns | served.stamp(rng, people, typed), "visit_id", "YZB", "visited_on")
