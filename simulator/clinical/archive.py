"""Health archives (居民健康档案) as the county platform holds them, and deaths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import NO_DAY, days, flags, instants, pick, serial_ids, stream, to_days, weighted
from simulator.clinical.registers import current_and_later, residents_of
from simulator.clinical.window import Window

ALLERGIES = ["无", "青霉素", "磺胺", "链霉素", "头孢类", "青霉素、磺胺"]
ALLERGY_WEIGHTS = np.array([0.92, 0.04, 0.015, 0.008, 0.01, 0.007])
FAMILY = ["无", "高血压", "糖尿病", "冠心病", "脑卒中", "高血压、糖尿病"]
FAMILY_WEIGHTS = np.array([0.62, 0.18, 0.08, 0.05, 0.04, 0.03])
DISABILITY = ["无", "肢体残疾", "听力残疾", "视力残疾"]
DISABILITY_WEIGHTS = np.array([0.955, 0.025, 0.012, 0.008])
DEATH_CAUSES = [
    "I21.900",
    "I63.900",
    "I61.900",
    "C34.900",
    "J44.900",
    "I50.900",
    "C16.900",
    "E11.900",
    "J18.900",
    "W19.x00",
]
DEATH_WEIGHTS = np.array([0.17, 0.16, 0.1, 0.14, 0.12, 0.09, 0.07, 0.04, 0.07, 0.04])


GIVEN_AGAIN = (
    "name",
    "id_type_code",
    "id_no",
    "phone",
    "contact_name",
    "contact_phone",
    "addr_region_code",
    "addr_detail",
)


@dataclass(frozen=True)
class Archives:
    """The archive rows and, per resident, the one archive that services are written to (-1: none)."""

    table: pa.Table
    of_resident: np.ndarray
    archive_id: pa.Array
    org_code: pa.Array
    birth: np.ndarray
    opened: np.ndarray


def _both(texts: list[pa.Array]) -> pa.Array:
    """The two texts joined with 、, the one that there is, or null."""
    return pc.coalesce(pc.binary_join_element_wise(*texts, "、"), *texts)


def past_diseases(
    cohort: Cohort, who: np.ndarray, known_by: np.datetime64
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """`past_disease`, `past_disease_on` (joined with 、) and the last day of diagnosis (NaT: none known)."""
    names, dates, last = [], [], np.full(len(who), NO_DAY)
    for label, on in (("高血压", cohort.htn_on[who]), ("糖尿病", cohort.dm_on[who])):
        on = np.where(on <= known_by, on, NO_DAY)
        names.append(pick([label], np.where(np.isnat(on), -1, 0)))
        dates.append(days(on).cast(pa.string()))
        last = np.fmax(last, on)
    diseases, diagnosed = _both(names), _both(dates)
    return pc.fill_null(diseases, "无"), diagnosed, last


def make_archives(city: Any, cohort: Cohort, window: Window, rates: Mapping[str, Any], seed: int) -> Archives:
    """`rates`: the `clinical` section. A row per archive, and one more where it is closed in the daily window."""
    rng = stream(seed, "archive")
    reg, later = current_and_later(city, window, "public_health")
    who = residents_of(reg, city).to_numpy()
    size = len(who)
    is_copy = reg["is_duplicate_archive"].combine_chunks().to_numpy(zero_copy_only=False)
    opened = to_days(reg["registered_on"])
    updated = to_days(reg["source_updated_at"].cast(pa.timestamp("s")).cast(pa.date32()))
    history_end = np.datetime64(window.history_end)

    disease, disease_on, last_dx = past_diseases(cohort, who, history_end)
    updated = np.where(np.isnat(last_dx) | (last_dx <= updated), updated, last_dx)
    updated = np.maximum(updated, opened)

    death = cohort.death[who]
    forgets = rng.random(size) < np.where(is_copy, rates["open_copy_of_dead"], rates["open_archive_of_dead"])
    closed = np.where(
        np.isnat(death) | forgets, NO_DAY, death + rng.integers(2, 21, size).astype("timedelta64[D]")
    )
    closed = np.where(~np.isnat(closed), np.maximum(closed, opened), closed)
    base_closed = ~np.isnat(closed) & (closed <= np.maximum(history_end, opened))
    later_closed = ~np.isnat(closed) & ~base_closed & (closed <= np.datetime64(window.horizon))
    updated = np.where(
        base_closed, np.maximum(closed, updated), np.where(later_closed, np.minimum(updated, closed), updated)
    )
    seconds = rng.integers(8 * 3600, 17 * 3600, size).astype("timedelta64[s]")

    resident = city.residents.take(pa.array(who))
    hukou = pc.utf8_slice_codeunits(resident["hukou_region_code"], 0, 6)
    local = pc.equal(hukou, pc.utf8_slice_codeunits(resident["region_code"], 0, 6))
    station = pc.utf8_slice_codeunits(resident["station_code"], -2, None)
    table = pa.table({
        "archive_id": reg["local_id"], "archive_no": reg["archive_no"], "name": reg["name"],
        "sex_code": reg["sex_code"], "birth_date": reg["birth_date"], "id_type_code": reg["id_type_code"],
        "id_no": reg["id_no"], "phone": reg["phone"], "contact_name": reg["contact_name"],
        "contact_phone": reg["contact_phone"], "addr_region_code": reg["addr_region_code"],
        "addr_detail": reg["addr_detail"], "hukou_region_code": reg["hukou_region_code"],
        "resident_type_code": pc.if_else(local, "1", "2"), "ethnicity_code": reg["ethnicity_code"],
        "blood_abo_code": resident["blood_abo_code"], "blood_rh_code": resident["blood_rh_code"],
        "education_code": reg["education_code"], "occupation_code": reg["occupation_code"],
        "marital_code": reg["marital_code"],
        "pay_type_code": pick(["1", "2", "3", "7"], weighted(rng, np.array([0.3, 0.25, 0.42, 0.03]), size)),
        "drug_allergy": pick(ALLERGIES, weighted(rng, ALLERGY_WEIGHTS, size)),
        "past_disease": disease, "past_disease_on": disease_on,
        "family_history": pick(FAMILY, weighted(rng, FAMILY_WEIGHTS, size)),
        "disability": pick(DISABILITY, weighted(rng, DISABILITY_WEIGHTS, size)),
        "status_code": pick(["0", "1"], base_closed.astype("int64")),
        "is_dead": flags(base_closed), "death_date": days(np.where(base_closed, death, NO_DAY)),
        "created_on": days(opened),
        "doctor_id": pc.binary_join_element_wise(reg["org_code"], "G", station, ""),
        "source_updated_at": instants(updated.astype("datetime64[s]") + seconds),
        "org_code": reg["org_code"], "deliver_on": days(window.deliver_on(updated)), "resident": who,
    })  # fmt: skip
    changes = _changes(table, later, later_closed, window)
    table = pa.concat_tables([table, _closings(table, later_closed, closed, death, window), changes])
    of_resident = np.full(len(cohort), -1, dtype="int64")
    primary = np.flatnonzero(~is_copy)[::-1]
    of_resident[who[primary]] = primary
    return Archives(
        table, of_resident, table["archive_id"].combine_chunks()[:size], table["org_code"].combine_chunks()[:size],
        np.where(np.isnat(to_days(reg["birth_date"])), cohort.birth[who], to_days(reg["birth_date"])), opened,
    )  # fmt: skip


def _closings(
    table: pa.Table, which: np.ndarray, closed: np.ndarray, death: np.ndarray, window: Window
) -> pa.Table:
    """The same archives again, closed for death, in the delivery of the closing day."""
    rows = table.filter(pa.array(which))
    new = {
        "status_code": pa.array(["1"] * rows.num_rows, pa.string()),
        "is_dead": flags(np.ones(rows.num_rows)),
        "death_date": days(death[which]),
        "source_updated_at": instants(closed[which].astype("datetime64[s]") + np.timedelta64(17, "h")),
        "deliver_on": days(window.deliver_on(closed[which])),
    }
    for name, column in new.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows.cast(table.schema)


def _changes(table: pa.Table, later: pa.Table, being_closed: np.ndarray, window: Window) -> pa.Table:
    """Archives whose owner gave another telephone, name or address after the history, unless closed just then."""
    open_ids = table["archive_id"].filter(pa.array(~being_closed))
    later = later.filter(pc.is_in(later["local_id"], open_ids.combine_chunks()))
    rows = table.take(pc.index_in(later["local_id"], table["archive_id"].combine_chunks()))
    day = to_days(later["source_updated_at"].cast(pa.date32()))
    new: dict[str, Any] = {name: later[name] for name in GIVEN_AGAIN}
    new |= {
        "source_updated_at": later["source_updated_at"].cast(pa.timestamp("s")),
        "deliver_on": days(window.deliver_on(day)),
    }
    for name, column in new.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows.cast(table.schema)


def make_deaths(city: Any, cohort: Cohort, window: Window, seed: int) -> pa.Table:
    """The death registry: every death in the window, written by the resident's centre 1 to 7 days later."""
    rng = stream(seed, "death")
    who = np.flatnonzero(~np.isnat(cohort.death) & (cohort.death <= np.datetime64(window.horizon)))
    known = cohort.death[who] + rng.integers(1, 8, len(who)).astype("timedelta64[D]")
    order = np.lexsort((who, known))
    who, known = who[order], known[order]
    resident = city.residents.take(pa.array(who))
    return pa.table({
        "death_id": serial_ids("SW", np.arange(1, len(who) + 1), 7),
        "name": resident["name"], "sex_code": resident["sex_code"], "birth_date": resident["birth_date"],
        "id_no": resident["id_no"], "died_on": days(cohort.death[who]),
        "underlying_icd10_code": pick(DEATH_CAUSES, weighted(rng, DEATH_WEIGHTS, len(who))),
        "org_code": resident["centre_code"], "deliver_on": days(window.deliver_on(known)), "resident": who,
    })  # fmt: skip
