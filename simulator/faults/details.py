"""Faults of one field or two: the rules of ARC, EXM, HTN and DM that look at a single record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simulator.clinical.draw import days, numbers
from simulator.faults.copies import history_end, settled
from simulator.faults.neighbours import neighbours
from simulator.faults.record import World

ARCHIVE, EXAM, HTN, DM = "ph_archive", "ph_exam", "htn_visit", "dm_visit"
COMPLETE = ("hgb_g_l", "wbc_10_9_l", "plt_10_9_l", "alt_u_l", "ast_u_l", "tbil_umol_l", "scr_umol_l", "bun_mmol_l", "fbg_mmol_l",
            "tc_mmol_l", "tg_mmol_l", "ldl_mmol_l", "hdl_mmol_l", "hba1c_pct")  # fmt: skip


def change(
    world: World, table: str, rule: str, candidates: np.ndarray, fields: str, **values: object
) -> np.ndarray:
    """The chosen rows get these values and are logged."""
    rows = world.choose(table, rule, candidates)
    world.put(table, rows, **values)
    world.note(table, rows, rule, "rule", fields)
    return rows


def inject(world: World) -> None:
    diabetes(world)  # first: a small town has few patients on insulin who are free of other faults
    archives(world)
    examinations(world)
    hypertension(world)


def _filled(world: World, table: str, column: str) -> np.ndarray:
    result: np.ndarray = np.array(
        [v is not None for v in world.tables[table][column].to_pylist()], dtype=bool
    )
    return result


def archives(world: World) -> None:
    open_ = settled(world, ARCHIVE, "archive_id") & (world.array(ARCHIVE, "status_code") == "0")
    numbered = open_ & _filled(world, ARCHIVE, "archive_no")
    rows = world.choose(ARCHIVE, "ARC-010", numbered)
    world.put(
        ARCHIVE,
        rows,
        archive_no=[v[:16] for v in world.tables[ARCHIVE]["archive_no"].take(pa.array(rows)).to_pylist()],
    )
    world.note(ARCHIVE, rows, "ARC-010", "rule", "archive_no")
    change(world, ARCHIVE, "ARC-011", open_, "sex_code", sex_code="7")
    change(world, ARCHIVE, "ARC-012", open_, "ethnicity_code", ethnicity_code="58")
    dead = settled(world, ARCHIVE, "archive_id") & world.array(ARCHIVE, "is_dead").astype(bool)
    change(
        world,
        ARCHIVE,
        "ARC-015",
        dead,
        "death_date",
        death_date=(world.window.horizon.replace(year=world.window.horizon.year + 1)),
    )
    born = world.array(ARCHIVE, "birth_date")
    rows = world.choose(ARCHIVE, "ARC-019", open_ & (born + 7000 < world.end))
    world.put(ARCHIVE, rows, created_on=days(born[rows] - 90))
    world.note(ARCHIVE, rows, "ARC-019", "rule", "created_on")
    change(world, ARCHIVE, "ARC-021", open_, "drug_allergy", drug_allergy="无、青霉素")
    healthy = open_ & (world.array(ARCHIVE, "past_disease") == "无")
    change(world, ARCHIVE, "ARC-023", healthy, "past_disease", past_disease="无、慢性胃炎")
    region = world.array(ARCHIVE, "addr_region_code")
    here = np.array([str(r)[:6] if r else "" for r in region])
    rows = world.choose(ARCHIVE, "ARC-029", open_ & (here != ""))
    elsewhere = {
        a: next((r for r, b in zip(region, here, strict=True) if b not in ("", a)), None)
        for a in set(here.tolist())
    }
    world.put(ARCHIVE, rows, addr_region_code=[elsewhere[here[r]] for r in rows])
    world.note(ARCHIVE, rows, "ARC-029", "rule", "addr_region_code")
    young = (
        open_
        & (world.array(ARCHIVE, "sex_code") == "2")
        & (world.array(ARCHIVE, "birth_date") + 6500 > world.end)
    )
    change(world, ARCHIVE, "ARC-026", young, "marital_code,birth_date", marital_code="20")
    one_phone(world, open_)
    not_in_history(world)
    wrong_sex(world)


def one_phone(world: World, open_: np.ndarray) -> None:
    """A doctor's number for ten families (ARC-014)."""
    rows: list[int] = []
    taken = world.touched.setdefault(ARCHIVE, set())
    ids, who = world.array(ARCHIVE, "archive_id"), world.array(ARCHIVE, "resident")
    address, seen = world.array(ARCHIVE, "addr_detail"), set()
    for row in world.rng.permutation(np.flatnonzero(open_)).tolist():  # ten rows
        if ids[row] not in taken and who[row] not in seen and address[row] is not None:
            rows.append(row)
            seen.add(who[row])
            taken.add(ids[row])
        if len(rows) == 10:
            chosen = np.array(sorted(rows))
            world.put(ARCHIVE, chosen, phone="13971042688")
            world.note(ARCHIVE, chosen, "ARC-014", "rule", "phone")
            return


def not_in_history(world: World) -> None:
    """A managed patient whose archive denies any disease (ARC-025); the archive is the person's only one."""
    card = world.tables["htn_card"]
    active = settled(world, "htn_card", "card_id") & (world.array("htn_card", "status_code") == "active")
    who, counts = np.unique(world.array(ARCHIVE, "resident"), return_counts=True)
    denies = world.array(ARCHIVE, "past_disease") == "高血压"
    single = (
        np.isin(world.array(ARCHIVE, "resident"), who[counts == 1])
        & settled(world, ARCHIVE, "archive_id")
        & denies
    )
    single &= np.isin(world.array(ARCHIVE, "resident"), card["resident"].to_numpy()[active])
    rows = world.choose(ARCHIVE, "ARC-025", single)
    chosen = world.array(ARCHIVE, "resident")[rows]
    world.put(ARCHIVE, rows, past_disease="无", past_disease_on=None)
    world.note(
        "htn_card",
        np.flatnonzero(active & np.isin(card["resident"].to_numpy(), chosen)),
        "ARC-025",
        "rule",
        "archive_id",
    )
    disease = world.array("ph_archive_disease", "history_kind_code") == "disease"
    world.drop(
        "ph_archive_disease",
        np.flatnonzero(disease & np.isin(world.array("ph_archive_disease", "resident"), chosen)),
    )


def wrong_sex(world: World) -> None:
    """An operation of the other sex (ARC-027)."""
    table = "ph_archive_disease"
    sex_of = dict(zip(world.array(ARCHIVE, "archive_id"), world.array(ARCHIVE, "sex_code"), strict=True))
    sex = np.array([sex_of.get(a) for a in world.array(table, "archive_id")], dtype=object)
    surgery = (world.array(table, "history_kind_code") == "surgery") & np.isin(
        world.array(table, "disease_name"), ("阑尾切除术", "胆囊切除术")
    )
    rows = world.choose(table, "ARC-027", surgery & ((sex == "1") | (sex == "2")))
    world.put(table, rows, disease_name=["剖宫产术" if s == "1" else "前列腺电切术" for s in sex[rows]])
    world.note(table, rows, "ARC-027", "rule", "disease_name")


def examinations(world: World) -> None:
    old = world.array(EXAM, "deliver_on") <= history_end(world)
    bmi, score = world.array(EXAM, "bmi"), world.array(EXAM, "selfcare_score")
    change(world, EXAM, "EXM-009", old & (bmi >= 28.2) & (bmi < 35), "waist_cm,bmi", waist_cm=66.0)
    change(world, EXAM, "EXM-010", old, "temp_c", temp_c=34.6)
    change(world, EXAM, "EXM-011", old, "pulse_bpm", pulse_bpm=139)
    change(world, EXAM, "EXM-012", old, "resp_bpm", resp_bpm=31)
    sbp = world.array(EXAM, "sbp_l_mmhg")
    marked = old & (world.array(EXAM, "eval_abnormal_code") == "2") & (sbp > 100) & (sbp < 155)
    rows = world.choose(EXAM, "EXM-013", marked)
    world.put(EXAM, rows, sbp_r_mmhg=numbers(sbp[rows] + 24), eval_note=None)
    world.note(EXAM, rows, "EXM-013", "rule", "sbp_l_mmhg,sbp_r_mmhg")
    change(world, EXAM, "EXM-015", old & (score == 0), "selfcare_wash", selfcare_wash=2, selfcare_score=2)
    change(
        world,
        EXAM,
        "EXM-017",
        old & (world.array(EXAM, "cog_screen_code") == "2"),
        "cog_score",
        cog_score=None,
    )
    idle = old & (world.array(EXAM, "exercise_freq_code") == "4")
    change(world, EXAM, "EXM-028", idle, "exercise_freq_code,exercise_min", exercise_min=30)
    for table in (EXAM, HTN, DM):
        known = world.array(table, "deliver_on") <= history_end(world)
        change(world, table, "EXM-029", known, "symptoms", symptoms="无症状、头晕")
    complete = old & (world.array(EXAM, "exam_type_code") == "general")
    for name in COMPLETE:
        complete &= ~np.isnan(world.array(EXAM, name))
    for name in ("abd_us_result_code", "chest_dr_result_code", "ecg_result_code", "urine_protein"):
        complete &= _filled(world, EXAM, name)
    year = world.array(EXAM, "exam_on").astype("datetime64[Y]").astype("int64")
    birth_of = dict(zip(world.array(ARCHIVE, "archive_id"), world.array(ARCHIVE, "birth_date"), strict=True))
    born = np.array([birth_of[a] for a in world.array(EXAM, "archive_id")], dtype="datetime64[D]")
    young = ~np.isnat(born) & (year - born.astype("datetime64[Y]").astype("int64") < 64)
    change(world, EXAM, "EXM-021", complete & young, "exam_type_code", exam_type_code="elder")
    recovered(world)


def recovered(world: World) -> None:
    """Wholly dependent a year ago, independent now (EXM-016)."""
    near, grade = neighbours(world, EXAM, "exam_on"), world.array(EXAM, "selfcare_grade_code")
    again = (grade == "1") & (near.of(grade, "following", "") == "1") & (near.gap_after() < 700)
    rows = world.choose(EXAM, "EXM-016", again & (world.array(EXAM, "deliver_on") <= history_end(world)))
    world.put(EXAM, rows, selfcare_eat=5, selfcare_wash=7, selfcare_dress=5, selfcare_toilet=10, selfcare_move=10,
              selfcare_score=37, selfcare_grade_code="4")  # fmt: skip
    world.note(EXAM, np.sort(near.following[rows]), "EXM-016", "rule", "selfcare_grade_code")


def _without_diabetes(world: World) -> np.ndarray:
    """Visits of people with no visit for diabetes: nothing else must be the same on the day."""
    diabetic = set(world.tables[DM]["resident"].to_pylist())
    result: np.ndarray = np.array(
        [r not in diabetic for r in world.tables[HTN]["resident"].to_pylist()], dtype=bool
    )
    return result & (world.array(HTN, "deliver_on") <= history_end(world))


def hypertension(world: World) -> None:
    near, alone = neighbours(world, HTN, "visited_on"), _without_diabetes(world)
    kind, way = world.array(HTN, "visit_class_code"), world.array(HTN, "visit_way_code")
    referred = world.array(HTN, "is_referred").astype(bool)
    crisis = (
        alone & (kind == "2") & (near.of(kind, "previous", "1") == "1") & (near.gap_after() <= 14) & ~referred
    )
    change(
        world,
        HTN,
        "HTN-005",
        crisis & (world.array(HTN, "sbp_mmhg") < 175),
        "sbp_mmhg,is_referred",
        sbp_mmhg=186,
        dbp_mmhg=98,
    )
    regular = alone & (world.array(HTN, "med_compliance_code") == "1") & _filled(world, HTN, "drugs")
    change(world, HTN, "HTN-010", regular, "drugs", drugs=None)
    change(world, HTN, "HTN-011", regular, "med_compliance_code,drugs", med_compliance_code="3")
    change(
        world,
        HTN,
        "HTN-012",
        alone & (kind == "1"),
        "is_adverse,adverse_text",
        is_adverse=True,
        adverse_text=None,
    )
    change(world, HTN, "HTN-013", alone & (way != "3"), "heart_rate_bpm", heart_rate_bpm=None)
    bmi, weight, height = (world.array(HTN, n) for n in ("bmi", "weight_kg", "height_cm"))
    rows = world.choose(HTN, "HTN-014", alone & (bmi >= 24.5))
    world.put(HTN, rows, target_weight_kg=numbers(weight[rows] + 5, 1))
    world.note(HTN, rows, "HTN-014", "rule", "target_weight_kg")
    last = alone & (near.following < 0) & (near.previous >= 0) & (bmi < 26)
    last &= (near.day - near.day[np.maximum(near.previous, 0)]).astype("int64") <= 110
    rows = world.choose(HTN, "HTN-015", last)
    heavier = np.round(weight[rows] + 14, 1)
    world.put(
        HTN,
        rows,
        weight_kg=numbers(heavier, 1),
        bmi=numbers(heavier / (height[rows] / 100) ** 2, 1),
        target_weight_kg=None,
    )
    world.note(HTN, rows, "HTN-015", "rule", "weight_kg")
    change(
        world,
        HTN,
        "HTN-028",
        alone & (kind == "1"),
        "visit_effect_code",
        visit_effect_code="9",
        no_visit_reason_code=None,
    )


def diabetes(world: World) -> None:
    old = world.array(DM, "deliver_on") <= history_end(world)
    injects = old & world.array(DM, "is_insulin").astype(bool)
    change(world, DM, "DM-011", injects, "insulin_usage", insulin_usage=None)
    face = old & (world.array(DM, "visit_way_code") != "3")
    change(world, DM, "DM-009", face, "dorsalis_pedis_code", dorsalis_pedis_code=None)
    change(world, DM, "DM-012", old, "staple_g_day", staple_g_day=1400)
