"""A waiver reaches the findings of its rule at its institution, and no others; it ends with its last day."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from quality import findings
from quality.rule import rulebook

DAY = date(2027, 2, 1)  # every rule's observation is over


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("""
        CREATE TEMP TABLE finding_now AS
        SELECT rule_id, 'htn_visit' AS table_name, key AS record_key, org AS org_code, NULL::VARCHAR AS doctor_id,
            NULL::VARCHAR AS empi_id, 'error' AS severity, 'sbp' AS field_list, '{}' AS observed, '{}' AS expected,
            '' AS message_zh, NULL::VARCHAR AS source_file, NULL::VARCHAR AS source_sheet, NULL::BIGINT AS source_line,
            false AS is_observing, 'show' AS effect
        FROM (VALUES ('HTN-022', 'V1', 'C201'), ('HTN-022', 'V2', 'C202'), ('HTN-009', 'V1', 'C201')) AS t(rule_id, key, org)
    """)
    return made


def _states(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    rows = connection.execute("SELECT rule_id, org_code, state FROM finding").fetchall()
    return {(rule, org): state for rule, org, state in rows}


def test_findings_under_a_waiver_are_waived_and_come_back(connection: duckdb.DuckDBPyConnection) -> None:
    held = "(SELECT 'HTN-022' AS rule_id, 'C201' AS org_code)"
    findings.merge(connection, rulebook(), DAY, None, held)
    assert _states(connection) == {
        ("HTN-022", "C201"): "waived", ("HTN-022", "C202"): "open", ("HTN-009", "C201"): "open",
    }  # fmt: skip
    connection.execute("CREATE TABLE before AS FROM finding")
    findings.merge(connection, rulebook(), date(2027, 9, 1), "before")
    assert set(_states(connection).values()) == {"open"}
    (again,) = connection.execute("SELECT sum(reopened) FROM finding").fetchall()
    assert again == (0,), "it was never closed"
