"""Faults that show in a person's year, a doctor's day or an institution's quarter.

HTN-017 to 020, 027, 029, DM-017, ARC-031 and ARC-032.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days, numbers
from simulator.faults.copies import at_noon, changed, history_end, renamed, settled
from simulator.faults.details import HTN, _without_diabetes
from simulator.faults.record import World

ARCHIVE, DM, JOINT = "ph_archive", "dm_visit", "chronic_one_table"
READINGS, CLUSTER = 50, 100  # readings that the rules ask for: a doctor's quarter, an institution's quarter
DAILY = 44  # visits a day, more than anybody makes
LEAST_ARCHIVES = 110


def inject(world: World) -> None:
    same_all_year(world)
    after_the_end(world)
    quarter_end(world)
    even_digits(world)
    below_goal(world)
    blood_groups(world)
    sent_again(world)


def same_all_year(world: World) -> None:
    """A year of pressures that hardly differ, all controlled (HTN-029)."""
    year = world.window.end.year - 1
    alone = _without_diabetes(world)
    in_year = world.array(HTN, "visited_on").astype("datetime64[Y]").astype("int64") + 1970 == year
    own, good = world.array(HTN, "archive_id").astype(str), world.array(HTN, "visit_class_code") == "1"
    names, of = np.unique(own, return_inverse=True)
    fits = np.bincount(of, in_year & alone & good, len(names)) >= 4
    fits &= np.bincount(of, in_year & ~(alone & good), len(names)) == 0
    free = names[fits & ~np.isin(names, sorted(world.touched.get(HTN, set())))]
    card = settled(world, "htn_card", "card_id") & np.isin(
        world.array("htn_card", "archive_id").astype(str), free
    )
    rows = world.choose("htn_card", "HTN-029", card)
    world.note("htn_card", rows, "HTN-029", "rule", "card_id")
    chosen = world.array("htn_card", "archive_id")[rows].tolist()
    world.touched.setdefault(HTN, set()).update(chosen)
    at = np.flatnonzero(in_year & np.isin(own, chosen))
    step = np.arange(len(at)) % 2
    world.put(HTN, at, sbp_mmhg=numbers(127.0 + step), dbp_mmhg=numbers(77.0 + step))


def after_the_end(world: World) -> None:
    """Visits go on although the card is closed (HTN-027); nobody of them died."""
    card = "htn_card"
    over = settled(world, card, "card_id") & (world.array(card, "status_code") == "ended")
    over &= (world.array(card, "end_reason_code") != "1") & (
        world.array(card, "ended_on") + 45 < history_end(world)
    )
    own, day = world.array(HTN, "archive_id").astype(str), world.array(HTN, "visited_on")
    order = np.lexsort((day, own))
    last = dict(zip(own[order].tolist(), order.tolist(), strict=True))  # the last row of each archive
    good = world.array(HTN, "visit_class_code") == "1"
    ended = world.array(card, "ended_on")
    archives = world.array(card, "archive_id")
    near = np.array([a in last and good[last[a]] and (e - day[last[a]]).astype("int64") < 70
                     for a, e in zip(archives, ended, strict=True)], dtype=bool)  # fmt: skip
    near &= ~np.isin(archives.astype(str), sorted(world.touched.get(HTN, set())))
    near &= np.isin(archives.astype(str), sorted(set(own[_without_diabetes(world)].tolist())))
    rows = world.choose(card, "HTN-027", over & near)
    if not len(rows):
        _closed_before(world, last)
        return
    copy = world.tables[HTN].take(pa.array([last[a] for a in archives[rows]]))
    on = ended[rows] + 20
    sbp = copy["sbp_mmhg"].to_numpy() - 3
    copy = changed(renamed(copy, "visit_id"), visited_on=days(on), recorded_at=at_noon(on), next_visit_on=days(on + 85),
                   sbp_mmhg=numbers(sbp), heart_rate_bpm=numbers(copy["heart_rate_bpm"].to_numpy() + 2.0),
                   deliver_on=[world.window.history_end] * len(rows))  # fmt: skip
    world.note(HTN, world.add(HTN, copy), "HTN-027", "rule", "visited_on")


def _closed_before(world: World, last: dict[str, int]) -> None:
    """The same in a small town where nobody's card was closed: one is, before its last visit."""
    card = "htn_card"
    archives, day = world.array(card, "archive_id").astype(str), world.array(HTN, "visited_on")
    quiet = settled(world, card, "card_id") & (world.array(card, "status_code") != "ended")
    free = _untouched(world, HTN) & _without_diabetes(world) & (world.array(HTN, "visit_class_code") == "1")
    free &= day < history_end(world) - 40
    quiet &= np.array([a in last and bool(free[last[a]]) for a in archives], dtype=bool)
    rows = world.choose(card, "HTN-027", quiet)[:1]
    at = np.array([last[a] for a in archives[rows]], dtype="int64")
    world.touched.setdefault(HTN, set()).update(archives[rows].tolist())
    world.put(card, rows, status_code="ended", ended_on=days(day[at] - 20), end_reason_code="2")
    world.note(HTN, at, "HTN-027", "rule", "visited_on")


def _last_quarter(world: World) -> tuple[np.datetime64, np.datetime64]:
    """First day of the last closed quarter and the first day after it."""
    month = world.end.astype("datetime64[M]").astype("int64")
    first = np.datetime64(int(month - month % 3), "M")
    return (first - 3).astype("datetime64[D]"), first.astype("datetime64[D]")


def quarter_end(world: World) -> None:
    """A doctor who makes up for a quarter in its last three days (HTN-019 each day, HTN-020 the institution)."""
    begin, after = _last_quarter(world)
    counts: dict[str, int] = {}
    for table in (
        HTN,
        DM,
        "copd_visit",
        JOINT,
        "smi_visit",
        "tb_visit",
    ):  # services for families may be there or not
        day = world.array(table, "visited_on")
        here = pc.value_counts(
            world.tables[table]["org_code"].filter(pa.array((day >= begin) & (day < after)))
        )
        for entry in here.to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    template = world.tables[JOINT]
    if not counts or not template.num_rows:
        return
    org = min(counts, key=lambda o: (counts[o], o))
    open_ = (
        (world.array(ARCHIVE, "status_code") == "0")
        & (world.array(ARCHIVE, "org_code") == org)
        & settled(world, ARCHIVE, "archive_id")
    )
    open_ &= world.array(ARCHIVE, "created_on") < begin
    people = np.flatnonzero(open_)
    if not len(people):
        return
    each = max(DAILY, counts[org] // 2)
    size = each * 3
    rows = world.tables[ARCHIVE].take(pa.array(np.resize(people, size)))
    on = after - 3 + np.repeat(np.arange(3), each)
    doctor = f"{org}G98"
    copy = changed(
        template.take(pa.array(np.resize(np.arange(template.num_rows), size))),
        visit_id=[f"YZBX{i:06d}" for i in range(size)], archive_id=rows["archive_id"].combine_chunks(), visited_on=days(on),
        visit_way_code="1", doctor_id=doctor, recorded_at=at_noon(on + 1), next_visit_on=days(on + 90), org_code=org,
        deliver_on=[world.window.history_end] * size, resident=rows["resident"].combine_chunks(),
    )  # fmt: skip
    world.add(JOINT, copy)
    for day in np.unique(on):
        world.note_group("doctor_day", org, f"{doctor}|{day}", "HTN-019", "face_visits")
    world.note_group("org_quarter", org, str(begin), "HTN-020", "quarter_end_visits")


def _busiest(
    world: World,
    table: str,
    value: str,
    least: int,
    where: np.ndarray,
    may: np.ndarray,
    free: np.ndarray,
) -> tuple[str, np.ndarray] | None:
    """The institution with the most readings in the last closed quarter among ``where``, and its rows of that quarter.

    Where nobody has as many as the rule asks for, its team makes follow-ups of other institutions too: rows without a
    fault become its own, the ``free`` ones first.
    """
    begin, after = _last_quarter(world)
    day, org = world.array(table, "visited_on"), world.array(table, "org_code").astype(str)
    inside = (day >= begin) & (day < after) & ~np.isnan(world.array(table, value))
    names, counts = np.unique(org[inside & where], return_counts=True)
    if not len(names):
        return None
    chosen = str(names[counts.argmax()])
    lacking = least - int(counts.max())  # among ``where``: a doctor's own, or all of the institution
    if lacking > 0:
        other = np.flatnonzero(
            inside & may & (org != chosen) & settled(world, table, "visit_id") & ~_logged(world, table)
        )
        if len(other) < lacking:
            return None
        moved = np.sort(other[np.argsort(~free[other], kind="stable")][:lacking])
        world.put(table, moved, org_code=chosen)
        org[moved] = chosen
    return chosen, np.flatnonzero(inside & (org == chosen))


def _logged(world: World, table: str) -> np.ndarray:
    """Rows that have a fault: their records are known to the truth by institution and key."""
    logged = [t.filter(pc.equal(t["table_name"], table)) for t in world.log]
    names = {
        f"{o}|{k}"
        for t in logged
        for o, k in zip(t["org_code"].to_pylist(), t["record_key"].to_pylist(), strict=True)
    }
    rows = world.tables[table]
    own = pc.binary_join_element_wise(rows["org_code"], rows["visit_id"], "|")
    result: np.ndarray = pc.is_in(own, pa.array(sorted(names), pa.string())).to_numpy()
    return result


def _untouched(world: World, table: str) -> np.ndarray:
    """Rows of archives that have no fault in the table yet."""
    held = world.array(table, "archive_id").astype(str)
    result: np.ndarray = ~np.isin(held, sorted(world.touched.get(table, set())))
    return result


def even_digits(world: World) -> None:
    """A doctor whose pressures all end in nought (HTN-017), rounded down so that no judgement changes."""
    free = _without_diabetes(world) & _untouched(world, HTN)
    found = _busiest(world, HTN, "sbp_mmhg", READINGS, free, free, free)
    if found is None:
        return
    org, rows = found[0], found[1][free[found[1]]]
    world.put(
        HTN,
        rows,
        sbp_mmhg=numbers(np.floor(world.array(HTN, "sbp_mmhg")[rows] / 10) * 10),
        doctor_id=f"{org}G99",
    )
    world.note_group("doctor_quarter", org, f"{org}G99|{_last_quarter(world)[0]}", "HTN-017", "ends_in_0")


def below_goal(world: World) -> None:
    """Pressures and sugars just below the goal, in an institution with a hundred readings (HTN-018, DM-017)."""
    even = pc.ends_with(world.tables[HTN]["doctor_id"], "G99").to_numpy()
    busy = np.unique(world.array(HTN, "org_code").astype(str)[even])
    other = ~np.isin(
        world.array(HTN, "org_code").astype(str), busy
    )  # of another institution than the even digits
    _gather(world, HTN, "sbp_mmhg", other, _without_diabetes(world), 137.0, (140, 143), "HTN-018")
    everywhere = np.ones(world.tables[DM].num_rows, dtype=bool)
    _gather(world, DM, "fbg_mmol_l", everywhere, everywhere, 6.8, (7.0, 7.2), "DM-017")


def _gather(
    world: World, table: str, value: str, where: np.ndarray, may: np.ndarray, to: float, above: tuple[float, float], rule: str
) -> None:  # fmt: skip
    """Controlled readings of the busiest institution move to just below the goal, more than four for each above it."""
    quiet = _untouched(world, table) & may & (world.array(table, "visit_class_code") == "1")
    here = world.array(table, value)
    beside = where & ~((here >= above[0]) & (here <= above[1]))
    found = _busiest(world, table, value, CLUSTER, where, beside, quiet)
    if found is None:
        return
    org, rows = found
    chosen = rows[quiet[rows]]
    # whoever is just above the goal is seen by another institution's team
    just = where & (here >= above[0]) & (here <= above[1]) & settled(world, table, "visit_id")
    gone = rows[(just & ~_logged(world, table))[rows]][: max(len(rows) - CLUSTER, 0)]
    others = world.array(table, "org_code").astype(str)
    others = others[where & (others != org)]
    if len(others):
        world.put(table, gone, org_code=str(min(others)))
        rows = np.setdiff1d(rows, gone)
    over = int(
        ((world.array(table, value)[rows] >= above[0]) & (world.array(table, value)[rows] <= above[1])).sum()
    )
    if len(chosen) > 4 * max(over, 1):
        world.put(table, chosen, **{value: to})
        field = "sbp_below_goal" if rule == "HTN-018" else "fbg_below_goal"
        world.note_group("org_quarter", org, str(_last_quarter(world)[0]), rule, field)


def blood_groups(world: World) -> None:
    """An institution that turned the Rh codes round in a delivery (ARC-031), another that knows nobody's group (ARC-032)."""
    open_ = settled(world, ARCHIVE, "archive_id") & (world.array(ARCHIVE, "status_code") == "0")
    org = world.array(ARCHIVE, "org_code").astype(str)
    known = np.isin(world.array(ARCHIVE, "blood_rh_code"), ("1", "2"))
    names, counts = np.unique(org[open_ & known], return_counts=True)
    large = names[counts >= LEAST_ARCHIVES]
    if len(large) < 2:
        return
    first, second = large[np.argsort(counts[counts >= LEAST_ARCHIVES])[:2]]
    rows = np.flatnonzero(open_ & known & (org == first))[::6]
    world.put(ARCHIVE, rows, blood_rh_code="1")
    world.note_group("archive_batch", str(first), str(history_end(world)), "ARC-031", "rh_negative")
    rows = np.flatnonzero(open_ & (org == second))
    world.put(ARCHIVE, rows[np.arange(len(rows)) % 5 > 0], blood_abo_code="5")
    world.note_group("org_archives", str(second), str(second), "ARC-032", "blood_unknown")


def sent_again(world: World) -> None:
    """The same record with the same time of entry and another content, a day later (GEN-004)."""
    table = "copd_screen"
    first = history_end(world) + 1
    known = (world.array(table, "deliver_on") <= history_end(world)) & (
        world.array(table, "questionnaire_score") < 12
    )
    rows = world.choose(table, "GEN-004", known)
    copy = world.tables[table].take(pa.array(rows))
    score = copy["questionnaire_score"].to_numpy() + 1
    copy = changed(copy, questionnaire_score=numbers(score), deliver_on=days(np.full(len(rows), first)))
    world.note(table, world.add(table, copy), "GEN-004", "rule", "questionnaire_score")
