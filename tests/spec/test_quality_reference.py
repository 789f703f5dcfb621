"""The reference's 206 rules are all there, those of hospitals too, and those on feeds that are not connected are not evaluated."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from lake.contracts import table_contract
from lake.settings import settings
from quality.engine import evaluate
from quality.generic import code_list
from quality.rule import OBSERVATION_DAYS, rulebook

AS_OF = date(2026, 11, 20)
#: Domain -> number of rules of the reference (``qc_rules.csv``); they are numbered from 001 without gaps.
REFERENCE = {"ARC": 32, "EXM": 30, "HTN": 29, "DM": 17, "CHD": 20, "MAT": 20, "SMI": 11, "TB": 8, "TCM": 5, "IDR": 14,
             "FDC": 7, "GEN": 10, "COPD": 3}  # fmt: skip
#: Rules of hospitals, that no reference lists: domain -> at least so many (sixty in all are asked for).
HOSPITALS = {"HIS": 20, "LIS": 18, "PAC": 10, "IOT": 11, "PHM": 13, "INS": 15}
#: Rules about work that was not done: to leave its patients out would raise the rate it should lower.
NOT_DONE = (
    "ARC-024 CHD-001 CHD-002 CHD-010 CHD-012 CHD-013 CHD-015 CHD-016 CHD-019 COPD-001 COPD-002 DM-009 DM-014 DM-016 "
    "EXM-020 EXM-030 FDC-004 FDC-007 HTN-005 HTN-010 HTN-024 HTN-025 IDR-001 IDR-004 IDR-005 IDR-012 MAT-006 MAT-007 "
    "MAT-011 MAT-015 MAT-016 MAT-017 SMI-002 SMI-003 SMI-004 SMI-005 SMI-009 TB-001 TB-002 TB-006 TB-007 TCM-001 TCM-004"
)


def test_every_rule_of_the_reference_has_an_entry() -> None:
    wanted = {f"{domain}-{n:03}" for domain, count in REFERENCE.items() for n in range(1, count + 1)}
    assert len(wanted) == 206
    assert {r.id for r in rulebook().rules} >= wanted


def test_hospitals_have_their_rules_and_none_of_them_excludes() -> None:
    mine = [r for r in rulebook().rules if r.domain in HOSPITALS]
    for domain, least in HOSPITALS.items():
        assert sum(r.domain == domain for r in mine) >= least, domain
    assert sum(HOSPITALS.values()) >= 60
    assert {effect for r in mine for t in r.targets for effect in t.products.values()} == {"show"}


@pytest.mark.parametrize("rule_id", NOT_DONE.split())
def test_work_not_done_shows_and_never_excludes(rule_id: str) -> None:
    assert all(set(t.products.values()) <= {"show"} for t in rulebook().rule(rule_id).targets)


def test_new_rules_observe_on_the_days_of_the_demo() -> None:
    young = [r for r in rulebook().rules if r.introduced_on >= date(2026, 11, 23)]
    # The forty of the first issue are in force already.
    assert sum(r.domain in REFERENCE for r in young) == 166
    assert {r.id for r in rulebook().rules if r.domain in HOSPITALS} <= {r.id for r in young}
    assert all(r.observing(date(2026, 12, 22)) and not r.observing(date(2026, 12, 23)) for r in young)


def test_no_rule_reads_a_clock() -> None:
    words = re.compile(r"\b(now|today|current_date|current_timestamp|get_current_time\w*)\b", re.IGNORECASE)
    for query in rulebook().queries.values():
        assert not words.search(query.sql), query.name
    for rule in rulebook().rules:
        for target in rule.targets:
            assert not words.search(f"{target.eligibility} {target.condition} {target.warn_when or ''}"), (
                rule.id
            )


def lake(connection: duckdb.DuckDBPyConnection, **tables: list[dict[str, Any]]) -> None:
    """Silver with these tables alone."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA silver")
    connection.execute("CREATE SCHEMA flags")
    for table, rows in tables.items():
        kinds = table_contract(table).silver_columns
        connection.execute(f"CREATE TABLE silver.{table} ({', '.join(f'{c} {k}' for c, k in kinds.items())})")
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO silver.{table} ({', '.join(row)}) VALUES ({marks})", list(row.values())
            )


def test_a_feed_that_is_not_connected_is_not_evaluated() -> None:
    """One archive and one card, and no feed behind them: no absence is a finding, and nothing is an error."""
    archive = {
        "archive_id": "A1",
        "org_code": "C201",
        "status_code": "0",
        "birth_date": "1950-01-01",
        "past_disease": "高血压",
    }
    card = {
        "card_id": "K1",
        "archive_id": "A1",
        "org_code": "C201",
        "status_code": "active",
        "carded_on": "2020-01-01",
    }
    with duckdb.connect() as connection:
        lake(connection, ph_archive=[archive], htn_card=[card])
        result = evaluate(connection, rulebook(), AS_OF)
        assert {"ph_archive", "htn_card"} <= set(result.rows)
        assert not {"child_card", "fd_contract", "encounter", "lab_report"} & set(result.rows)
        flags = connection.execute("SELECT * FROM flags.ph_archive").to_arrow_table().to_pylist()[0]
        for rule_id in ("ARC-022", "ARC-024", "EXM-020", "TCM-001", "FDC-007", "COPD-001", "GEN-004"):
            assert flags[rule_id] is None, rule_id
        evaluated = connection.execute(
            "SELECT coalesce(sum(evaluated), 0) FROM rule_count WHERE rule_id = 'ARC-024'"
        )
        assert evaluated.fetchall() == [(0,)]


def test_an_empty_lake_has_nothing_to_judge() -> None:
    with duckdb.connect() as connection:
        lake(connection)
        result = evaluate(connection, rulebook(), AS_OF)
        assert sum(result.rows.values()) == 0
        assert connection.execute("SELECT count(*) FROM finding_now").fetchall() == [(0,)]


def test_a_column_that_silver_does_not_have_yet_is_null() -> None:
    with duckdb.connect() as connection:
        lake(connection, ph_archive=[{"archive_id": "A1", "org_code": "C201", "status_code": "0"}])
        connection.execute("ALTER TABLE silver.ph_archive DROP COLUMN crowd_tags")
        evaluate(connection, rulebook().only("FDC-007", "ARC-020"), AS_OF)
        assert connection.execute('SELECT "FDC-007" FROM flags.ph_archive').fetchall() == [(None,)]


def visits(sbp: list[float], **more: Any) -> list[dict[str, Any]]:
    base = {
        "archive_id": "A1",
        "org_code": "C201",
        "doctor_id": "D1",
        "visited_on": "2026-08-05",
        "visit_way_code": "2",
    }
    return [{**base, **more, "visit_id": f"V{i}", "sbp_mmhg": p} for i, p in enumerate(sbp)]


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def test_a_doctor_who_rounds_is_found_by_the_quarter() -> None:
    honest = [float(120 + i % 30) for i in range(60)]
    rounded = [130.0, 140.0, 120.0] * 20
    with duckdb.connect() as connection:
        lake(
            connection,
            htn_visit=[
                *visits(honest),
                *({**v, "visit_id": f"W{i}", "doctor_id": "D2"} for i, v in enumerate(visits(rounded))),
            ],
        )
        evaluate(connection, rulebook().only("HTN-017", "HTN-019", "HTN-020"), AS_OF)
        found = rows(
            connection, "SELECT record_key, org_code, doctor_id, rule_id FROM finding_now ORDER BY ALL"
        )
        assert ("D2|2026-07-01", "C201", "D2", "HTN-017") in found
        assert not [f for f in found if f[3] == "HTN-017" and f[2] == "D1"]
        assert [f[0] for f in found if f[3] == "HTN-019"] == [
            "D1|2026-08-05",
            "D2|2026-08-05",
        ]  # 60 homes a day


def test_a_batch_with_inverted_rh_is_found() -> None:
    archives = [
        {
            "archive_id": f"A{i}",
            "org_code": "C201",
            "data_date": "2026-11-20",
            "status_code": "0",
            "blood_rh_code": "1" if i % 2 else "2",
        }
        for i in range(120)
    ]
    with duckdb.connect() as connection:
        lake(connection, ph_archive=archives)
        evaluate(connection, rulebook().only("ARC-031", "ARC-032"), AS_OF)
        found = rows(connection, "SELECT rule_id, table_name, record_key FROM finding_now ORDER BY ALL")
        assert found == [("ARC-031", "archive_batch", "2026-11-20"), ("ARC-032", "org_archives", "C201")]


@pytest.mark.parametrize(
    ("item", "value", "positive", "unconfirmed"),
    [("HIV抗体", "阳性", True, True), ("HIV-1抗体确证试验", "阳性", True, False), ("乙肝表面抗原", "阴性(-)", False, True),
     ("HCV-RNA", "+", True, False), ("结核分枝杆菌核酸", "阳性", True, False), ("TPPA", "弱阳性", True, True)],
)  # fmt: skip
def test_infection_tests_are_read(item: str, value: str, positive: bool, unconfirmed: bool) -> None:
    report = {
        "report_id": "R1",
        "org_code": "H101",
        "patient_local_id": "P9",
        "reported_at": "2026-05-01 09:00:00+08",
    }
    result = {
        "report_id": "R1",
        "seq": 1,
        "org_code": "H101",
        "item_name": item,
        "value_text": value,
        "source_line": 7,
    }
    with duckdb.connect() as connection:
        lake(connection, lab_report=[report], lab_result=[result], idr_card=[])
        evaluate(connection, rulebook().only("IDR-005"), AS_OF)
        found = rows(connection, "SELECT is_positive, needs_confirmation, source_line FROM infection_test")
        assert found == [(positive, unconfirmed, 7)]


def test_a_field_that_falls_empty_is_found_by_institution() -> None:
    def day(on: str, sbp: float | None, n: int) -> list[dict[str, Any]]:
        return [{**v, "visit_id": f"{on}{i}", "data_date": on} for i, v in enumerate(visits([sbp] * n))]  # type: ignore[list-item]

    with duckdb.connect() as connection:
        lake(connection, htn_visit=[*day("2026-11-10", 130.0, 80), *day("2026-11-18", None, 60)])
        evaluate(connection, rulebook().only("GEN-009"), AS_OF)
        assert rows(connection, "SELECT org_code, record_key FROM finding_now") == [
            ("C201", "htn_visit|sbp_mmhg")
        ]


def test_deliveries_are_held_against_the_same_weekday() -> None:
    days = [
        (date(2026, 9, 4).toordinal() + 7 * i, n)
        for i, n in enumerate([9000, 100, 104, 98, 101, 99, 103, 100, 102, 97, 12])
    ]
    with duckdb.connect() as connection:
        lake(connection, ph_archive=[])
        connection.execute(
            "CREATE TABLE silver.delivered (org_code VARCHAR, of_table VARCHAR, day_on DATE, records BIGINT)"
        )
        for ordinal, n in days:
            connection.execute(
                "INSERT INTO silver.delivered VALUES ('C201', 'htn_visit', ?, ?)",
                [date.fromordinal(ordinal), n],
            )
        evaluate(connection, rulebook().only("GEN-008"), date.fromordinal(days[-1][0]))
        found = rows(connection, "SELECT records, usual, days_before FROM feed_day")
        assert found == [(12, 100.5, 8)]
        assert rows(connection, "SELECT rule_id FROM finding_now") == [("GEN-008",)]


def test_codes_come_from_the_seeds() -> None:
    assert code_list("visit_way") == ("1", "2", "3")
    assert code_list("region") == ()
    assert (settings().seeds_dir / "codes" / "visit_way.csv").is_file()


def test_nodes_know_how_long_a_rule_observes() -> None:
    from ingestion.edge.entry_sql import entry_rules

    known = {r.id: r for r in rulebook().rules}
    for told in entry_rules()[0]:
        rule = known[told["id"]]
        assert told["observe_until"] == str(rule.introduced_on + timedelta(days=OBSERVATION_DAYS))
