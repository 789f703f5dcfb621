"""What each figure of gold means, on rows made by hand: one build over a day, then one test per reading.

The day is 2026-11-20, so 324 days of the year have passed and three of four face-to-face follow-ups are due.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake import duck
from lake.crypto import token
from tests.fixtures_silver import deliver, link, resident, shanghai, write

DAY = date(2026, 11, 20)
WEEK_AGO = DAY - timedelta(days=7)
LONG_AGO = date(2020, 3, 1)
TURNS_65 = date(1961, 11, 20)  # 65 on the day, 64 the day before

Visit = dict[str, Any]


def visit(
    on: date, sbp: float | None = 130.0, dbp: float | None = 80.0, way: str = "1", **more: Any
) -> Visit:
    return {"visited_on": on, "sbp_mmhg": sbp, "dbp_mmhg": dbp, "visit_way_code": way} | more


SPRING, SUMMER, AUTUMN = date(2026, 2, 10), date(2026, 5, 10), date(2026, 8, 10)
THREE = [visit(SPRING), visit(SUMMER), visit(AUTUMN)]

#: name -> (birth date, card opened, follow-ups, examination or None)
HTN: dict[str, tuple[date, date, list[Visit], date | None]] = {
    "under65_139_89": (date(1970, 1, 1), LONG_AGO, [visit(AUTUMN, 139, 89)], None),
    "under65_140": (date(1970, 1, 1), LONG_AGO, [visit(AUTUMN, 140, 80)], None),
    "under65_dbp_90": (date(1970, 1, 1), LONG_AGO, [visit(AUTUMN, 120, 90)], None),
    "over65_149": (date(1950, 1, 1), LONG_AGO, [visit(AUTUMN, 149, 89)], None),
    "over65_150": (date(1950, 1, 1), LONG_AGO, [visit(AUTUMN, 150, 80)], None),
    "day_before_65": (TURNS_65, LONG_AGO, [visit(DAY - timedelta(days=1), 145, 80)], None),
    "on_65th_birthday": (TURNS_65, LONG_AGO, [visit(DAY, 145, 80)], None),
    "last_without_pressure": (
        date(1970, 1, 1),
        LONG_AGO,
        [visit(SUMMER, 120), visit(AUTUMN, None, None)],
        None,
    ),
    "lost_this_year": (date(1970, 1, 1), LONG_AGO, [visit(date(2025, 12, 31), 120)], None),
    "good_by_telephone": (date(1970, 1, 1), LONG_AGO, [visit(AUTUMN, 120, way="3")], None),
    "typed_later_wins": (
        date(1970, 1, 1),
        LONG_AGO,
        [
            visit(AUTUMN, 160, recorded_at=shanghai(AUTUMN, 18)),
            visit(AUTUMN, 120, recorded_at=shanghai(AUTUMN, 9)),
        ],
        None,
    ),
    "standard": (date(1970, 1, 1), LONG_AGO, THREE, SUMMER),
    "two_of_three": (date(1970, 1, 1), LONG_AGO, THREE[:2], SUMMER),
    "third_by_telephone": (date(1970, 1, 1), LONG_AGO, [*THREE[:2], visit(AUTUMN, way="3")], SUMMER),
    "two_on_one_day": (date(1970, 1, 1), LONG_AGO, [*THREE[:2], visit(SUMMER)], SUMMER),
    "exam_a_year_ago": (date(1970, 1, 1), LONG_AGO, THREE, DAY - timedelta(days=365)),
    "exam_in_the_year": (date(1970, 1, 1), LONG_AGO, THREE, DAY - timedelta(days=364)),
    "never_examined": (date(1970, 1, 1), LONG_AGO, THREE, None),
    "new_card": (date(1970, 1, 1), date(2026, 9, 1), [], None),
    "half_year_card_one_visit": (date(1970, 1, 1), date(2026, 5, 1), [visit(AUTUMN)], None),
    "half_year_card_two_visits": (date(1970, 1, 1), date(2026, 5, 1), [visit(SUMMER), visit(AUTUMN)], None),
    "card_excluded": (date(1970, 1, 1), LONG_AGO, THREE, SUMMER),
    "archive_excluded": (date(1970, 1, 1), LONG_AGO, THREE, SUMMER),
    "last_visit_excluded": (date(1970, 1, 1), LONG_AGO, [visit(SUMMER, 120), visit(AUTUMN, 200)], None),
    "crisis_sbp": (date(1970, 1, 1), LONG_AGO, [visit(DAY - timedelta(days=29), 180)], None),
    "crisis_dbp": (date(1970, 1, 1), LONG_AGO, [visit(DAY - timedelta(days=29), 120, 110)], None),
    "crisis_referred": (date(1970, 1, 1), LONG_AGO, [visit(DAY, 200, is_referred=True)], None),
    "twice_uncontrolled": (
        date(1970, 1, 1),
        LONG_AGO,
        [
            visit(SUMMER, 150, visit_class_code="2"),
            visit(
                DAY - timedelta(days=20), 150, visit_class_code="2", next_visit_on=DAY - timedelta(days=15)
            ),
        ],
        None,
    ),
    "once_uncontrolled": (
        date(1970, 1, 1),
        LONG_AGO,
        [
            visit(SUMMER, 130, visit_class_code="1"),
            visit(
                DAY - timedelta(days=20), 150, visit_class_code="2", next_visit_on=DAY - timedelta(days=14)
            ),
        ],
        None,
    ),
    "crisis_long_ago": (date(1970, 1, 1), LONG_AGO, [visit(DAY - timedelta(days=30), 200)], None),
}
CONTROLLED = {
    "under65_139_89": True,
    "under65_140": False,
    "under65_dbp_90": False,
    "over65_149": True,
    "over65_150": False,
    "day_before_65": False,
    "on_65th_birthday": True,
    "last_without_pressure": False,
    "lost_this_year": False,
    "good_by_telephone": True,
    "typed_later_wins": False,
    "last_visit_excluded": True,
}
STANDARD = {
    "standard": True,
    "two_of_three": False,
    "third_by_telephone": False,
    "two_on_one_day": False,
    "exam_a_year_ago": False,
    "exam_in_the_year": True,
    "never_examined": False,
    "lost_this_year": False,
    "new_card": True,
    "half_year_card_one_visit": False,
    "half_year_card_two_visits": True,
}


def chronic() -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {
        n: [] for n in ("person", "person_identifier", "ph_archive", "htn_card", "htn_visit", "ph_exam")
    }
    for name, (born, carded, visits, exam) in HTN.items():
        rows["person"].append(resident(name, birth_date=born))
        rows["person_identifier"].append(link(name, "public_health", "C201", f"A-{name}"))
        rows["ph_archive"].append({"archive_id": f"A-{name}", "birth_date": born, "created_on": LONG_AGO})
        rows["htn_card"].append({"card_id": f"K-{name}", "archive_id": f"A-{name}", "carded_on": carded})
        rows["htn_visit"] += [
            {"visit_id": f"V-{name}-{i}", "archive_id": f"A-{name}"} | v for i, v in enumerate(visits)
        ]
        if exam:
            rows["ph_exam"].append({"exam_id": f"E-{name}", "archive_id": f"A-{name}", "exam_on": exam})
    # a card that ended before the day, one that ends after it, one opened after it: only the second is managed
    rows["htn_card"] += [
        {"card_id": "K-ended", "archive_id": "A-standard", "carded_on": LONG_AGO, "status_code": "ended",
         "ended_on": DAY},
        {"card_id": "K-ends-later", "org_code": "C202", "archive_id": "A-standard", "carded_on": LONG_AGO,
         "status_code": "ended", "ended_on": DAY + timedelta(days=1)},
        {"card_id": "K-future", "archive_id": "A-standard", "carded_on": DAY + timedelta(days=1)},
    ]  # fmt: skip
    return rows


def elders() -> dict[str, list[dict[str, Any]]]:
    """C203: four of 65 and over by the day, one still 64, one dead."""
    whole = {
        "sbp_l_mmhg": 120.0, "dbp_l_mmhg": 80.0, "height_cm": 160.0, "weight_kg": 60.0, "bmi": 23.4, "hgb_g_l": 130.0,
        "wbc_10_9_l": 6.0, "plt_10_9_l": 200.0, "urine_protein": "-", "fbg_mmol_l": 5.0, "hba1c_pct": 5.5, "alt_u_l": 20.0,
        "ast_u_l": 20.0, "scr_umol_l": 70.0, "bun_mmol_l": 5.0, "tc_mmol_l": 4.0, "tg_mmol_l": 1.0, "ecg_result_code": "1",
        "abd_us_result_code": "1", "chest_dr_result_code": "1", "selfcare_grade_code": "1", "cog_screen_code": "1",
        "eval_abnormal_code": "1", "exam_type_code": "elder",
    }  # fmt: skip
    people = {
        "e_whole": (TURNS_65, whole),
        "e_no_dr": (date(1940, 1, 1), whole | {"chest_dr_result_code": None}),
        "e_not_assessed": (date(1940, 1, 1), whole | {"selfcare_grade_code": None}),
        "e_left_out": (date(1940, 1, 1), whole),
        "e_64": (TURNS_65 + timedelta(days=1), whole),
        "e_dead": (date(1940, 1, 1), whole),
    }
    rows: dict[str, list[dict[str, Any]]] = {
        n: [] for n in ("person", "person_identifier", "ph_archive", "ph_exam")
    }
    for name, (born, exam) in people.items():
        rows["person"].append(resident(name, birth_date=born, is_deceased=name == "e_dead"))
        rows["person_identifier"].append(link(name, "public_health", "C203", f"A-{name}"))
        rows["ph_archive"].append(
            {"org_code": "C203", "archive_id": f"A-{name}", "birth_date": born, "created_on": LONG_AGO}
        )
        rows["ph_exam"].append(
            {"org_code": "C203", "exam_id": f"E-{name}", "archive_id": f"A-{name}", "exam_on": SUMMER} | exam
        )
    return rows


def several_archives() -> dict[str, list[dict[str, Any]]]:
    """C206 and C207 hold an archive each of two residents; proposed to stay are those of C206."""
    rows: dict[str, list[dict[str, Any]]] = {
        n: []
        for n in (
            "person",
            "person_identifier",
            "ph_archive",
            "archive_proposal",
            "htn_card",
            "htn_visit",
            "ph_exam",
        )
    }
    both = ("C206", "C207")
    for name, born in (("s_htn", date(1970, 1, 1)), ("s_old", date(1940, 1, 1))):
        rows["person"].append(resident(name, birth_date=born))
        for org in both:
            key = {"org_code": org, "archive_id": f"A-{name}-{org}"}
            rows["person_identifier"].append(link(name, "public_health", org, key["archive_id"]))
            rows["ph_archive"].append(
                key | {"birth_date": born, "created_on": LONG_AGO if org == "C206" else SPRING}
            )
            stays = {"keeper_org_code": "C206", "keeper_archive_id": f"A-{name}-C206"}
            rows["archive_proposal"].append(key | stays | {"proposal_id": key["archive_id"]})
    for org, days in (
        ("C206", [visit(SPRING), visit(AUTUMN, 150)]),
        ("C207", [visit(SUMMER), visit(AUTUMN, way="3")]),
    ):
        key = {"org_code": org, "archive_id": f"A-s_htn-{org}"}
        rows["htn_card"].append(key | {"card_id": f"K-s_htn-{org}", "carded_on": LONG_AGO})
        rows["htn_visit"] += [key | {"visit_id": f"V-s_htn-{org}-{i}"} | v for i, v in enumerate(days)]
    rows["ph_exam"] += [
        {"org_code": "C207", "exam_id": f"E-{n}", "archive_id": f"A-{n}-C207", "exam_on": SUMMER}
        for n in ("s_htn", "s_old")
    ]
    return rows


def diabetes() -> dict[str, list[dict[str, Any]]]:
    """C204; the resident "standard" has both diseases."""
    cards = {"d_69": 6.9, "d_70": 7.0, "d_none": None, "d_type1": 5.0}
    return {
        "dm_card": [
            {"org_code": "C204", "card_id": f"K-{n}", "archive_id": "A-standard", "carded_on": LONG_AGO,
             "dm_type_code": "1" if n == "d_type1" else "2"}
            for n in cards
        ],
        "dm_visit": [],
    }  # fmt: skip


def operations() -> dict[str, list[dict[str, Any]]]:
    def encounter(key: str, org: str, kind: str, at: datetime, **more: Any) -> dict[str, Any]:
        return {
            "org_code": org, "encounter_id": key, "patient_local_id": "L1", "class_code": kind, "started_at": at,
            "ended_at": at + timedelta(hours=1), "total_fee": 100.0, "insurance_pay": 60.0,
        } | more  # fmt: skip

    midnight = datetime(2026, 11, 19, 16, 0, tzinfo=UTC)  # 2026-11-20 00:00 in Shanghai
    return {
        "encounter": [
            encounter("at_midnight", "H001", "AMB", midnight),
            encounter("before_midnight", "H001", "AMB", midnight - timedelta(seconds=1)),
            encounter("emergency", "H001", "EMER", shanghai(DAY, 10), total_fee=20_000.0, insurance_pay=None),
            encounter("centre", "C201", "AMB", shanghai(DAY, 11)),
            encounter("tomorrow", "C201", "AMB", shanghai(DAY + timedelta(days=1), 1)),
            encounter("week_ago_1", "C201", "AMB", shanghai(WEEK_AGO, 11)),
            encounter("week_ago_2", "C201", "AMB", shanghai(WEEK_AGO, 12)),
            encounter("in_bed", "H001", "IMP", shanghai(date(2026, 11, 12), 9), ended_at=None),
            encounter("left_today", "H001", "IMP", shanghai(date(2026, 11, 16), 9), ended_at=shanghai(DAY, 9),
                      total_fee=8000.0, insurance_pay=6000.0),
            encounter("same_day_stay", "H001", "IMP", shanghai(date(2026, 11, 16), 9),
                      ended_at=shanghai(date(2026, 11, 16), 17), total_fee=2000.0, insurance_pay=1000.0),
            encounter("last_year_stay", "H001", "IMP", shanghai(date(2025, 12, 1), 9),
                      ended_at=shanghai(date(2025, 12, 9), 9)),
        ],
        "diagnosis": [
            {"org_code": "H001", "encounter_id": "emergency", "seq": 2, "icd10_code": "E11.9"},
            {"org_code": "H001", "encounter_id": "emergency", "seq": 1, "icd10_code": "I10"},
        ],
        "referral": [
            {"referral_id": r, "direction_code": d, "from_org_code": f, "to_org_code": t, "status_code": s, "applied_at": at,
             "org_code": f, "patient_local_id": "L1"}
            for r, d, f, t, s, at in (
                ("r1", "up", "C201", "H001", "completed", shanghai(DAY)),
                ("r2", "up", "C201", "H001", "requested", shanghai(DAY - timedelta(days=89))),
                ("r3", "up", "C201", "H001", "requested", shanghai(DAY - timedelta(days=90))),
                ("r4", "up", "C201", "H001", "rejected", shanghai(DAY)),
                ("r5", "down", "H001", "C201", "completed", shanghai(DAY)),
            )
        ],
        "prescription_item": [
            {"org_code": "C201", "rx_no": rx, "item_no": i, "encounter_id": e, "rx_at": shanghai(DAY), "is_antibiotic": a}
            for rx, i, e, a in (("X1", 1, "centre", True), ("X1", 2, "centre", False), ("X2", 1, "centre", None))
        ] + [{"org_code": "H001", "rx_no": "X3", "item_no": 1, "encounter_id": "emergency", "rx_at": shanghai(DAY),
              "is_antibiotic": True}],
    }  # fmt: skip


def laboratory_and_devices() -> dict[str, list[dict[str, Any]]]:
    def report(
        key: str, flag: str, at: datetime, value: float | None = 7.1
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        head = {"org_code": "H001", "report_id": key, "requesting_org_code": "C201", "patient_local_id": "L-C201",
                "reported_at": at}  # fmt: skip
        return head, {"org_code": "H001", "report_id": key, "seq": 1, "item_code": "K", "item_name": "血钾",
                      "value_num": value, "abnormal_flag": flag}  # fmt: skip

    made = [
        report("hh1", "HH", shanghai(DAY, 8)),
        report("hh2", "LL", shanghai(DAY, 9)),
        report("high", "H", shanghai(DAY, 9)),
        report("old", "HH", shanghai(WEEK_AGO, 9)),
        report("text", "N", shanghai(DAY, 9), None),
    ]
    reading = {"org_code": "C201", "device_id": "D1", "unit": "%", "metric_code": "59408-5"}
    return {
        "lab_report": [r for r, _ in made],
        "lab_result": [r for _, r in made],
        "device_binding": [
            {
                "device_id": "D1",
                "archive_id": "A-standard",
                "valid_from": shanghai(LONG_AGO),
                "valid_to": shanghai(DAY, 12),
            },
            {"device_id": "D1", "archive_id": "A-new_card", "valid_from": shanghai(DAY, 12)},
            # given on without ending the binding before: the later one counts, and no reading counts twice
            {"device_id": "D2", "archive_id": "A-lost_this_year", "valid_from": shanghai(LONG_AGO)},
            {"device_id": "D2", "archive_id": "A-never_examined", "valid_from": shanghai(DAY, 8)},
            {
                "device_id": "D3",
                "archive_id": "A-two_of_three",
                "valid_from": shanghai(LONG_AGO),
                "valid_to": shanghai(DAY, 8),
            },
        ],
        "vital_reading": [
            reading | {"seq": 1, "value": 89.0, "device_at": shanghai(DAY, 11)},
            reading | {"seq": 2, "value": 97.0, "device_at": shanghai(DAY, 10)},
            reading | {"seq": 3, "value": 90.0, "device_at": shanghai(DAY, 12)},
            reading | {"seq": 4, "value": 20.0, "device_at": shanghai(DAY, 13), "quality_code": "bad"},
            reading | {"device_id": "D2", "seq": 1, "value": 95.0, "device_at": shanghai(DAY, 9)},
            reading | {"device_id": "D3", "seq": 1, "value": 95.0, "device_at": shanghai(DAY, 9)},
        ],
    }


def quality() -> dict[str, list[dict[str, Any]]]:
    def left_out(product: str, table: str, key: str, org: str = "C201") -> dict[str, Any]:
        return {"product": product, "table_name": table, "org_code": org, "record_key": key}

    return {
        "quality.exclusion": [
            left_out("chronic_disease", "htn_card", "K-card_excluded"),
            left_out("chronic_disease", "ph_archive", "A-archive_excluded"),
            left_out("chronic_disease", "htn_visit", "V-last_visit_excluded-1"),
            left_out("chronic_disease", "htn_card", "K-standard", "C299"),  # another institution's key of the same name
            left_out("elderly_exam", "htn_card", "K-standard"),  # another product's
            left_out("elderly_exam", "ph_exam", "E-e_left_out", "C203"),
        ],
        "quality.scorecard": [
            {"data_date": DAY, "org_code": "C202", "domain": "HTN", "eligible": 300, "findings": 30, "score": 90.0},
            {"data_date": DAY, "org_code": "C202", "domain": "ARC", "eligible": 100, "findings": 50, "score": 50.0},
        ] + [
            {"data_date": d, "org_code": "C201", "domain": domain, "eligible": e, "findings": f, "score": s}
            for d, domain, e, f, s in (
                (DAY, "HTN", 300, 30, 90.0),
                (DAY, "ARC", 100, 50, 50.0),
                (DAY, "ALL", 400, 80, 77.0),
                (WEEK_AGO, "HTN", 100, 100, 0.0),
                (DAY + timedelta(days=1), "HTN", 100, 100, 0.0),
            )
        ],
        "quality.finding": [
            {"finding_id": i, "table_name": "htn_visit", "record_key": "V-standard-0", "severity": s, "state": st,
             "org_code": "C201"}
            for i, s, st in (("f1", "error", "open"), ("f2", "warn", "open"), ("f3", "error", "closed"))
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The candidate file of the day, open for reading."""
    from lake import ops
    from lake.settings import settings
    from products import build

    home: Path = tmp_path_factory.mktemp("indicators") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        patch.setenv("MEDLAKE_DEMO_RESIDENTS", "1000")
        settings.cache_clear()
        ops._engine.cache_clear()
        content: dict[str, list[dict[str, Any]]] = {}
        for part in (
            chronic(),
            elders(),
            several_archives(),
            diabetes(),
            operations(),
            laboratory_and_devices(),
            quality(),
        ):
            for table, rows in part.items():
                content.setdefault(table, []).extend(rows)
        content["dm_visit"] = [
            {"org_code": "C204", "visit_id": f"V-{a}", "archive_id": f"A-{a}", "visited_on": AUTUMN, "visit_way_code": "1",
             "fbg_mmol_l": f}
            for a, f in (("standard", 6.9), ("two_of_three", 7.0), ("new_card", None))
        ]  # fmt: skip
        for row, archive in zip(
            content["dm_card"], ("standard", "two_of_three", "new_card", "lost_this_year"), strict=True
        ):
            row["archive_id"] = f"A-{archive}"
        content["person_identifier"] += [
            link("standard", "his", "H001", "L1"),
            link("standard", "his", "C201", "L1"),
            link("standard", "his", "C201", "L-C201"),
            link("two_of_three", "his", "C201", "L1", valid_to=WEEK_AGO),  # an undone link
        ]
        content.setdefault("person", []).extend(
            [
                resident("nobody_knows_when_born", birth_date=None),
                resident("a_hundred", birth_date=date(1926, 1, 1)),
            ]
        )
        write(DAY, content)
        deliver("his", DAY, ["H001"])
        deliver("lis", WEEK_AGO, ["H001", "H101"])
        deliver("fhir", WEEK_AGO, ["H001"])
        report = build(DAY)
        assert report["failed"] == [], report
        with duck.connect(report["path"], read_only=True) as con:
            yield con
        settings.cache_clear()
        ops._engine.cache_clear()


def one(con: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> Any:
    rows = con.execute(sql, list(values)).fetchall()
    assert len(rows) == 1, rows
    return rows[0][0] if len(rows[0]) == 1 else rows[0]


def htn(con: duckdb.DuckDBPyConnection, column: str, name: str) -> Any:
    return one(
        con,
        f"SELECT {column} FROM gold.htn_management WHERE person_token = ? AND org_code = 'C201'",
        token("person", name),
    )


@pytest.mark.parametrize(("name", "expected"), CONTROLLED.items())
def test_blood_pressure_control(gold: duckdb.DuckDBPyConnection, name: str, expected: bool) -> None:
    """PH10: the year's last follow-up, under 140/90, from the 65th birthday on under 150/90; lost is not controlled."""
    assert htn(gold, "is_controlled", name) is expected


@pytest.mark.parametrize(("name", "expected"), STANDARD.items())
def test_management_to_standard(gold: duckdb.DuckDBPyConnection, name: str, expected: bool) -> None:
    """PH09: face-to-face follow-ups pro-rated over the year, and an examination within 365 days."""
    assert htn(gold, "is_standard_managed", name) is expected


@pytest.mark.parametrize(
    ("name", "due"), [("standard", 3), ("half_year_card_two_visits", 2), ("new_card", 0)]
)
def test_follow_ups_due_so_far(gold: duckdb.DuckDBPyConnection, name: str, due: int) -> None:
    assert htn(gold, "visits_due", name) == due


def test_excluded_records_leave_the_indicator_and_are_counted(gold: duckdb.DuckDBPyConnection) -> None:
    managed, excluded = one(
        gold,
        "SELECT managed, excluded FROM gold.chronic_management WHERE disease = 'htn' AND org_code = 'C201'",
    )
    assert managed == len(HTN) - 2, "the excluded card and the card of an excluded archive"
    assert excluded == 3, "two cards and one follow-up"
    assert htn(gold, "is_excluded", "card_excluded") and htn(gold, "is_excluded", "archive_excluded")
    assert htn(gold, "excluded_visits", "last_visit_excluded") == 1
    assert htn(gold, "last_sbp_mmhg", "last_visit_excluded") == 120, (
        "the one before it is the last that counts"
    )


def test_another_products_or_institutions_exclusion_changes_nothing(gold: duckdb.DuckDBPyConnection) -> None:
    assert htn(gold, "is_excluded", "standard") is False


def test_only_cards_active_on_the_day_are_managed(gold: duckdb.DuckDBPyConnection) -> None:
    token_ = token("person", "standard")
    found = gold.execute(
        "SELECT org_code FROM gold.htn_management WHERE person_token = ? ORDER BY 1", [token_]
    ).fetchall()
    assert found == [("C201",), ("C202",)], "not the one ended by the day, not the one opened after it"


def test_rates_roll_up_as_sums_over_sums(gold: duckdb.DuckDBPyConnection) -> None:
    rows = {
        org: (num, den, value)
        for org, num, den, value in gold.execute(
            "SELECT org_code, numerator, denominator, value FROM gold.indicator WHERE indicator_code = 'PH10'"
        ).fetchall()
    }
    assert rows["C202"][:2] == (1, 1)
    assert rows["ALL"][0] == rows["C201"][0] + rows["C202"][0]
    assert rows["ALL"][1] == rows["C201"][1] + rows["C202"][1] + rows["C206"][1]
    assert rows["ALL"][2] == round(100 * rows["ALL"][0] / rows["ALL"][1], 2)
    average = (rows["C201"][2] + rows["C202"][2]) / 2
    assert abs(rows["ALL"][2] - average) > 1, "or the test could not tell the two apart"


def test_glucose_control_of_type_2_only(gold: duckdb.DuckDBPyConnection) -> None:
    """PH12: under 7.0; without a value not controlled; type 1 is not in the indicator."""
    found = gold.execute(
        "SELECT last_fbg_mmol_l, is_controlled FROM gold.dm_management ORDER BY 1 NULLS LAST"
    ).fetchall()
    assert found == [(6.9, True), (7.0, False), (None, False)]


def test_somebody_with_both_diseases_counts_once_on_the_wall(gold: duckdb.DuckDBPyConnection) -> None:
    """Type 1 cards are not counted, nor is anybody twice."""
    assert one(gold, "SELECT value FROM gold.wall_kpi WHERE kpi_code = 'managed'") == len(HTN) + 1


@pytest.mark.parametrize(
    ("code", "value", "delta"),
    [
        ("encounters", 3, 50.0),  # midnight belongs to the day, the second before does not; two a week ago
        ("emergencies", 1, None),  # none a week ago: no change to tell
        ("inpatients", 1, 0.0),  # in_bed both days; left_today is gone by the end of the day
        ("total_fee", 2.02, 10000.0),  # in 10,000 yuan
        ("insurance_pay", 0.01, 0.0),
    ],
)
def test_wall_cards(gold: duckdb.DuckDBPyConnection, code: str, value: float, delta: float | None) -> None:
    found = one(gold, "SELECT value, delta_pct FROM gold.wall_kpi WHERE kpi_code = ?", code)
    assert found == (value, delta)


def test_local_day_and_hour(gold: duckdb.DuckDBPyConnection) -> None:
    days = dict(gold.execute("SELECT visit_date, sum(encounters) FROM gold.daily_encounter WHERE org_code = 'H001'"
                             " AND class_code = 'AMB' GROUP BY 1").fetchall())  # fmt: skip
    assert days == {DAY: 1, DAY - timedelta(days=1): 1}
    cells = gold.execute(
        "SELECT weekday_no, hour, encounters FROM gold.hourly_heat WHERE encounters > 0"
    ).fetchall()
    assert (5, 0, 1) in cells, "Friday 00:00"
    assert (4, 23, 1) in cells, "Thursday 23:59:59"
    assert one(gold, "SELECT count(*), sum(encounters) FROM gold.hourly_heat") == (168, 9)


def test_main_diagnosis_is_the_first(gold: duckdb.DuckDBPyConnection) -> None:
    assert one(gold, "SELECT main_icd10_code FROM gold.fct_encounter WHERE class_code = 'EMER'") == "I10"


def test_tomorrow_is_not_built(gold: duckdb.DuckDBPyConnection) -> None:
    assert one(gold, "SELECT max(started_on) FROM gold.fct_encounter") == DAY


def test_an_undone_link_gives_nobody(gold: duckdb.DuckDBPyConnection) -> None:
    tokens = gold.execute("SELECT DISTINCT person_token FROM gold.fct_encounter").fetchall()
    assert tokens == [(token("person", "standard"),)]


def test_referrals_of_ninety_days_without_rejected_ones(gold: duckdb.DuckDBPyConnection) -> None:
    found = gold.execute(
        "SELECT from_org_name, direction_code, referrals FROM gold.referral_flow ORDER BY 2"
    ).fetchall()
    assert found == [("医湖市总医院", "down", 1), ("湖滨社区卫生服务中心", "up", 2)]


@pytest.mark.parametrize(
    ("code", "org", "numerator", "denominator"),
    [
        ("PH01", "C203", 5, 71),  # 1,000 residents x 0.07134; the dead one's archive is not active
        ("PH03", "C203", 5, 5),
        (
            "PH08",
            "C203",
            2,
            4,
        ),  # whole and without DR; not assessed does not count, nor does the left-out examination
        ("PH23", "C201", 320, 400),
        ("MG02", "ALL", 3, 6),
        ("MG03", "ALL", 1, 2),
        ("MG13", "H001", 7000, 10000),
        ("MG14", "C201", 4, 3),
        ("MG15", "C201", 1, 4),
        ("CL03", "C201", 1, 2),  # by prescription, not by item; the emergency's is no outpatient one
        ("CL07", "H001", 5, 2),  # four days, and in and out on one day is one
        ("CL09", "C201", 300, 3),
        ("CL10", "H001", 10000, 2),
    ],
)
def test_indicator_parts(
    gold: duckdb.DuckDBPyConnection, code: str, org: str, numerator: float, denominator: float
) -> None:
    found = one(
        gold,
        "SELECT numerator, denominator FROM gold.indicator WHERE indicator_code = ? AND org_code = ?",
        code,
        org,
    )
    assert found == (numerator, denominator)


def test_a_share_of_the_group_is_not_shown_for_one_institution(gold: duckdb.DuckDBPyConnection) -> None:
    found = gold.execute(
        "SELECT org_code FROM gold.indicator WHERE indicator_code IN ('MG02', 'MG03', 'MG11')"
    ).fetchall()
    assert set(found) == {("ALL",)}


def test_elderly_examination_says_what_is_missing(gold: duckdb.DuckDBPyConnection) -> None:
    rows = {
        t: (done, managed, complete, missing)
        for t, done, managed, complete, missing in gold.execute(
            "SELECT person_token, is_examined, is_health_managed, is_complete, missing_items_zh"
            " FROM gold.elderly_exam_summary WHERE org_code = 'C203'"
        ).fetchall()
    }
    named = {
        n: rows.get(token("person", n))
        for n in ("e_whole", "e_no_dr", "e_not_assessed", "e_left_out", "e_64", "e_dead")
    }
    assert named == {
        "e_whole": (True, True, True, ""),
        "e_no_dr": (True, True, False, "胸部DR"),
        "e_not_assessed": (True, False, False, "自理评估"),
        "e_left_out": (False, False, False, None),
        "e_64": None,
        "e_dead": None,
    }


def test_alerts_count_and_name_nobody(gold: duckdb.DuckDBPyConnection) -> None:
    found = {
        kind: (org, text, severity)
        for kind, org, text, severity in gold.execute(
            "SELECT alert_kind, org_short_name, text_zh, severity FROM gold.wall_alert ORDER BY text_zh"
        ).fetchall()
    }
    assert found["lab_critical"] == ("湖滨", "血钾危急值 2 例", "error"), (
        "HH and LL of the last seven days, not H"
    )
    assert found["bp_no_referral"] == ("湖滨", "随访血压≥180/110 未转诊 2 例", "error"), (
        "of thirty days, not the referred one"
    )
    assert found["uncontrolled_twice"] == ("湖滨", "高血压连续两次控制不满意未转诊 1 例", "warn")
    assert found["followup_overdue"] == ("湖滨", "慢病随访逾期两周以上 1 人", "info"), (
        "fifteen days past, not fourteen"
    )
    assert found["device_alarm"] == ("湖滨", "血氧饱和度过低报警 1 人", "warn"), (
        "89, not 90, not a bad reading"
    )
    assert found["late_delivery"] == ("全集团", "检验信息系统数据未送达，共 2 家机构", "warn"), (
        "FHIR has no daily delivery"
    )
    assert len(found) == 6


def test_a_reading_belongs_to_whom_the_device_was_bound_to_then(gold: duckdb.DuckDBPyConnection) -> None:
    found = dict(gold.execute("SELECT person_token, readings FROM gold.fct_vital_daily").fetchall())
    expected = {"standard": 2, "new_card": 1, "never_examined": 1}
    assert found == {token("person", name): n for name, n in expected.items()} | {None: 1}


def test_only_numeric_results_are_facts(gold: duckdb.DuckDBPyConnection) -> None:
    assert one(gold, "SELECT count(*), min(org_code), min(lab_org_code) FROM gold.fct_lab_result") == (
        4,
        "C201",
        "H001",
    )
    assert one(gold, "SELECT DISTINCT person_token FROM gold.fct_lab_result") == token("person", "standard")


def test_quality_score_is_the_newest_checks_own_line_or_weighs_its_domains(
    gold: duckdb.DuckDBPyConnection,
) -> None:
    score = "SELECT score, open_findings, error_findings FROM gold.quality_score WHERE org_code = ?"
    assert one(gold, score, "C201") == (77.0, 2, 1)
    assert one(gold, score, "C202") == (80.0, 0, 0)


def test_map_has_every_centre_once_and_colours_by_threshold(gold: duckdb.DuckDBPyConnection) -> None:
    assert one(gold, "SELECT count(*), count(DISTINCT org_code) FROM gold.district_map") == (18, 18)
    assert one(
        gold, "SELECT managed, standard_rate, fill FROM gold.district_map WHERE org_code = 'C205'"
    ) == (
        0,
        None,
        "#3a4a63",
    )
    assert one(gold, "SELECT fill FROM gold.district_map WHERE org_code = 'C202'") == "#1fb6a6"
    assert one(gold, "SELECT fill FROM gold.district_map WHERE org_code = 'C201'") == "#e5484d"


def test_nobodys_age_is_made_up_and_the_very_old_are_one_group(gold: duckdb.DuckDBPyConnection) -> None:
    ages = dict(gold.execute("SELECT person_token, age_years FROM gold.dim_person").fetchall())
    assert ages[token("person", "nobody_knows_when_born")] is None
    assert ages[token("person", "a_hundred")] == 90


def test_services_of_all_archives_count_once(gold: duckdb.DuckDBPyConnection) -> None:
    """One follow-up a day and disease whoever reports it, one managed resident, with the examination of either archive."""
    card = one(
        gold,
        "SELECT org_code, visits, face_to_face_visits, last_sbp_mmhg, is_standard_managed FROM gold.htn_management"
        " WHERE person_token = ?",
        token("person", "s_htn"),
    )
    assert card == ("C206", 3, 3, 150.0, True)


def test_an_elder_with_two_archives_is_one_elder(gold: duckdb.DuckDBPyConnection) -> None:
    elder = one(
        gold,
        "SELECT org_code, is_examined, exam_on FROM gold.elderly_exam_summary WHERE person_token = ?",
        token("person", "s_old"),
    )
    assert elder == ("C206", True, SUMMER)
