"""Tuberculosis (肺结核): report card, notice, first visit at home, visits under treatment, end of treatment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import codes, days, flags, instants, numbers, pick, serial_ids
from simulator.clinical.rounds import adults
from simulator.clinical.served import Served, numbered, same, span

COURSE = 182  # days of the standard regimen: two months intensive, four continued
INTENSIVE = 60
REGIMENS = ("2HRZE/4HR", "6Lfx-Bdq-Lzd-Cfz")
BY_DOCTOR = tuple(
    range(28, COURSE, 28)
)  # the village doctor sees the patient take the drugs, and reports monthly
BY_FAMILY = (9, 18, 27, 36, 45, 54, 82, 110, 138, 166)  # every ten days at first, then monthly
HOUR = np.timedelta64(3600, "s")


def make_tuberculosis(
    served: Served, residents: pa.Table, hospital_of: dict[str, str], rates: Mapping[str, float], rng: np.random.Generator
) -> dict[str, pa.Table]:  # fmt: skip
    """The four programme tables, and ``cases``: resident and time of diagnosis of each, for the report cards.

    Patients of the simulated city live through their treatment; who is notified gets visited within three days.
    """
    who = adults(served, rng, rates["tb"], living=True)
    size = len(who)
    first = np.maximum(served.begin + 10, served.opened[who] + 5)
    length = (served.horizon - 8 - first).astype("int64")
    day = first + (rng.random(size) * np.maximum(length, 1)).astype("int64").astype("timedelta64[D]")
    keep = day <= served.horizon - 8
    who, day = who[keep], day[keep]
    order = np.lexsort((who, day))
    who, day = who[order], day[order]
    size = len(who)
    resists = rng.random(size) < 0.08
    diagnosed = day.astype("datetime64[s]") + rng.integers(9 * 60, 16 * 60, size) * np.timedelta64(60, "s")
    noticed = (day + 1).astype("datetime64[s]") + rng.integers(9 * 60, 11 * 60, size) * np.timedelta64(
        60, "s"
    )
    visited = (day + 1 + span(rng, 1, 2, size)).astype("datetime64[s]") + rng.integers(9, 16, size) * HOUR
    started = day + span(rng, 0, 2, size)
    closed = started + COURSE + span(rng, 2, 9, size)
    by_doctor = rng.random(size) < 0.55
    notice_id = serial_ids("FH", np.arange(1, size + 1), 7)
    resistance = codes(np.where(resists, 1, 2))
    regimen = pick(REGIMENS, resists.astype("int64"))
    hospital = pa.array([hospital_of[c] for c in served.org(who).to_pylist()], pa.string())
    people = residents.take(pa.array(who))
    first_visit = {
        "archive_id": served.archive_id(who), "notice_id": notice_id, "visited_at": instants(visited),
        "visit_way_code": codes(np.full(size, 2)), "patient_type_code": codes(1 + resists),
        "sputum_code": codes(1 + who % 2), "drug_resist_code": resistance,
        "symptoms": pick(["咳嗽咳痰", "低热盗汗", "咯血或血痰"], who % 3), "regimen": regimen,
        "treatment_started_on": days(started), "supervisor_code": codes(np.where(by_doctor, 1, 2)),
        "is_own_room": flags(who % 3 > 0), "ventilation_code": codes(1 + who % 2), "smoke_per_day": numbers(np.zeros(size)),
        "drink_liang_per_day": numbers(np.zeros(size)), "guidance": same("规范服药、咳嗽礼仪、定期复查", size),
        "next_visit_on": days(started + np.where(by_doctor, 28, 9)),
    }  # fmt: skip
    return {
        "cases": pa.table({"resident": who, "at": instants(diagnosed)}),
        "tb_notice": _notices(served, people, who, notice_id, noticed, closed, resistance, hospital),
        "tb_first_visit": numbered(
            first_visit | served.stamp(rng, who, visited.astype("datetime64[D]") + span(rng, 0, 2, size)),
            "visit_id", "FHS", "visited_at"),
        "tb_visit": _visits(served, who, started, by_doctor, regimen, rng),
        "tb_close": _closes(served, who, started, closed, by_doctor, rng),
    }  # fmt: skip


def _notices(
    served: Served, people: pa.Table, who: np.ndarray, notice_id: pa.Array, noticed: np.ndarray, closed: np.ndarray,
    resistance: pa.Array, hospital: pa.Array,
) -> pa.Table:  # fmt: skip
    """A notice is open until the treatment ends; it comes again where that is in the daily window."""
    size = len(who)
    columns = {
        "notice_id": notice_id, "archive_id": served.archive_id(who), "name": people["name"].combine_chunks(),
        "sex_code": people["sex_code"].combine_chunks(), "birth_date": people["birth_date"].combine_chunks(),
        "id_no": people["id_no"].combine_chunks(), "phone": people["phone"].combine_chunks(),
        "noticed_at": instants(noticed), "from_org": hospital, "idr_card_id": pa.nulls(size, pa.string()),
        "dx_name": same("肺结核", size), "drug_resist_code": resistance, "org_code": served.org(who),
        "resident": pa.array(who),
    }  # fmt: skip
    done = closed <= served.history_end
    later = ~done & (closed <= served.horizon)
    known = np.where(done, closed, noticed.astype("datetime64[D]"))

    def version(rows: np.ndarray, ended: np.ndarray, on: np.ndarray) -> pa.Table:
        part = pa.table(columns).take(pa.array(rows))
        stamp = {
            "status_code": pick(["active", "ended"], ended.astype("int64")),
            "source_updated_at": instants(on.astype("datetime64[s]") + 17 * HOUR),
            "deliver_on": days(served.window.deliver_on(on)),
        }
        for name, column in stamp.items():
            part = part.append_column(name, column)
        return part

    again = np.flatnonzero(later)
    return pa.concat_tables([
        version(np.arange(size), done, known), version(again, np.full(len(again), True), closed[again]),
    ]).combine_chunks()  # fmt: skip


def _visits(
    served: Served, who: np.ndarray, started: np.ndarray, by_doctor: np.ndarray, regimen: pa.Array, rng: np.random.Generator
) -> pa.Table:  # fmt: skip
    plans = np.full((2, max(len(BY_DOCTOR), len(BY_FAMILY))), 9999)
    plans[1, : len(BY_DOCTOR)], plans[0, : len(BY_FAMILY)] = BY_DOCTOR, BY_FAMILY
    after = plans[by_doctor.astype("int64")]
    grid = started[:, None] + after
    person, step = np.nonzero((after < COURSE) & (grid <= served.horizon))
    day, since, people = grid[person, step], after[person, step], who[person]
    size = len(person)
    nothing = pa.nulls(size, pa.string())
    columns = {
        "archive_id": served.archive_id(people), "visited_on": days(day),
        "treat_month": pa.array(-(-since // 30)), "treatment_started_on": days(started[person]),
        "phase_code": pick(["intensive", "continuation"], (since > INTENSIVE).astype("int64")),
        "supervisor_code": codes(np.where(by_doctor[person], 1, 2)),
        "visit_way_code": codes(np.where(rng.random(size) < 0.6, 2, 1)), "symptoms": pick(["无症状", "咳嗽", "乏力"], step % 3),
        "regimen": regimen.take(pa.array(person)), "missed_doses": pa.array((rng.random(size) < 0.05).astype("int64")),
        "is_adverse": flags(np.zeros(size)), "adverse_text": nothing, "complications": nothing,
        "smoke_per_day": numbers(np.zeros(size)), "drink_liang_per_day": numbers(np.zeros(size)),
        "is_referred": flags(np.zeros(size)), "referral_reason": nothing, "referral_org": nothing,
        "next_visit_on": days(day + np.where(since > INTENSIVE, 28, 10)),
    }  # fmt: skip
    typed = day + span(rng, 0, 3, size)
    return numbered(columns | served.stamp(rng, people, typed), "visit_id", "FHF", "visited_on")


def _closes(
    served: Served, who: np.ndarray, started: np.ndarray, closed: np.ndarray, by_doctor: np.ndarray, rng: np.random.Generator
) -> pa.Table:  # fmt: skip
    rows = np.flatnonzero(closed <= served.horizon)
    people, size = who[rows], len(rows)
    doses = np.full(size, COURSE // 2)  # every other day, as the programme's blister packs count
    taken = doses - rng.integers(0, 4, size)
    planned = np.where(by_doctor[rows], len(BY_DOCTOR), len(BY_FAMILY))
    columns = {
        "archive_id": served.archive_id(people), "treatment_started_on": days(started[rows]),
        "stopped_on": days(started[rows] + COURSE), "stop_reason_code": codes(np.ones(size)),
        "expected_visits": pa.array(planned), "actual_visits": pa.array(planned), "expected_doses": pa.array(doses),
        "taken_doses": pa.array(taken), "adherence_ratio": numbers(taken / np.maximum(doses, 1), 3),
    }  # fmt: skip
    stamp = served.stamp(rng, people, closed[rows])
    return numbered(columns | stamp, "close_id", "FHJ", "stopped_on")
