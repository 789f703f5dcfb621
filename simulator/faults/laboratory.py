"""Faults of LIS-001 to LIS-011: reports and their items."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.faults.copies import changed
from simulator.faults.his_rows import Hand, hours

REPORT, RESULT, JUDGED = "lab_report", "lab_result", "lab_report_items"
REPEATED_WITHIN = 12  # hours
#: Panels with an item whose interval depends on the sex.
SEXED = ("P01", "P02", "P03", "P11", "P13", "P20")


def inject(hand: Hand) -> None:
    times(hand)
    items(hand)
    repeated(hand)


def _groups(hand: Hand) -> pa.Array:
    return hand.ids(REPORT, "requesting_org_code", "encounter_id")


def _plain(hand: Hand) -> np.ndarray:
    """Reports of encounters of the history without a critical result, some days before its end."""
    marked = hand.has(RESULT, ["LL", "HH"], "abnormal_flag")
    critical_ids = hand.ids(RESULT, "org_code", "report_id").filter(pa.array(marked))
    calm = ~hand.has(REPORT, critical_ids, "org_code", "report_id")
    ordered = pc.is_valid(hand.ids(REPORT, "encounter_id")).to_numpy(zero_copy_only=False)
    result: np.ndarray = (
        calm & ordered & hand.old(REPORT) & (hand.day(REPORT, "reported_at") < hand.history_end - 3)
    )
    return result


def times(hand: Hand) -> None:
    world, plain, group = hand.world, _plain(hand), _groups(hand)
    collected, received = hand.time(REPORT, "collected_at"), hand.time(REPORT, "received_at_lab")
    for rule, column, value in (
        ("LIS-001", "reported_at", collected - hours(1)), ("LIS-002", "received_at_lab", collected - hours(0.5)),
        ("LIS-003", "reported_at", collected + (received - collected) // 2), ("LIS-005", "reported_at", received + hours(30)),
    ):  # fmt: skip
        rows = hand.pick(REPORT, rule, plain, group)
        world.put(REPORT, rows, **{column: instants(value[rows])})
        hand.note(REPORT, rows, rule, column)


def note_items(hand: Hand, rule: str, reports: np.ndarray, fields: str, origin: str = "injected") -> None:
    """Log rows of ``lab_report`` under the table of their items."""
    chosen = hand.world.tables[REPORT].take(pa.array(reports))
    hand.note_as(REPORT, JUDGED, chosen["org_code"].to_pylist(), chosen["report_id"].to_pylist(),
                 chosen["deliver_on"].to_pylist(), rule, fields, origin)  # fmt: skip


def _reports_of(hand: Hand, results: np.ndarray) -> np.ndarray:
    """Rows of ``lab_report`` of rows of ``lab_result``."""
    wanted = hand.ids(RESULT, "org_code", "report_id").take(pa.array(results))
    result: np.ndarray = np.flatnonzero(hand.has(REPORT, wanted, "org_code", "report_id"))
    return result


def items(hand: Hand) -> None:
    """One item of a report is wrong; the report is what the rules judge."""
    world = hand.world
    report = hand.at(REPORT, hand.ids(RESULT, "org_code", "report_id"), "org_code", "report_id")
    group, plain = _groups(hand).take(pa.array(report)), _plain(hand)[report]
    text = hand.ids(RESULT, "value_text")
    is_number = pc.fill_null(pc.match_substring_regex(text, r"^[0-9]+(\.[0-9]+)?$"), False)
    value = pc.if_else(is_number, text, None).cast(pa.float64()).to_numpy(zero_copy_only=False)
    numeric = plain & ~np.isnan(value)
    normal = numeric & hand.has(RESULT, ["N"], "abnormal_flag")
    middle = hand.has(RESULT, ["PLT"], "item_code") & (value > 130) & (value < 280) & _grown(hand)[report]

    def put(rule: str, chosen: np.ndarray, fields: str, **values: str | None) -> None:
        rows = hand.pick(RESULT, rule, chosen, group)
        world.put(RESULT, rows, **values)
        note_items(hand, rule, _reports_of(hand, rows), fields)

    def of(*codes: str) -> np.ndarray:
        return hand.has(RESULT, codes, "item_code")

    put("LIS-007", numeric, "unit", unit=None)
    put("LIS-008", normal & of("WBC", "PLT", "TP", "ALB", "UREA", "CL"), "abnormal_flag", abnormal_flag="H")
    put("LIS-009", normal & middle, "ref_range_text", ref_range_text="100-300")
    put("LIS-010", plain & of("TP", "ALB", "UREA", "CL"), "value_text", value_text=None)
    put("LIS-011", plain & of("RBC"), "value_text", value_text="48.20", abnormal_flag="H")
    first = plain & (world.array(RESULT, "seq") == 1)
    empty = _reports_of(hand, hand.pick(RESULT, "LIS-006", first, group))
    note_items(hand, "LIS-006", empty, "report_id")
    gone = hand.ids(REPORT, "org_code", "report_id").take(pa.array(empty))
    world.drop(RESULT, np.flatnonzero(hand.has(RESULT, gone, "org_code", "report_id")))


def _years(hand: Hand) -> np.ndarray:
    """Age in years at the report, by the birth date that it tells; NaN where it tells none."""
    born = hand.world.array(REPORT, "birth_date")
    span = (hand.day(REPORT, "reported_at") - born).astype("float64") / 365.25
    result: np.ndarray = np.where(np.isnat(born), np.nan, span)
    return result


def _grown(hand: Hand) -> np.ndarray:
    """Reports that tell the sex and birth date of a grown person: only those have an interval of the group."""
    years = _years(hand)
    result: np.ndarray = (years > 19) & (years < 149) & hand.has(REPORT, ["1", "2"], "sex_code")
    return result


def _whole(hand: Hand) -> np.ndarray:
    """Reports that have results."""
    return hand.has(REPORT, hand.ids(RESULT, "org_code", "report_id"), "org_code", "report_id")


def repeated(hand: Hand) -> None:
    """The same panel once more, two hours after it was taken; :func:`note_natural` logs all that are too close."""
    world = hand.world
    rows = hand.pick(REPORT, "LIS-004", _plain(hand) & _whole(hand), _groups(hand))
    source = world.tables[REPORT].take(pa.array(rows))
    taken = hand.ids(REPORT, "org_code", "report_id").take(pa.array(rows))
    at = np.flatnonzero(hand.has(RESULT, taken, "org_code", "report_id"))
    times_of = ("collected_at", "received_at_lab", "reported_at")
    later = {c: instants(hand.time(REPORT, c)[rows] + hours(2)) for c in times_of}
    new = {
        c: [f"{v}R" for v in source[c].to_pylist()] for c in ("report_id", "order_id", "message_control_id")
    }
    world.add(REPORT, changed(source, **new, **later))
    results = world.tables[RESULT].take(pa.array(at))
    observed = instants(hand.time(RESULT, "observed_at")[at] + hours(2))
    world.add(
        RESULT,
        changed(results, report_id=[f"{v}R" for v in results["report_id"].to_pylist()], observed_at=observed),
    )


def note_natural(hand: Hand) -> None:
    """Log repeated panels, and intervals that fit the patient but not the sex that the report tells."""
    ids = hand.ids(REPORT, "org_code", "requesting_org_code", "patient_local_id", "panel_code")
    who = pc.dictionary_encode(ids).indices.to_numpy(zero_copy_only=False)
    at = hand.time(REPORT, "collected_at")
    known = np.flatnonzero(hand.known(REPORT))
    order = known[np.lexsort((at[known], who[known]))]
    close = (who[order][1:] == who[order][:-1]) & (at[order][1:] - at[order][:-1] < hours(REPEATED_WITHIN))
    rows = np.sort(order[1:][close])
    put = pc.ends_with(hand.ids(REPORT, "report_id").take(pa.array(rows)), "R").to_numpy(zero_copy_only=False)
    hand.note(REPORT, rows[put], "LIS-004", "collected_at")
    hand.note(REPORT, rows[~put], "LIS-004", "collected_at", "natural")
    _note_sexes(hand)


def _note_sexes(hand: Hand) -> None:
    """LIS-009: the interval that was printed is that of the person's sex, the report says the other one.

    Only where the caller of the faults told the sexes of the residents (``sex_of_resident``, by their number).
    """
    sexes = hand.world.rates.get("sex_of_resident")
    if sexes is None:
        return
    true_sex = np.asarray(sexes, dtype=object)[hand.world.array(REPORT, "resident")]
    other = hand.has(REPORT, ["1"], "sex_code") & (true_sex == "2")
    other |= hand.has(REPORT, ["2"], "sex_code") & (true_sex == "1")
    rows = np.flatnonzero(other & hand.known(REPORT) & hand.has(REPORT, SEXED, "panel_code") & _whole(hand))
    panel, years = hand.ids(REPORT, "panel_code").take(pa.array(rows)).to_pylist(), _years(hand)[rows]
    keep = [_has_interval(p, y) for p, y in zip(panel, years.tolist(), strict=True)]
    note_items(hand, "LIS-009", rows[np.array(keep, dtype=bool)], "sex_code", "natural")


def _has_interval(panel: str, years: float) -> bool:
    """Whether the group has an interval by sex for an item of the panel at this age."""
    if panel in ("P01", "P20") and 18 <= years < 150:
        return True
    return 20 <= years < (60 if panel in ("P03", "P11") else 80)
