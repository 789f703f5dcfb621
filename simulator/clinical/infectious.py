"""Report cards of notifiable diseases (传染病报告卡): from diagnoses, from the tuberculosis programme, from the community."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import NO_DAY, age_on, codes, days, instants, pick, serial_ids
from simulator.clinical.served import Served, same

# ICD-10 prefix of a diagnosis -> code and name of the notifiable disease (国家法定传染病; the city's clinics see these)
DIAGNOSED = {"A09": ("3900", "其他感染性腹泻病", "A09.900")}
AGAIN_AFTER = 30  # days within which a second card of the same person and disease would be the same case
# disease, name, ICD-10, from age, to age: what centres report of their own residents
SPORADIC = (
    ("4000", "手足口病", "B08.401", 1, 5), ("1400", "猩红热", "A38.x00", 4, 12), ("3600", "流行性腮腺炎", "B26.900", 4, 16),
    ("3500", "流行性感冒", "J10.101", 3, 80), ("0302", "乙型肝炎", "B18.102", 20, 70), ("0800", "梅毒", "A53.900", 20, 65),
)  # fmt: skip
HOUR = np.timedelta64(3600, "s")
KIN = ("建国", "秀英", "玉兰", "志强", "丽华")


def make_infectious(
    served: Served, residents: pa.Table, world: Mapping[str, pa.Table], cases: pa.Table, rates: Mapping[str, float],
    rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    """``idr_card``. ``world`` has diagnoses and encounters; ``cases``: residents with tuberculosis and when it was found."""
    seen = _diagnosed(world)
    local = _sporadic(served, rates, rng)
    parts = [
        seen,
        {"who": cases["resident"].to_numpy(), "at": cases["at"].to_numpy().astype("datetime64[s]"),
         "code": np.full(cases.num_rows, "2600"), "name": np.full(cases.num_rows, "肺结核"),
         "icd": np.full(cases.num_rows, "A16.200")},
        local,
    ]  # fmt: skip
    who = np.concatenate([p["who"] for p in parts]).astype("int64")
    at = np.concatenate([p["at"] for p in parts]).astype("datetime64[s]")
    size, first = len(who), len(seen["who"])
    code, name, icd = (np.concatenate([p[k] for p in parts]).astype(str) for k in ("code", "name", "icd"))
    own = pa.array([c.as_py() for c in served.org(who[first:])], pa.string())
    org = pa.concat_arrays([pa.array(seen["org"], pa.string()), own])
    empty = [None] * (size - first)
    columns = {
        "archive_id": served.archive_id(who, ~(served.opened[who] < at.astype("datetime64[D]"))),
        "patient_local_id": pa.array([*seen["local"], *empty], pa.string()),
        "encounter_id": pa.array([*seen["encounter"], *empty], pa.string()),
        "disease_code": pa.array(code), "idr_disease_name": pa.array(name), "disease_icd10_code": pa.array(icd),
    }  # fmt: skip
    doctor = pa.concat_arrays([pa.array(seen["doctor"], pa.string()), served.doctor(who[first:])])
    table = _card(served, residents, who, at, code, columns, org, doctor, rng)
    return _with_corrections(served, table, np.arange(size) >= first, rng)


def _diagnosed(world: Mapping[str, pa.Table]) -> dict[str, np.ndarray]:
    """Cases that the diagnoses of encounters name, one per person and month."""
    diagnosis, encounter = world["diagnosis"], world["encounter"]
    prefix = pc.utf8_slice_codeunits(diagnosis["icd10_code"], 0, 3)
    rows = diagnosis.filter(pc.is_in(prefix, pa.array(list(DIAGNOSED))))
    key = pc.binary_join_element_wise(rows["org_code"], rows["encounter_id"], "|").combine_chunks()
    every = pc.binary_join_element_wise(
        encounter["org_code"], encounter["encounter_id"], "|"
    ).combine_chunks()
    local = encounter["patient_local_id"].combine_chunks().take(pc.index_in(key, every))
    who, at = rows["resident"].to_numpy(), rows["dx_at"].to_numpy().astype("datetime64[s]")
    order = np.lexsort((at, who))
    gap = np.diff(at[order].astype("datetime64[D]").astype("int64"), prepend=0)
    again = np.r_[False, who[order][1:] == who[order][:-1]][: len(order)] & (gap <= AGAIN_AFTER)
    take = np.sort(order[~again])
    found = [DIAGNOSED[p] for p in prefix.filter(pc.is_in(prefix, pa.array(list(DIAGNOSED)))).to_pylist()]

    def text(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
        return np.asarray(values.to_pylist(), dtype=object)[take]

    disease = np.array(found, dtype=object).reshape(-1, 3)[take]
    return {
        "who": who[take], "at": at[take], "org": text(rows["org_code"]), "doctor": text(rows["doctor_id"]),
        "encounter": text(rows["encounter_id"]), "local": text(local), "code": disease[:, 0], "name": disease[:, 1],
        "icd": disease[:, 2],
    }  # fmt: skip


def _sporadic(served: Served, rates: Mapping[str, float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """At most one case per resident; its disease by age on the day."""
    drawn = np.flatnonzero((rng.random(len(served.birth)) < rates["sporadic"]) & (served.archive >= 0))
    length = (served.horizon - 3 - served.begin).astype("int64")
    day = served.begin + (rng.random(len(drawn)) * length).astype("int64").astype("timedelta64[D]")
    death, opened = served.cohort.death[drawn], served.opened[drawn]
    age = age_on(served.cohort.birth[drawn], day)
    low, high = (np.array([d[i] for d in SPORADIC]) for i in (3, 4))
    fits = (age[:, None] >= low) & (age[:, None] <= high)
    chosen = (
        np.where(fits, rng.random(fits.shape), -1.0).argmax(axis=1)
        if len(drawn)
        else np.zeros(0, dtype="int64")
    )
    keep = fits.any(axis=1) & (day > opened) & (np.isnat(death) | (day < death - 20))
    names = np.array([d[:3] for d in SPORADIC], dtype=object)[chosen[keep]].reshape(-1, 3)
    at = day[keep].astype("datetime64[s]") + rng.integers(9 * 60, 16 * 60, int(keep.sum())) * np.timedelta64(
        60, "s"
    )
    return {"who": drawn[keep], "at": at, "code": names[:, 0], "name": names[:, 1], "icd": names[:, 2]}


def _population(age: np.ndarray, who: np.ndarray) -> np.ndarray:
    """人群分类 by age, as the card's instructions group people."""
    names = np.array(["home_child", "nursery", "student", "farmer", "worker", "commerce", "retired"])
    at = np.select([age < 3, age < 7, age < 18, age < 60], [0, 1, 2, 3 + who % 3], 6)
    return names[at]


def _card(
    served: Served, residents: pa.Table, who: np.ndarray, at: np.ndarray, code: np.ndarray, columns: dict[str, pa.Array],
    org: pa.Array, doctor: pa.Array, rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    size, day = len(who), at.astype("datetime64[D]")
    age = age_on(served.cohort.birth[who], day)
    people = residents.take(pa.array(who))
    group = _population(age, who)
    learns = np.isin(group, ("nursery", "student"))
    surname = pc.utf8_slice_codeunits(people["name"].combine_chunks(), 0, 1)
    filled = at + rng.integers(10, 50, size) * np.timedelta64(60, "s")
    netted = filled + rng.integers(60, 12 * 60, size) * np.timedelta64(60, "s")
    is_tb, is_hbv = code == "2600", code == "0302"
    return pa.table({
        "card_category_code": same("1", size), "original_card_id": pa.nulls(size, pa.string()), **columns,
        "name": people["name"].combine_chunks(),
        "parent_name": pc.if_else(pa.array(age <= 14), pc.binary_join_element_wise(surname, pick(KIN, who % len(KIN)), ""), None),
        "sex_code": people["sex_code"].combine_chunks(), "birth_date": days(served.cohort.birth[who]),
        "id_no": people["id_no"].combine_chunks(), "phone": people["phone"].combine_chunks(),
        "school_name": pc.if_else(pa.array(learns), pick(["实验幼儿园", "中心小学"], (group == "student").astype("int64")), None),
        "class_name": pc.if_else(pa.array(learns), pick(["一班", "二班", "三班"], who % 3), None),
        "population_code": pa.array(group), "addr_belong_code": same("1", size),
        "addr_region_code": people["region_code"].combine_chunks(), "addr_detail": people["addr_detail"].combine_chunks(),
        "case_class_code": codes(np.where(is_tb | (who % 2 == 0), 2, 1)),
        "acute_class_code": codes(np.where(is_hbv, 2, 0), ~is_hbv), "tb_class_code": pick(["2606"], np.where(is_tb, 0, -1)),
        "onset_on": days(day - rng.integers(0, 4, size) - np.where(is_tb, 20, 0)), "diagnosed_at": instants(at),
        "died_on": days(np.full(size, NO_DAY)), "filled_at": instants(filled), "doctor_id": doctor,
        "net_reported_at": instants(netted), "audit_status_code": same("1", size), "report_status_code": same("1", size),
        "source_updated_at": instants(netted), "org_code": org,
        "deliver_on": days(served.window.deliver_on(netted.astype("datetime64[D]"))), "resident": pa.array(who),
    })  # fmt: skip


def _with_corrections(served: Served, table: pa.Table, may: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Ids by delivery; some cases of the community were suspected first and corrected five days later."""
    table = table.append_column("_may", pa.array(may & (rng.random(table.num_rows) < 0.3)))
    table = table.sort_by(
        [("deliver_on", "ascending"), ("diagnosed_at", "ascending"), ("resident", "ascending")]
    )
    table = table.add_column(
        0, "card_id", serial_ids("CRB", np.arange(1, table.num_rows + 1), 8)
    ).combine_chunks()
    at = table["diagnosed_at"].to_numpy()
    early = at.astype("datetime64[D]") + 6 <= served.horizon
    chosen = table["_may"].to_numpy() & early & ~np.isin(table["disease_code"].to_numpy(), ("2600", "0302"))
    again = table.filter(pa.array(chosen))
    first = pc.if_else(pa.array(chosen), "3", table["case_class_code"].combine_chunks())
    table = table.set_column(table.schema.get_field_index("case_class_code"), "case_class_code", first)
    ids = again["card_id"].combine_chunks()
    later = again["diagnosed_at"].to_numpy().astype("datetime64[s]") + 5 * 24 * HOUR
    known = later.astype("datetime64[D]")
    new = {
        "card_id": pc.binary_join_element_wise(ids, "D", ""), "original_card_id": ids, "card_category_code": same("2", len(ids)),
        "case_class_code": same("2", len(ids)), "diagnosed_at": instants(later), "filled_at": instants(later + HOUR),
        "net_reported_at": instants(later + 2 * HOUR), "source_updated_at": instants(later + 2 * HOUR),
        "deliver_on": days(served.window.deliver_on(known)),
    }  # fmt: skip
    for name, column in new.items():
        again = again.set_column(
            again.schema.get_field_index(name), name, column.cast(again.schema.field(name).type)
        )
    return pa.concat_tables([table, again]).drop_columns(["_may"]).combine_chunks()


def notice_cards(notices: pa.Table, cards: pa.Table) -> pa.Table:
    """The tuberculosis notices with the report card that each came from."""
    found = cards.filter(pc.equal(cards["disease_code"], "2600"))
    at = pc.index_in(notices["resident"].combine_chunks(), found["resident"].combine_chunks())
    ids = found["card_id"].combine_chunks().take(at)
    return notices.set_column(notices.schema.get_field_index("idr_card_id"), "idr_card_id", ids)
