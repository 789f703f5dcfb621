"""Faults of PAC-001 to PAC-010."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days, instants
from simulator.faults.his_rows import Hand, earliest, hours

INSTANCE, REPORT, STUDY, SERIES = "imaging_instance", "imaging_report", "imaging_study", "imaging_series"
WAIT_DAYS = 3


def inject(hand: Hand) -> None:
    reports(hand)
    series(hand)
    missing(hand)
    empty(hand)


def _settled(hand: Hand) -> np.ndarray:
    """Reports old enough that what is missing counts as missing."""
    result: np.ndarray = hand.old(REPORT) & (hand.day(REPORT, "exam_at") < hand.end - WAIT_DAYS)
    return result


def _groups(hand: Hand, table: str) -> np.ndarray:
    result: np.ndarray = "s|" + hand.text(table, "study_instance_uid").astype(object)
    return result


def reports(hand: Hand) -> None:
    world, settled, group = hand.world, _settled(hand), _groups(hand, REPORT)
    at, told = hand.time(REPORT, "exam_at"), hand.time(REPORT, "reported_at")
    for rule, column, value in (
        ("PAC-002", "reported_at", at - hours(1)),
        ("PAC-009", "audited_at", told - hours(0.25)),
    ):
        rows = hand.pick(REPORT, rule, settled, group)
        world.put(REPORT, rows, **{column: instants(value[rows])})
        hand.note(REPORT, rows, rule, column)
    rows = hand.pick(REPORT, "PAC-008", settled, group)
    world.put(REPORT, rows, impression=None)
    hand.note(REPORT, rows, "PAC-008", "impression")
    rows = hand.pick(REPORT, "PAC-010", settled, group)
    world.put(REPORT, rows, audit_doctor_id=list(hand.text(REPORT, "report_doctor_id")[rows]))
    hand.note(REPORT, rows, "PAC-010", "audit_doctor_id")
    named = np.array([e is not None for e in hand.text(REPORT, "encounter_id").tolist()], dtype=bool)
    rows = hand.pick(REPORT, "PAC-007", settled & named, group)
    world.put(REPORT, rows, encounter_id=[f"MZX{i:08}" for i in range(len(rows))])
    hand.note(REPORT, rows, "PAC-007", "encounter_id")


def series(hand: Hand) -> None:
    """A body part that ultrasound does not see, and a scanner without a dose: in every header of the study."""
    world, group = hand.world, _groups(hand, INSTANCE)
    first = hand.old(INSTANCE) & (world.array(INSTANCE, "instance_no") == 1)
    kind = hand.text(INSTANCE, "modality_code")
    for rule, modality, values in (
        ("PAC-005", "US", {"body_part": "LSPINE"}), ("PAC-006", "CT", {"ctdi_vol_mgy": None}),
    ):  # fmt: skip
        rows = hand.pick(INSTANCE, rule, first & (kind == modality), group)
        every = np.flatnonzero(np.isin(group, group[rows]))
        world.put(INSTANCE, every, **values)
        chosen = world.tables[INSTANCE].take(pa.array(rows))
        hand.note_as(INSTANCE, SERIES, chosen["org_code"].to_pylist(), chosen["series_instance_uid"].to_pylist(),
                     chosen["deliver_on"].to_pylist(), rule, next(iter(values)))  # fmt: skip


def missing(hand: Hand) -> None:
    """Studies whose report was never written, and reports whose study is not in the archive."""
    world, group = hand.world, _groups(hand, REPORT)
    at = hand.time(REPORT, "exam_at")
    # The first examination of all tells since when reports come; it keeps its own.
    later = _settled(hand) & (at > earliest(at))
    rows = hand.pick(REPORT, "PAC-003", later, group)
    uids = hand.text(REPORT, "study_instance_uid")[rows]
    world.drop(INSTANCE, np.flatnonzero(np.isin(hand.text(INSTANCE, "study_instance_uid"), uids)))
    hand.note(REPORT, rows, "PAC-003", "study_instance_uid")
    rows = hand.pick(REPORT, "PAC-001", later, group)
    chosen = world.tables[REPORT].take(pa.array(rows))
    hand.note_as(REPORT, STUDY, chosen["org_code"].to_pylist(), chosen["study_instance_uid"].to_pylist(),
                 chosen["deliver_on"].to_pylist(), "PAC-001", "study_instance_uid")  # fmt: skip
    world.drop(REPORT, rows)


def empty(hand: Hand) -> None:
    """Studies that the archive lists with no image in them."""
    world = hand.world
    count = int(world.rates["hospital_least"])
    orgs = sorted(set(world.tables[INSTANCE]["org_code"].to_pylist()))[:1] * count
    if not orgs:
        return
    at = hand.history_end.astype("datetime64[s]") - np.arange(1, count + 1) * hours(30)
    added = world.add(STUDY, pa.table({
        "study_instance_uid": [f"1.2.826.0.1.3680043.10.1777.8.{i + 1}" for i in range(count)],
        "accession_no": [f"DX9{i:07}" for i in range(count)], "patient_local_id": [f"{orgs[0]}-0000001"] * count,
        "study_at": instants(at), "modalities": ["DX"] * count, "series_count": pa.array([1] * count, pa.int64()),
        "instance_count": pa.array([0] * count, pa.int64()), "source_updated_at": instants(at), "org_code": orgs,
        "deliver_on": days(np.full(count, hand.history_end)),
    }))  # fmt: skip
    hand.note(STUDY, added, "PAC-004", "instance_count")


def note_natural(hand: Hand) -> None:
    """Log the reports of strangers: patients whom only the archive knows have no encounter."""
    alone = np.array([e is None for e in hand.text(REPORT, "encounter_id").tolist()], dtype=bool)
    settled = hand.known(REPORT) & (hand.day(REPORT, "exam_at") < hand.end - WAIT_DAYS)
    hand.note(REPORT, np.flatnonzero(alone & settled), "PAC-007", "encounter_id", "natural")
