"""The records of pregnancies: booking card, antenatal visits, delivery, visits after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.children import Births
from simulator.clinical.draw import (
    NO_DAY,
    age_on,
    days,
    flags,
    instants,
    numbers,
    pick,
    serial_ids,
    stream,
)
from simulator.clinical.maternal import Pregnancies, describe
from simulator.clinical.served import Served, after_weekend, card_states, family, numbered, same, span


def make_records(
    preg: Pregnancies,
    births: Births,
    served: Served,
    parent: dict[str, str],
    hospital_of: dict[str, str],
    seed: int,
) -> tuple[dict[str, pa.Table], dict[int, str]]:
    """The four tables, and the delivery's id by the resident who led the birth."""
    rng = stream(seed, "family", "maternal")
    size, who, done = len(preg), preg.mother, preg.leader >= 0
    about = describe(preg, births)
    day42 = after_weekend(preg.born + span(rng, 40, 47, size))
    card_id = serial_ids("YCF", np.arange(1, size + 1), 8)
    hepatitis = rng.random(size) < 0.05
    org = served.org(who)
    named = org.unique()
    target = pa.array([f"{hospital_of[c.as_py()]}产科" for c in named], pa.string()).take(
        pc.index_in(org, named)
    )
    card, risk = _cards(rng, preg, served, card_id, hepatitis, day42 + span(rng, 1, 3, size), target)
    out = {"preg_card": card}
    out["prenatal_visit"] = _visits(rng, preg, served, card_id, hepatitis, risk, target)
    rows = np.flatnonzero(done)
    at = about["second"][rows]
    left = (preg.born + about["stay"])[rows]
    caesarean = rng.random(len(rows)) < 0.42
    ids = serial_ids("FM", np.arange(1, len(rows) + 1), 8)
    typed = preg.born[rows] + span(rng, 0, 2, len(rows))
    stamp = served.stamp(rng, who[rows], typed)
    stamp.pop("doctor_id")
    stamp["recorded_at"] = instants(np.maximum(
        typed.astype("datetime64[s]") + np.timedelta64(17 * 3600, "s"), preg.born[rows].astype("datetime64[s]") + at))  # fmt: skip
    out["delivery"] = pa.table({
        "delivery_id": ids, "archive_id": served.archive_id(who[rows]), "card_id": card_id.take(pa.array(rows)),
        "delivered_at": instants(preg.born[rows].astype("datetime64[s]") + at), "gest_weeks": numbers(about["weeks"][rows]),
        "delivery_way_code": pick(["vaginal", "cesarean"], caesarean.astype("int64")),
        "outcome_code": same("live", len(rows)), "fetus_count": pa.array(about["fetuses"][rows]),
        "live_birth_count": pa.array(about["fetuses"][rows]),
        "blood_loss_ml": numbers(rng.normal(260, 70, len(rows)).clip(80, 480)),
        "complications": same("无", len(rows)), "discharged_on": days(left),
        "delivery_org_code": pa.array([parent[c] for c in org.take(pa.array(rows)).to_pylist()], pa.string()), **stamp,
    })  # fmt: skip
    out["postpartum_visit"] = _afterwards(rng, preg, served, rows, card_id, ids, left, day42[rows])
    return out, dict(zip(preg.leader[rows].tolist(), ids.to_pylist(), strict=True))


def _cards(
    rng: np.random.Generator, preg: Pregnancies, served: Served, card_id: pa.Array, hepatitis: np.ndarray,
    ended: np.ndarray, target: pa.Array,
) -> tuple[pa.Table, np.ndarray]:  # fmt: skip
    """Cards, and who is high risk. The last period, the booking and the risk agree with each other."""
    size, who = len(preg), preg.mother
    age = age_on(served.birth[who], preg.carded)
    old = (age >= 35) | (age < 18)
    sweet = (rng.random(size) < 0.04) & ~hepatitis & ~old
    risk = old | hepatitis | sweet
    colour = np.select([sweet, hepatitis & old, hepatitis, old], [4, 3, 2, 1], 0)
    before, lost = rng.integers(0, 3, size), rng.integers(0, 2, size)
    cut = np.minimum(before, rng.integers(0, 2, size))
    height = np.round(rng.normal(160, 5, size), 1)
    weight = np.round(rng.normal(55, 7, size).clip(42, 85), 1)
    table = pa.table({
        "card_id": card_id, "archive_id": served.archive_id(who), "carded_on": days(preg.carded), "lmp_on": days(preg.lmp),
        "edd_on": days(preg.lmp + 280), "is_us_corrected": flags(np.zeros(size)),
        "gest_weeks": numbers((preg.carded - preg.lmp).astype("int64") // 7),
        "gravidity": pa.array(1 + before + lost), "parity": pa.array(before), "vaginal_births": pa.array(before - cut),
        "cesarean_births": pa.array(cut), "natural_abortions": pa.array(lost), "artificial_abortions": pa.array(0 * lost),
        "medical_abortions": pa.array(0 * lost), "ectopic_count": pa.array(0 * lost), "stillbirths": pa.array(0 * lost),
        "newborn_deaths": pa.array(0 * lost), "birth_defects": pa.array(0 * lost), "height_cm": numbers(height, 1),
        "weight_kg": numbers(weight, 1), "bmi": numbers(weight / (height / 100) ** 2, 1),
        "sbp_mmhg": numbers(rng.normal(110, 7, size).clip(92, 130)), "dbp_mmhg": numbers(rng.normal(69, 5, size).clip(54, 82)),
        "past_history": pick(["无", "乙型肝炎"], hepatitis.astype("int64")), "family_history": same("无", size),
        "risk_color_codes": pick(["绿", "黄", "紫", "黄;紫", "橙"], colour),
        "risk_factors": pick(["高龄或低龄", "乙型肝炎病毒感染", "高龄或低龄;乙型肝炎病毒感染", "妊娠合并糖尿病"], colour - 1),
        "is_high_risk": flags(risk), "is_special_mgmt": flags(sweet), "is_referred": flags(sweet),
        "referral_org": pc.if_else(pa.array(sweet), target, None), "doctor_id": served.doctor(who),
        "form_version_code": same("v3", size), "org_code": served.org(who),
        "resident": pa.array(who),
    })  # fmt: skip
    over = np.where(preg.leader >= 0, ended, NO_DAY)
    cards = card_states(table, preg.carded, over, served, same("delivered", size))
    return cards, risk


def _visits(
    rng: np.random.Generator, preg: Pregnancies, served: Served, card_id: pa.Array, hepatitis: np.ndarray,
    risk: np.ndarray, target: pa.Array,
) -> pa.Table:  # fmt: skip
    """With the booking, then by the weeks of the schedule until the birth; the first one brings the blood tests."""
    settings, size = family()["maternal"], len(preg)
    plan = [preg.carded]
    for week, late in settings["visits"]:
        plan.append(after_weekend(preg.lmp + 7 * week + span(rng, 0, late, size)))
    day = np.stack(plan, axis=1)
    limit = np.where(np.isnat(preg.born), served.horizon + 1, preg.born)
    row, number = np.nonzero((day < limit[:, None]) & (day >= served.begin) & (day <= served.horizon))
    day = day[row, number]
    who, count, first = preg.mother[row], len(row), number == 0
    total = (day - preg.lmp[row]).astype("int64")
    weeks = total // 7
    grows, heard = weeks >= 20, weeks >= 16
    high = (rng.random(count) < 0.03) & grows
    hgb = np.where(np.isin(number, [0, 3, 5]), np.round(rng.normal(119, 8, count)), np.nan)
    low = hgb < 110
    texts = [*settings["guidance"], settings["anaemia_guidance"]]

    def tested(positive: np.ndarray) -> pa.Array:
        return pick(["neg", "pos"], np.where(first, positive.astype("int64"), -1))

    columns: dict[str, Any] = {
        "archive_id": served.archive_id(who), "card_id": card_id.take(pa.array(row)), "visited_on": days(day),
        "visit_no": pa.array(number + 1), "gest_weeks": numbers(weeks), "gest_days": numbers(total % 7),
        "weight_kg": numbers(54 + who % 14 + weeks * 0.32, 1),
        "sbp_mmhg": numbers(np.where(high, 144, rng.normal(113, 8, count).clip(92, 134))),
        "dbp_mmhg": numbers(np.where(high, 92, rng.normal(70, 6, count).clip(52, 85))),
        "fundal_cm": numbers(weeks + rng.normal(0, 0.9, count).clip(-2.5, 2.5), 0, ~grows),
        "abdomen_cm": numbers(78 + weeks * 0.5, 0, ~grows),
        "fetal_heart_bpm": numbers(rng.normal(142, 6, count).clip(118, 158), 0, ~heard),
        "fetal_position": pick(["头位", "臀位"], np.where(weeks < 28, -1, (rng.random(count) < 0.04).astype("int64"))),
        "hgb_g_l": numbers(hgb), "urine_protein": same("-", count),
        "hiv_result_code": tested(np.zeros(count)), "syphilis_result_code": tested(np.zeros(count)),
        "hbsag_result_code": tested(hepatitis[row]),
        "is_mtct_blocked": pa.array(hepatitis[row] & first, mask=~(hepatitis[row] & first)),
        "is_high_risk": flags(risk[row] | high), "risk_color_codes": pick(["橙"], np.where(high, 0, -1)),
        "guidance": pick(texts, np.where(low, len(texts) - 1, np.clip(weeks // 14, 0, len(texts) - 2))),
        "is_referred": flags(high), "referral_reason": pick(["妊娠期血压升高"], np.where(high, 0, -1)),
        "referral_org": pc.if_else(pa.array(high), target.take(pa.array(row)), None),
        "next_visit_on": days(day + 28), "form_version_code": same("v3", count),
    }  # fmt: skip
    return numbered(
        columns | served.stamp(rng, who, day + span(rng, 0, 3, count)), "visit_id", "CQ", "visited_on"
    )


def _afterwards(
    rng: np.random.Generator, preg: Pregnancies, served: Served, rows: np.ndarray, card_id: pa.Array,
    delivery_id: pa.Array, left: np.ndarray, day42: np.ndarray,
) -> pa.Table:  # fmt: skip
    """The visit in the week after leaving hospital and the check after six weeks."""
    day = np.concatenate([left + span(rng, 2, 6, len(rows)), day42])
    each = np.tile(np.arange(len(rows)), 2)
    kept = day <= served.horizon
    six = (np.arange(len(day)) >= len(rows))[kept]
    day, each = day[kept], each[kept]
    of, size = rows[each], len(each)
    who = preg.mother[of]
    columns: dict[str, Any] = {
        "archive_id": served.archive_id(who), "card_id": card_id.take(pa.array(of)),
        "delivery_id": delivery_id.take(pa.array(each)), "visit_kind_code": pick(["week1", "day42"], six.astype("int64")),
        "visited_on": days(day), "delivered_on": days(preg.born[of]), "discharged_on": days(left[each]),
        "temp_c": numbers(rng.normal(36.6, 0.2, size), 1), "sbp_mmhg": numbers(rng.normal(112, 7, size).clip(92, 132)),
        "dbp_mmhg": numbers(rng.normal(70, 5, size).clip(54, 84)),
        **{n: same("未见异常", size) for n in ("breast", "lochia", "uterus", "wound", "psych")},
        "is_recovered": flags(six), "is_closed": flags(six),
        "guidance": pick(["母乳喂养与新生儿护理指导", "避孕与营养指导"], six.astype("int64")),
        "is_referred": flags(np.zeros(size)), "referral_reason": pa.nulls(size, pa.string()),
        "referral_org": pa.nulls(size, pa.string()),
        "next_visit_on": days(np.where(six, NO_DAY, day42[each])), "form_version_code": same("v3", size),
    }  # fmt: skip
    return numbered(
        columns | served.stamp(rng, who, day + span(rng, 0, 2, size)), "visit_id", "CH", "visited_on"
    )
