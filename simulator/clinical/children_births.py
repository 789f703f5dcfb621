"""What happens around a birth and at the vaccination desk: registrations, home visits, doses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.children import Births, Children
from simulator.clinical.draw import codes, days, flags, instants, numbers, pick, stream
from simulator.clinical.served import Served, after_weekend, family, numbered, same, span


def make_records(
    city: Any, kids: Children, births: Births, delivery_of: dict[int, str], served: Served,
    parent: dict[str, str], rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    """``birth_record`` of every child with a card born in the window, and of the newborns who have no archive yet.

    ``delivery_of``: resident who led a birth -> the delivery's id. ``parent``: centre -> its hospital.
    """
    carded = kids.who[kids.birth >= served.begin]
    born = served.cohort.birth
    recent = (born >= served.horizon - 45) & (born <= served.horizon) & (births.mother >= 0)
    recent[kids.who] = False
    who = np.concatenate([carded, np.flatnonzero(recent & (served.archive < 0))])
    size, hidden = len(who), np.arange(len(who)) >= len(carded)
    mother, people = births.mother[who], city.residents
    left = born[who] + births.stay[who].astype("timedelta64[D]")
    typed = left + span(rng, 0, 2, size)
    known = np.where(hidden, typed, np.maximum(typed, np.where(hidden, typed, served.opened[who])))
    centre = people["centre_code"].take(pa.array(who)).combine_chunks()
    scored = np.where(births.weeks[who] < 37, 8, 9)
    seconds = (9 * 3600 + births.second[who] // 3).astype("timedelta64[s]")

    def of_mother(column: str) -> pa.Array:
        return people[column].take(pa.array(mother, mask=mother < 0)).combine_chunks()

    columns: dict[str, Any] = {
        "birth_cert_no": pc.binary_join_element_wise("Z42", pa.array((10_000_000 + who).astype(str).tolist(), pa.string()), ""),
        "archive_id": served.archive_id(who, hidden), "name": people["name"].take(pa.array(who)).combine_chunks(),
        "sex_code": codes(served.cohort.sex[who]),
        "born_at": instants(born[who].astype("datetime64[s]") + births.second[who].astype("timedelta64[s]")),
        "gest_weeks": numbers(births.weeks[who]), "birth_weight_g": numbers(births.weight_g[who]),
        "birth_length_cm": numbers(births.length_cm[who], 1),
        "apgar_1": pa.array(scored), "apgar_5": pa.array(scored + 1), "apgar_10": pa.array(np.full(size, 10)),
        "fetus_count": pa.array(1 + births.twin[who]), "birth_order": pa.array(1 + (births.leader[who] != who)),
        "is_live_birth": flags(np.ones(size)), "mother_name": of_mother("name"), "mother_id_no": of_mother("id_no"),
        "mother_archive_id": served.archive_id(mother, mother < 0),
        "delivery_id": pa.array([delivery_of.get(r) for r in births.leader[who].tolist()], pa.string()),
        "hearing_screen_code": codes(np.ones(size)), "disease_screen_code": codes(np.ones(size)),
        "discharged_on": days(left), "birth_org_code": pa.array([parent[c] for c in centre.to_pylist()], pa.string()),
        "recorded_at": instants(typed.astype("datetime64[s]") + seconds), "org_code": centre,
        "deliver_on": days(served.window.deliver_on(known)), "resident": pa.array(who),
    }  # fmt: skip
    return numbered(columns, "birth_record_id", "CS", "born_at")


def make_newborn_visits(kids: Children, births: Births, served: Served, seed: int) -> pa.Table:
    """``newborn_visit``: within a week of leaving hospital, and once more for a high-risk child.

    A visit reaches the platform with the archive, which is opened when the child is at least a month old.
    """
    rng = stream(seed, "family", "newborn")
    first = np.flatnonzero(kids.birth >= served.begin)
    left = kids.birth + births.stay[kids.who].astype("timedelta64[D]")
    frail = (births.weeks[kids.who] < 37) | (births.weight_g[kids.who] < 2500)
    again = first[frail[first]]
    child = np.concatenate([first, again])
    day = left[child] + np.concatenate([span(rng, 1, 6, len(first)), span(rng, 10, 16, len(again))])
    who, size = kids.who[child], len(child)
    gained = (day - kids.birth[child]).astype("int64") * 0.025
    columns: dict[str, Any] = {
        "archive_id": served.archive_id(who), "visited_on": days(day), "birth_weight_g": numbers(births.weight_g[who]),
        "birth_length_cm": numbers(births.length_cm[who], 1), "weight_kg": numbers(births.weight_g[who] / 1000 + gained, 2),
        "temp_c": numbers(rng.normal(36.7, 0.2, size), 1), "pulse_bpm": numbers(rng.normal(132, 7, size)),
        "resp_bpm": numbers(rng.normal(42, 3, size)), "feeding_code": codes(1 + who % 3),
        "jaundice": pick(["无", "面部"], (who % 4 == 0).astype("int64")), "cord": pick(["脐带已脱", "未脱"], who % 2),
        "hearing_screen_code": codes(np.ones(size)), "disease_screen_code": codes(np.ones(size)),
        "discharged_on": days(left[child]), "guidance": same("喂养、护理与疾病预防指导", size),
        "is_referred": flags(np.zeros(size)), "referral_reason": pa.nulls(size, pa.string()),
        "referral_org": pa.nulls(size, pa.string()), "next_visit_on": days(kids.birth[child] + 30),
        "form_version_code": same("v3", size),
    }  # fmt: skip
    typed = day + span(rng, 0, 2, size)
    return numbered(
        columns | served.stamp(rng, who, typed, kids.carded[child]), "visit_id", "XSE", "visited_on"
    )


def make_doses(kids: Children, served: Served, seed: int) -> pa.Table:
    """``vaccination_record``: every dose of the programme, each child with a delay of its own of up to ten days."""
    rng = stream(seed, "family", "vaccines")
    plan = family()["vaccines"]
    delay = rng.integers(0, 11, len(kids)).astype("timedelta64[D]")
    child = np.tile(np.arange(len(kids)), len(plan))
    dose = np.repeat(np.arange(len(plan)), len(kids))
    age = np.array([p[2] for p in plan])[dose].astype("timedelta64[D]")
    at_birth = age.astype("int64") == 0
    day = kids.birth[child] + age
    day = np.where(at_birth, day, after_weekend(day + delay[child]))
    keep = (day >= served.begin) & (day <= served.horizon) & (day >= kids.birth[child])
    child, dose, day, at_birth = child[keep], dose[keep], day[keep], at_birth[keep]
    who, size = kids.who[child], len(child)
    made = family()["manufacturers"]
    second = np.where(at_birth, rng.integers(86000, 86399, size), rng.integers(8 * 3600, 11 * 3600, size))
    month = day.astype("datetime64[M]").astype("int64")
    lot = pa.array((month * 40 + dose).astype(str).tolist(), pa.string())
    columns: dict[str, Any] = {
        "archive_id": served.archive_id(who), "vaccine_name": pick([p[0] for p in plan], dose),
        "dose_no": pa.array(np.array([p[1] for p in plan])[dose]),
        "given_at": instants(day.astype("datetime64[s]") + second.astype("timedelta64[s]")),
        "due_on": days(kids.birth[child] + age[keep]), "lot_no": pc.binary_join_element_wise("L", lot, ""),
        "expires_on": days((month + 20).astype("datetime64[M]").astype("datetime64[D]")),
        "manufacturer": pick(made, dose % len(made)), "site_code": pick([p[3] for p in plan], dose),
        "vaccine_route_code": pick([p[4] for p in plan], dose), "given_org_code": served.org(who),
        "is_contraindicated": flags(np.zeros(size)),
    }  # fmt: skip
    stamp = served.stamp(rng, who, day + at_birth.astype("timedelta64[D]"), kids.carded[child])
    stamp["nurse_id"] = stamp.pop("doctor_id")
    return numbered(columns | stamp, "vaccination_id", "JZ", "given_at")
