"""The simulated care hangs together: disease, follow-ups, drugs, laboratory, encounters and deaths agree."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from simulator.city import _build

END = date(2026, 11, 20)


@pytest.fixture(scope="module")
def city() -> duckdb.DuckDBPyConnection:
    built = _build(5000, 3, END, 3, 3, "default")
    con = duckdb.connect()
    for name, table in built.world.tables.items():
        con.register(name, table)
    con.register("resident", built.city.residents)
    con.register("registration", built.city.registrations)
    con.register("fault", built.world.truth())
    return con


def one(con: duckdb.DuckDBPyConnection, sql: str) -> float:
    row = con.execute(sql).fetchone()
    assert row is not None
    return float(row[0] or 0)


def test_nearly_everybody_managed_is_seen_four_times_a_year(city: duckdb.DuckDBPyConnection) -> None:
    share = one(city, """
        WITH seen AS (
            SELECT archive_id, count(*) AS n FROM htn_visit WHERE year(visited_on) = 2025 AND visit_way_code <> '3' GROUP BY 1)
        SELECT avg((coalesce(n, 0) >= 4)::INT) FROM htn_card LEFT JOIN seen USING (archive_id)
        WHERE status_code = 'active' AND carded_on < DATE '2025-01-01'""")  # fmt: skip
    assert 0.9 < share < 1


def test_control_rates_are_those_of_primary_care(city: duckdb.DuckDBPyConnection) -> None:
    for table in ("htn_visit", "dm_visit"):
        controlled = one(city, f"SELECT avg((visit_class_code = '1')::INT) FROM {table}")
        assert 0.5 < controlled < 0.85, table


def test_treatment_is_stepped_up_after_referral(city: duckdb.DuckDBPyConnection) -> None:
    before, after = (
        one(city, f"SELECT avg(len(string_split(drugs, '、'))) FROM htn_visit WHERE is_referred = {flag}")
        for flag in ("false", "true")
    )
    assert after > before
    unexplained = """SELECT count(*) FROM htn_visit v WHERE drugs IS NULL AND NOT EXISTS (
        SELECT 1 FROM fault f WHERE f.table_name = 'htn_visit' AND f.record_key = v.visit_id)"""
    assert one(city, unexplained) == 0  # an injected fault takes them away


def test_encounters_belong_to_patients_of_the_same_institution(city: duckdb.DuckDBPyConnection) -> None:
    for table, org in (
        ("encounter", "org_code"),
        ("(FROM lab_report WHERE encounter_id IS NOT NULL)", "requesting_org_code"),
        ("referral", "from_org_code"),
    ):
        orphans = one(
            city,
            f"SELECT count(*) FROM {table} AS t ANTI JOIN patient AS p "
            f"ON p.org_code = t.{org} AND p.patient_local_id = t.patient_local_id",
        )
        assert orphans == 0, table
    assert (
        one(
            city,
            "SELECT count(*) FROM encounter AS e JOIN registration AS r ON r.local_id = e.patient_local_id "
            "AND r.org_code = e.org_code AND r.source_system = 'his' WHERE e.started_at::DATE < r.registered_on",
        )
        == 0
    )
    for table in ("diagnosis", "prescription_item"):
        assert (
            one(city, f"SELECT count(*) FROM {table} ANTI JOIN encounter USING (org_code, encounter_id)") == 0
        )


def test_who_is_no_patient_is_registered_with_the_laboratory_or_the_image_archive(
    city: duckdb.DuckDBPyConnection,
) -> None:
    for table, org, system in (
        ("lab_report", "requesting_org_code", "lis"),
        ("imaging_instance", "org_code", "pacs"),
    ):
        strangers = (
            f"(SELECT {org} AS org, patient_local_id AS id FROM {table} ANTI JOIN patient AS p "
            f"ON p.org_code = {table}.{org} AND p.patient_local_id = {table}.patient_local_id)"
        )
        known = f"(SELECT org_code AS org, local_id AS id FROM registration WHERE source_system = '{system}')"
        assert one(city, f"SELECT count(*) FROM {strangers} ANTI JOIN {known} USING (org, id)") == 0, table
        assert one(city, f"SELECT count(*) FROM {strangers}") > 0, table


def test_volume_is_two_encounters_a_year_and_mondays_lead(city: duckdb.DuckDBPyConnection) -> None:
    per_year = one(
        city,
        f"SELECT count(DISTINCT encounter_id || org_code) / 5000 / 3 FROM encounter WHERE deliver_on <= DATE '{END}'",
    )
    assert 1.7 < per_year < 2.3
    monday, sunday = (
        one(city, f"SELECT count(*) FROM encounter WHERE isodow(started_at) = {day}") for day in (1, 7)
    )
    assert monday > 1.7 * sunday
    night, morning = (
        one(city, f"SELECT count(*) FROM encounter WHERE class_code = 'AMB' AND hour(started_at) = {h}")
        for h in (3, 9)
    )
    assert morning > 50 * max(night, 1)


def test_winter_brings_respiratory_infections(city: duckdb.DuckDBPyConnection) -> None:
    winter, summer = (
        one(city, f"SELECT avg((icd10_code LIKE 'J%')::INT) FROM diagnosis WHERE month(dx_at) IN ({months})")
        for months in ("12, 1", "6, 7")
    )
    assert winter > 1.3 * summer


def test_diabetics_have_the_glucose_of_diabetics(city: duckdb.DuckDBPyConnection) -> None:
    ill, others = (
        one(city, f"""SELECT median(value_text::DOUBLE) FROM lab_result WHERE item_code = 'HBA1C'
            AND {flag} resident IN (SELECT resident FROM dm_card)""") for flag in ("", "NOT")
    )  # fmt: skip
    assert ill > 6.0 > others


def test_laboratory_and_examination_of_one_day_agree(city: duckdb.DuckDBPyConnection) -> None:
    rows = city.execute("""
        SELECT e.fbg_mmol_l, r.value_text::DOUBLE FROM ph_exam AS e
        JOIN lab_report AS l ON l.resident = e.resident AND l.panel_code = 'P20' AND l.collected_at::DATE = e.exam_on
        JOIN lab_result AS r ON r.org_code = l.org_code AND r.report_id = l.report_id AND r.item_code = 'FPG'""").fetchall()
    assert len(rows) > 50
    assert sum(a == b for a, b in rows) / len(rows) > 0.97  # the rest are injected copies and wrong units


def test_flags_and_ranges_fit_the_values(city: duckdb.DuckDBPyConnection) -> None:
    wrong = one(city, """
        WITH r AS (SELECT TRY_CAST(value_text AS DOUBLE) AS v, TRY_CAST(split_part(ref_range_text, '-', 1) AS DOUBLE) AS low,
            TRY_CAST(split_part(ref_range_text, '-', 2) AS DOUBLE) AS high, abnormal_flag AS f
            FROM lab_result AS l ANTI JOIN fault AS t  -- but those that were made wrong
                ON t.rule_id IN ('LIS-008', 'LIS-009', 'LIS-011') AND t.org_code = l.org_code AND t.record_key = l.report_id
            WHERE ref_range_text LIKE '%-%')
        SELECT count(*) FROM r WHERE (v < low) <> (f IN ('L', 'LL')) OR (v > high) <> (f IN ('H', 'HH'))""")  # fmt: skip
    assert wrong == 0
    assert one(city, "SELECT count(*) FROM lab_result WHERE abnormal_flag IN ('LL', 'HH')") > 0


def test_nobody_is_treated_after_death(city: duckdb.DuckDBPyConnection) -> None:
    for table, day in (
        ("htn_visit", "visited_on"),
        ("dm_visit", "visited_on"),
        ("ph_exam", "exam_on"),
        ("encounter", "started_at::DATE"),
    ):
        numbered = "(SELECT *, row_number() OVER () - 1 AS resident FROM resident)"
        late = one(
            city,
            f"SELECT count(*) FROM {table} AS t JOIN {numbered} AS r USING (resident) WHERE t.{day} > r.death_date",
        )
        assert late == 0, table


def test_the_dead_are_registered_and_mostly_closed(city: duckdb.DuckDBPyConnection) -> None:
    assert one(city, "SELECT count(*) FROM death_registry") == one(
        city, "SELECT count(*) FROM resident WHERE death_date <= DATE '2026-11-26'"
    )
    closed = one(city, f"""SELECT avg((status_code = '1')::INT) FROM ph_archive AS a JOIN death_registry AS d USING (resident)
        WHERE d.died_on < DATE '{END}' - 60 AND a.created_on <= d.died_on""")  # fmt: skip
    assert 0.7 < closed < 1


def test_device_readings_belong_to_bound_devices(city: duckdb.DuckDBPyConnection) -> None:
    assert (
        one(
            city,
            "SELECT count(*) FROM vital_reading AS v ANTI JOIN device_binding AS b "
            "ON b.device_id = v.device_id AND b.valid_from <= v.gateway_at "
            "ANTI JOIN (SELECT split_part(record_key, '|', 1) AS device_id FROM fault WHERE rule_id = 'IOT-002') AS t "
            "ON t.device_id = v.device_id",
        )
        == 0
    )
    assert one(city, "SELECT count(*) FROM device_binding ANTI JOIN ph_archive USING (archive_id)") == 0
    drifted = one(
        city, "SELECT avg((abs(epoch(device_at) - epoch(gateway_at)) > 600)::INT) FROM vital_reading"
    )
    assert 0 < drifted < 0.25
