"""What the offices of an institution keep: its staff, and the pictures and recordings that belong to records.

Both are made of the records as they are delivered, faults included: whoever signed a record is on the staff list, and
whoever examined kept the recordings. So they come last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY, days, instants, pick, to_days
from simulator.clinical.window import Window
from simulator.people.naming import name_lists
from simulator.people.text import to_arrow

#: Table -> feed.
FEED_OF = {"staff": "hr_finance", "attachment": "attachments"}
#: Result of an examination -> what its recording shows, how it is stored, and bytes of an ordinary one.
RECORDINGS = {
    "ecg_result_code": ("ecg", "application/pdf", 180_000),
    "abd_us_result_code": ("ultrasound", "image/jpeg", 420_000),
    "chest_dr_result_code": ("dr", "application/dicom", 8_400_000),
}
PROGRAMME = np.datetime64("2009-01-01")  # no card of the public-health services is older
PHOTO_DAYS = 180  # of photographs of home visits before the first daily delivery
HOME = "2"  # way of a visit

STAFF = pa.schema([
    ("staff_id", pa.string()), ("name", pa.string()), ("sex_code", pa.string()), ("dept_code", pa.string()),
    ("job_code", pa.string()), ("title_code", pa.string()), ("license_no", pa.string()), ("license_valid_until", pa.date32()),
    ("home_org_code", pa.string()), ("hired_on", pa.date32()), ("left_on", pa.date32()), ("status_code", pa.string()),
    ("source_updated_at", pa.timestamp("s")), ("org_code", pa.string()), ("deliver_on", pa.date32()),
])  # fmt: skip
ATTACHMENT = pa.schema([
    ("attachment_id", pa.string()), ("table_name", pa.string()), ("record_key", pa.string()), ("media_type", pa.string()),
    ("bytes", pa.int64()), ("file_name", pa.string()), ("kind_code", pa.string()), ("taken_at", pa.timestamp("s")),
    ("phash", pa.string()), ("org_code", pa.string()), ("deliver_on", pa.date32()), ("resident", pa.int64()),
])  # fmt: skip


def make_staff(world: Mapping[str, pa.Table], window: Window, rng: np.random.Generator) -> pa.Table:
    """``staff``: whoever signed a record of the history, at the institution of most of them; all with a licence."""
    signed = pa.concat_tables(
        t.select(["doctor_id", "org_code"]).combine_chunks()
        for _, t in sorted(world.items())
        if "doctor_id" in t.column_names and "org_code" in t.column_names
    )
    counted = signed.group_by(["doctor_id", "org_code"], use_threads=False).aggregate([([], "count_all")])
    counted = counted.filter(pc.is_valid(counted["doctor_id"]))
    counted = counted.sort_by(
        [("doctor_id", "ascending"), ("count_all", "descending"), ("org_code", "ascending")]
    )
    ids = counted["doctor_id"].to_numpy()
    first = np.r_[True, ids[1:] != ids[:-1]] if len(ids) else np.zeros(0, dtype=bool)
    person = counted.filter(pa.array(first))
    size = person.num_rows
    hired = PROGRAMME - rng.integers(200, 8000, size)
    valid = np.datetime64(window.horizon, "D") + rng.integers(60, 1500, size)
    lists, sex = name_lists(), rng.integers(1, 3, size)
    family = lists.surnames[rng.integers(0, 40, size)]
    given = np.zeros((size, lists.whole[1970, 1].shape[1]), dtype=np.uint32)
    for code in (1, 2):
        among = lists.whole[1970, code]
        given[sex == code] = among[rng.integers(0, len(among), int((sex == code).sum()))]
    org = person["org_code"].combine_chunks()
    made = pa.table({
        "staff_id": person["doctor_id"],
        "name": to_arrow(np.hstack([family, given])), "sex_code": pick(["1", "2"], sex - 1),
        "dept_code": pa.array(["0201"] * size, pa.string()),
        "job_code": pa.array(["doctor"] * size, pa.string()),
        "title_code": pick(["senior", "deputy", "middle", "junior"], rng.integers(0, 4, size)),
        "license_no": pc.binary_join_element_wise("110", person["doctor_id"].combine_chunks(), ""),
        "license_valid_until": days(valid), "home_org_code": org, "hired_on": days(hired),
        "left_on": pa.nulls(size, pa.date32()), "status_code": pa.array(["active"] * size, pa.string()),
        "source_updated_at": instants(np.full(size, np.datetime64(window.history_end, "s"))), "org_code": org,
        "deliver_on": days(np.full(size, np.datetime64(window.history_end, "D"))),
    })  # fmt: skip
    return made.cast(STAFF)


def make_attachments(exams: pa.Table, visits: pa.Table, window: Window, rng: np.random.Generator) -> pa.Table:
    """``attachment``: recordings of the examinations of the elderly, photographs of the last home visits.

    ``attachment_id`` stands for the SHA-256 of a content that exists nowhere; ``phash`` is that of a photograph.
    """
    newest = _newest(exams, "exam_id")
    elder = newest.filter(pc.fill_null(pc.equal(newest["exam_type_code"], "elder"), False))
    parts = []
    for column, (kind, media, size) in RECORDINGS.items():
        done = elder.filter(pc.is_valid(elder[column]))
        parts.append(_linked("ph_exam", "exam_id", "exam_on", done, kind, media, size, rng))
    since = pa.scalar(window.history_end, pa.date32()).as_py() - np.timedelta64(PHOTO_DAYS, "D").item()
    seen = _newest(visits, "visit_id")
    home = pc.and_(
        pc.fill_null(pc.equal(seen["visit_way_code"], HOME), False),
        pc.fill_null(pc.greater_equal(seen["visited_on"], pa.scalar(since, pa.date32())), False),
    )
    photos = _linked(
        "htn_visit", "visit_id", "visited_on", seen.filter(home), "photo", "image/jpeg", 900_000, rng
    )
    bits = rng.integers(0, 2**64 - 1, photos.num_rows, dtype="uint64")
    at = photos.schema.get_field_index("phash")
    photos = photos.set_column(at, "phash", pa.array([f"{b:016x}" for b in bits.tolist()], pa.string()))
    return pa.concat_tables([*parts, photos]).cast(ATTACHMENT)


def _newest(rows: pa.Table, key: str) -> pa.Table:
    """One row per record: the last one delivered, in the order of the keys."""
    order = pc.sort_indices(
        rows, sort_keys=[("org_code", "ascending"), (key, "ascending"), ("deliver_on", "ascending")]
    )
    rows = rows.take(order)
    if not rows.num_rows:
        return rows
    own = pc.binary_join_element_wise(rows["org_code"], rows[key], "|").to_numpy()
    return rows.filter(pa.array(np.r_[own[1:] != own[:-1], True]))


def _linked(
    table: str, key: str, day: str, rows: pa.Table, kind: str, media: str, size: int, rng: np.random.Generator
) -> pa.Table:
    count, keys = rows.num_rows, rows[key].to_pylist()
    suffix = {"application/pdf": "pdf", "image/jpeg": "jpg", "application/dicom": "dcm"}[media]
    at = to_days(rows[day]).astype(DAY).astype("datetime64[s]") + rng.integers(28800, 57600, count).astype(
        "timedelta64[s]"
    )
    orgs = rows["org_code"].to_pylist()
    # one hash per file: there is no vectorised SHA-256
    names = [
        hashlib.sha256(f"{table}|{o}|{k}|{kind}".encode()).hexdigest()
        for o, k in zip(orgs, keys, strict=True)
    ]
    return pa.table({
        "attachment_id": pa.array(names, pa.string()), "table_name": pa.array([table] * count, pa.string()),
        "record_key": rows[key], "media_type": pa.array([media] * count, pa.string()),
        "bytes": pa.array(np.round(size * rng.uniform(0.6, 1.5, count)).astype("int64")),
        "file_name": pa.array([f"{kind}_{k}.{suffix}" for k in keys], pa.string()),
        "kind_code": pa.array([kind] * count, pa.string()), "taken_at": instants(at),
        "phash": pa.nulls(count, pa.string()), "org_code": rows["org_code"], "deliver_on": rows["deliver_on"],
        "resident": rows["resident"].cast(pa.int64()),
    }).cast(ATTACHMENT)  # fmt: skip
