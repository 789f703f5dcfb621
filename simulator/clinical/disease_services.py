"""Programmes for single diseases in one call: mental disorders, tuberculosis, COPD, notifiable diseases.

Every step draws from a stream of its own, so the city's other tables are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from simulator.clinical import audit_events, chronic_table, copd, infectious, mental, tuberculosis
from simulator.clinical.archive import Archives
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import codes, stream, to_days
from simulator.clinical.served import Served
from simulator.clinical.window import Window

TABLES = (
    "smi_card", "smi_visit", "tb_notice", "tb_first_visit", "tb_visit", "tb_close", "idr_card", "copd_screen", "copd_card",
    "copd_visit", "chronic_one_table", "ph_archive_disease",
)  # fmt: skip


def with_fundus(exams: pa.Table, cohort: Cohort, seed: int) -> pa.Table:
    """The examinations with what was seen of the eye of people known to be diabetic."""
    rng, who = stream(seed, "diseases", "fundus"), exams["resident"].to_numpy()
    known = cohort.dm_on[who] <= to_days(exams["exam_on"])
    changed = codes(1 + (rng.random(len(who)) < 0.12), ~known)
    return exams.add_column(exams.schema.get_field_index("ecg_result_code"), "fundus_result_code", changed)


def make_disease_services(
    city: Any, hospital_of: dict[str, str], archives: Archives, cohort: Cohort, world: Mapping[str, pa.Table],
    window: Window, rates: Mapping[str, Any], seed: int,
) -> dict[str, pa.Table]:  # fmt: skip
    """The twelve tables, and ``ph_exam`` with the eyes of diabetics.

    ``world``: tables that are there already; ``rates``: profile section ``clinical``."""
    seen = with_fundus(world["ph_exam"], cohort, seed)
    served, shares = Served.of(archives, cohort, window), rates["programmes"]
    residents, exams = city.residents, world["ph_exam"]
    names = residents["name"].combine_chunks()
    out = mental.make_mental(served, names, exams, hospital_of, shares, stream(seed, "diseases", "mental"))
    lungs = tuberculosis.make_tuberculosis(
        served, residents, hospital_of, shares, stream(seed, "diseases", "tuberculosis")
    )
    cases = lungs.pop("cases")
    cards = infectious.make_infectious(
        served, residents, world, cases, shares, stream(seed, "diseases", "infectious")
    )
    out |= lungs | {"idr_card": cards, "tb_notice": infectious.notice_cards(lungs["tb_notice"], cards)}
    out |= copd.make_copd(served, exams, hospital_of, shares, stream(seed, "diseases", "copd"))
    out["ph_archive_disease"] = chronic_table.make_diseases(
        served, world, stream(seed, "diseases", "archive")
    )
    out["chronic_one_table"] = chronic_table.make_one_table(
        served, {**world, **out}, stream(seed, "diseases", "one_table")
    )
    out["audit_event"] = audit_events.make_audit_events(
        out["smi_visit"], window, stream(seed, "diseases", "audit")
    )
    return out | {"ph_exam": seen}
