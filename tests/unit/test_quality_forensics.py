"""Screening on small made-up practices: what it finds, what it leaves alone, its statistics."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest
import yaml

from lake import access
from lake.errors import MedlakeError
from quality.forensics import days_of, quarter_before
from quality.forensics.screen import screen, visits_sql
from quality.forensics.statistics import chi_square, q_values

FIRST, LAST = date(2026, 7, 1), date(2026, 9, 30)


@pytest.fixture(scope="module")
def found() -> list[dict[str, object]]:
    """Twenty ordinary doctors, and one each who: rounds, stays under the limit, copies, repeats, works at month's end."""
    connection = duckdb.connect()
    connection.execute("""
        CREATE TABLE raw AS
        WITH base AS (
            SELECT d, v, hash(d * 1000 + v) AS h, 'C201' AS org_code, 'D' || d AS doctor_id,
                'D' || d || 'A' || v AS archive_id, v::VARCHAR AS visit_id
            FROM range(26) AS a(d), range(120) AS b(v)
        )
        SELECT org_code, doctor_id, archive_id, visit_id,
            CASE WHEN d = 25 THEN DATE '2026-07-29' + (v % 3)::INTEGER + INTERVAL 1 MONTH * (v % 2)
                 ELSE DATE '2026-07-01' + (v * 92 // 120)::INTEGER END::DATE AS visited_on,
            CASE d WHEN 21 THEN 110 + 10 * (h % 6) WHEN 22 THEN 136 + h % 4 WHEN 24 THEN 128 ELSE 115 + h % 50 END::DOUBLE
                AS sbp_mmhg,
            CASE d WHEN 24 THEN 78 ELSE 65 + (h // 64) % 30 END::DOUBLE AS dbp_mmhg,
            CASE d WHEN 23 THEN 72 ELSE 60 + (h // 4096) % 40 END::DOUBLE AS heart_rate_bpm,
            CASE d WHEN 23 THEN 65.5 ELSE 50 + (h // 65536) % 40 END::DOUBLE AS weight_kg,
            CASE d WHEN 23 THEN 24.1 ELSE 20 + (h // 262144) % 10 END::DOUBLE AS bmi,
            CASE d WHEN 23 THEN 30 ELSE (h // 1048576) % 60 END::DOUBLE AS exercise_min,
            CASE d WHEN 23 THEN 5 ELSE (h // 8388608) % 20 END::DOUBLE AS smoke_per_day,
            CASE d WHEN 23 THEN '无' ELSE (h // 16777216 % 5)::VARCHAR END AS symptoms,
            CASE d WHEN 23 THEN '1' ELSE (h // 33554432 % 4)::VARCHAR END AS med_compliance_code,
            CASE d WHEN 23 THEN '1' ELSE (h // 67108864 % 4)::VARCHAR END AS visit_class_code,
            CASE d WHEN 23 THEN '1' ELSE (h // 134217728 % 3)::VARCHAR END AS visit_way_code,
            CASE d WHEN 23 THEN '1' ELSE (h // 268435456 % 3)::VARCHAR END AS salt_level_code,
            CASE d WHEN 23 THEN '1' ELSE (h // 536870912 % 3)::VARCHAR END AS psych_code,
            CASE d WHEN 23 THEN '1' ELSE (h // 1073741824 % 3)::VARCHAR END AS obey_code,
            CASE d WHEN 23 THEN '氨氯地平' ELSE h::VARCHAR END AS drugs,
            CASE d WHEN 23 THEN '1' ELSE (h // 4294967296 % 3)::VARCHAR END AS visit_effect_code,
            CASE d WHEN 23 THEN '无' ELSE h::VARCHAR END AS aux_check
        FROM base
        UNION ALL BY NAME
        SELECT 'C202' AS org_code, 'D99' AS doctor_id, 'X' || range AS archive_id, 'X' || range AS visit_id,
            DATE '2026-08-12' AS visited_on, NULL::DOUBLE AS sbp_mmhg
        FROM range(90)
    """)
    columns = {c[0] for c in connection.execute("DESCRIBE raw").fetchall()}
    connection.execute("CREATE TABLE visit AS " + visits_sql("htn", "raw", columns, FIRST, LAST))
    return screen(connection, "2026Q3", LAST, LAST).to_pylist()


def doctors(found: list[dict[str, object]], test: str) -> set[object]:
    return {r["doctor_id"] for r in found if r["test"] == test}


@pytest.mark.parametrize(
    ("test", "doctor"),
    [("digit", "D21"), ("limit", "D22"), ("copy_day", "D23"), ("identical", "D24"), ("month_end", "D25"), ("day", "D99")],
)  # fmt: skip
def test_a_habit_is_found_in_the_test_that_looks_for_it(
    found: list[dict[str, object]], test: str, doctor: str
) -> None:
    assert doctor in doctors(found, test)


def test_ordinary_doctors_are_left_alone(found: list[dict[str, object]]) -> None:
    ordinary = {f"D{i}" for i in range(21)}
    assert not {r["doctor_id"] for r in found} & ordinary


def test_a_lead_tells_what_was_seen_and_how_sure(found: list[dict[str, object]]) -> None:
    lead = next(r for r in found if r["test"] == "digit" and r["doctor_id"] == "D21")
    assert (lead["org_code"], lead["quarter"], lead["n"]) == ("C201", "2026Q3", 120)
    assert "末位0占100%" in str(lead["note_zh"])
    assert "按5类检验" in str(lead["note_zh"])  # only even readings: the meter may not show others
    assert lead["p"] <= lead["q_value"] <= 0.05  # type: ignore[operator]


def test_the_chi_square_of_a_known_table() -> None:
    statistic, tail = chi_square(np.asarray([[10.0] * 10, [55.0] + [5.0] * 9]))
    assert statistic.tolist() == [0.0, 225.0]
    assert tail[0] == 1.0
    assert tail[1] < 1e-40


def test_benjamini_and_hochberg_by_hand() -> None:
    got = q_values(np.asarray([0.04, 0.01, 0.03, 0.5]))
    assert got.tolist() == pytest.approx([0.16 / 3, 0.04, 0.16 / 3, 0.5])


@pytest.mark.parametrize(
    ("quarter", "first", "last"),
    [("2026Q1", date(2026, 1, 1), date(2026, 3, 31)), ("2026Q4", date(2026, 10, 1), date(2026, 12, 31))],
)
def test_days_of_a_quarter(quarter: str, first: date, last: date) -> None:
    assert days_of(quarter) == (first, last)


@pytest.mark.parametrize("quarter", ["2026", "2026Q5", "2026q1", "2026Q1' OR 1=1"])
def test_another_spelling_is_refused(quarter: str) -> None:
    with pytest.raises(MedlakeError, match="E454"):
        days_of(quarter)


@pytest.mark.parametrize(
    ("day", "quarter"),
    [(date(2026, 10, 10), "2026Q3"), (date(2026, 12, 31), "2026Q3"), (date(2027, 1, 10), "2026Q4")],
)
def test_the_quarter_before_a_day_is_over(day: date, quarter: str) -> None:
    assert quarter_before(day) == quarter
    assert days_of(quarter)[1] < day


def test_a_lead_is_read_by_whom_its_fields_levels_let() -> None:
    fields = yaml.safe_load(
        (Path(__file__).parents[2] / "catalog" / "derived_tables.yaml").read_text("utf-8")
    )
    given = {f["name"]: f["level"] for f in fields["quality/forensic_lead"]["fields"]}
    assert {f: access.level("quality/forensic_lead", f, given) for f in given} == given
    assert access.level("quality/forensic_lead", "note_zh") == 3
    assert access.level("quality/forensic_lead", "anything_new") == access.policy().unknown_level
