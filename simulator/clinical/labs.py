"""Laboratory reports and results: ordered in encounters, and with examinations at the regional laboratory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.catalogue import catalogue
from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import DAY, days, instants, pick, serial_ids, stream, to_days
from simulator.clinical.encounters import Encounters
from simulator.clinical.exams import LAB_COLUMNS
from simulator.clinical.patients import Patients, stray_days
from simulator.clinical.physiology import Physiology, laboratory
from simulator.clinical.window import Window

EXAM_PANEL = "P20"
REGIONAL_LABORATORY = "H001"


@dataclass(frozen=True)
class _Orders:
    """One entry per report; `exam` is the examination row or -1, `encounter` the encounter or -1."""

    patient: np.ndarray
    who: np.ndarray
    panel: np.ndarray
    collected: np.ndarray
    encounter: np.ndarray
    exam: np.ndarray


def _encounter_orders(rng: np.random.Generator, enc: Encounters, rates: Mapping[str, Any]) -> _Orders:
    cat, codes = catalogue(), list(laboratory()["panels"])
    table = np.full((len(cat.icd10), 3), -1)
    for i, names in enumerate(cat.panels):
        table[i, : len(names)] = [codes.index(name) for name in names[:3]]
    size = len(enc.who)
    share = np.select([enc.klass == 0, enc.klass == 1], [rates["lab_share"], 0.6], 0.95)
    has_any = (table[enc.condition, 0] >= 0) & (rng.random(size) < share)
    rows = [np.flatnonzero(has_any)]
    panels = [table[enc.condition[rows[0]], 0]]
    for column, extra in ((1, 0.25), (2, 0.15)):
        more = np.flatnonzero(
            has_any
            & (table[enc.condition, column] >= 0)
            & (rng.random(size) < np.where(enc.klass == 2, 0.8, extra))
        )
        rows.append(more)
        panels.append(table[enc.condition[more], column])
    row = np.concatenate(rows)
    wait = rng.integers(600, 5400, len(row)).astype("timedelta64[s]")
    return _Orders(
        enc.patient[row],
        enc.who[row],
        np.concatenate(panels),
        enc.start[row] + wait,
        row,
        np.full(len(row), -1),
    )


def _exam_orders(rng: np.random.Generator, exams: pa.Table, patients: Patients, window: Window) -> _Orders:
    """Elderly examinations of the last year whose person is registered at the examining centre."""
    who, day = exams["resident"].to_numpy(), to_days(exams["exam_on"])
    org = np.asarray(exams["org_code"].to_pylist(), dtype=object)
    elder = pc.equal(exams["exam_type_code"], "elder").to_numpy(zero_copy_only=False)
    patient = np.minimum(patients.first[who], len(patients.org) - 1)
    here = (patients.count[who] > 0) & (patients.org[patient] == org) & (patients.since[patient] <= day)
    row = np.flatnonzero(elder & here & (day > np.datetime64(window.history_end) - 365))
    at = day[row].astype("datetime64[s]") + rng.integers(7 * 3600, 10 * 3600, len(row)).astype(
        "timedelta64[s]"
    )
    panel = np.full(len(row), list(laboratory()["panels"]).index(EXAM_PANEL))
    return _Orders(patient[row], who[row], panel, at, np.full(len(row), -1), row)


def _stray_orders(
    rng: np.random.Generator, strays: Patients, offset: int, cohort: Cohort, window: Window
) -> _Orders:
    """One report for each patient whom only the laboratory knows: specimens that came without a registration."""
    day = stray_days(rng, strays, cohort, np.datetime64(window.history_start), np.datetime64(window.horizon))
    row = np.flatnonzero(~np.isnat(day))
    at = day[row].astype("datetime64[s]") + rng.integers(8 * 3600, 16 * 3600, len(row)).astype(
        "timedelta64[s]"
    )
    none = np.full(len(row), -1)
    return _Orders(row + offset, strays.resident[row], rng.integers(0, 3, len(row)), at, none, none)


def make_labs(
    enc: Encounters, exams: pa.Table, patients: Patients, strays: Patients, cohort: Cohort, body: Physiology, window: Window,
    rates: Mapping[str, Any], seed: int,
) -> tuple[pa.Table, pa.Table]:  # fmt: skip
    """`lab_report` (with the patient's registration data, which the message carries) and `lab_result`."""
    rng = stream(seed, "lab")
    parts = [
        _encounter_orders(rng, enc, rates), _exam_orders(rng, exams, patients, window),
        _stray_orders(rng, strays, len(patients), cohort, window),
    ]  # fmt: skip
    patients = patients.plus(strays)
    o = _Orders(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Orders.__dataclass_fields__))
    level, org = patients.level[o.patient], patients.org[o.patient]
    regional = level == 1
    tester = np.where(regional, REGIONAL_LABORATORY, org)
    received = o.collected + np.where(
        regional, rng.integers(3600, 14400, len(org)), rng.integers(300, 1800, len(org))
    ).astype("timedelta64[s]")
    reported = received + rng.integers(1800, 14400, len(org)).astype("timedelta64[s]")
    order = np.lexsort((np.arange(len(org)), reported, tester.astype(str)))
    o = _Orders(*(getattr(o, name)[order] for name in _Orders.__dataclass_fields__))
    org, tester, received, reported = org[order], tester[order], received[order], reported[order]
    starts = np.flatnonzero(np.r_[True, tester[1:] != tester[:-1]])
    serial = np.arange(len(org)) - np.repeat(starts, np.diff(np.r_[starts, len(org)])) + 1
    report_id = serial_ids(
        pc.binary_join_element_wise("L", pa.array(tester.tolist(), pa.string()), ""), serial, 8
    )
    panels = laboratory()["panels"]
    reg = patients.table.take(pa.array(o.patient))
    deliver = window.deliver_on(reported)
    report = pa.table({
        "report_id": report_id, "order_id": pc.binary_join_element_wise("A", report_id, ""),
        "message_control_id": pc.binary_join_element_wise("M", report_id, ""),
        "requesting_org_code": pa.array(org.tolist(), pa.string()), "patient_local_id": reg["local_id"],
        "name": reg["name"], "sex_code": reg["sex_code"], "birth_date": reg["birth_date"], "id_no": reg["id_no"],
        "phone": reg["phone"],
        "encounter_id": enc.encounter_id.take(pa.array(o.encounter, mask=o.encounter < 0)),
        "panel_code": pick(list(panels), o.panel), "panel_name": pick([p["name"] for p in panels.values()], o.panel),
        "collected_at": instants(o.collected), "received_at_lab": instants(received), "reported_at": instants(reported),
        "status_code": pick(["F", "C"], (rng.random(len(org)) < 0.004).astype("int64")),
        "org_code": pa.array(tester.tolist(), pa.string()), "deliver_on": days(deliver), "resident": pa.array(o.who),
    })  # fmt: skip
    result = _results(rng, o, exams, enc, cohort, body, report_id, reported)
    for name in ("org_code", "deliver_on", "resident"):
        result = result.append_column(name, report[name].take(result["_report"]))
    return report, result.drop_columns(["_report"])


def _results(
    rng: np.random.Generator, o: _Orders, exams: pa.Table, enc: Encounters, cohort: Cohort, body: Physiology,
    report_id: pa.Array, reported: np.ndarray,
) -> pa.Table:  # fmt: skip
    """A row per item, item by item (each item is one vector), then put in report order."""
    lab = laboratory()
    item_codes = list(lab["items"])
    exam_column = {item: column for column, (item, _) in LAB_COLUMNS.items()}
    infected = np.where(o.encounter >= 0, catalogue().infected[enc.condition[o.encounter]], False)
    pieces: list[dict[str, np.ndarray]] = []
    for number, code in enumerate(item_codes):
        place = np.array(
            [p["items"].index(code) if code in p["items"] else -1 for p in lab["panels"].values()]
        )[o.panel]
        rows = np.flatnonzero(place >= 0)
        item = lab["items"][code]
        if "text" in item:
            positive = rng.random(len(rows)) < np.where(cohort.has_ckd[o.who[rows]], 5, 1) * item["text"]
            text = np.where(positive, "阳性(+)", "阴性(-)").astype(object)
            flag = np.where(positive, "A", "N").astype(object)
        else:
            value = body.values(code, o.who[rows], o.collected[rows].astype(DAY), rng, infected[rows])
            value = _shock(rng, item, value)
            exam = o.exam[rows]
            if code in exam_column:
                of_exam = exams[exam_column[code]].to_numpy(zero_copy_only=False)[exam]
                value = np.where((exam >= 0) & ~np.isnan(of_exam), of_exam, value)
            text, flag = _written(item, value, cohort.sex[o.who[rows]])
        pieces.append(
            {
                "report": rows,
                "place": place[rows],
                "item": np.full(len(rows), number),
                "text": text,
                "flag": flag,
            }
        )
    report = np.concatenate([p["report"] for p in pieces])
    place = np.concatenate([p["place"] for p in pieces])
    order = np.lexsort((place, report))
    report, place = report[order], place[order]
    item = np.concatenate([p["item"] for p in pieces])[order]
    sex = (cohort.sex[o.who[report]] == 2).astype("int64")
    items = [lab["items"][code] for code in item_codes]
    ranges = [_range_text(i, s) for i in items for s in (0, 1)]
    return pa.table({
        "report_id": report_id.take(pa.array(report)), "seq": pa.array(place + 1), "item_code": pick(item_codes, item),
        "item_name": pick([i["name"] for i in items], item), "loinc_code": pick([i["loinc"] for i in items], item),
        "value_type": pick(["ST" if "text" in i else "NM" for i in items], item),
        "value_text": pa.array(np.concatenate([p["text"] for p in pieces])[order].tolist(), pa.string()),
        "unit": pick([i["unit"] for i in items], item), "ref_range_text": pick(ranges, item * 2 + sex),
        "abnormal_flag": pa.array(np.concatenate([p["flag"] for p in pieces])[order].tolist(), pa.string()),
        "status_code": pick(["F"], np.zeros(len(report), dtype="int64")),
        "observed_at": instants(reported[report] - np.timedelta64(600, "s")), "_report": pa.array(report),
    })  # fmt: skip


def _shock(rng: np.random.Generator, item: dict[str, Any], value: np.ndarray) -> np.ndarray:
    """A few values beyond the critical limits: what the fast lane must find."""
    low, high = item.get("critical", [None, None])
    draw = rng.random(len(value))
    if low is not None:
        value = np.where(draw < 0.004, low * rng.uniform(0.75, 0.99, len(value)), value)
    if high is not None:
        value = np.where(draw > 0.996, high * rng.uniform(1.01, 1.25, len(value)), value)
    rounded: np.ndarray = np.round(value, item["decimals"])
    return rounded


def _written(item: dict[str, Any], value: np.ndarray, sex: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Result text (with `<` below the detection limit) and HL7 table 0078 flag."""
    female = (sex == 2).astype("int64")
    limit = np.array([[np.nan if x is None else float(x) for x in pair] for pair in item["ref"]])
    crit = [np.nan if x is None else float(x) for x in item.get("critical", [None, None])]
    with np.errstate(invalid="ignore"):
        flag = np.select(
            [value <= crit[0], value >= crit[1], value < limit[female, 0], value > limit[female, 1]],
            ["LL", "HH", "L", "H"],
            "N",
        )
    text = np.char.mod(f"%.{item['decimals']}f", value).astype(object)
    if "detect" in item:
        text = np.where(value < item["detect"], f"<{item['detect']}", text)
    return text, flag.astype(object)


def _range_text(item: dict[str, Any], sex: int) -> str:
    if "text" in item:
        return "阴性"
    low, high = item["ref"][sex]
    if low is None:
        return f"<{high}"
    return f">{low}" if high is None else f"{low}-{high}"
