"""What each rule says about a resident: at most one institution a rule, its date, and where that is written.

Tables made here have one row a resident: ``by_address``, ``by_contract``, ``by_service``, each
``(empi_id, org_code, on_date, basis, from_org_code, is_tied)``. A tied rule names no institution.
"""

from __future__ import annotations

from datetime import date

import duckdb

from empi.archives.rules import Rules
from empi.sources import as_date
from lake.runs import Run

COLUMNS = "empi_id, org_code, on_date, basis, from_org_code, is_tied"

#: The newest address that says the town surely; only without any such the newest that says it less surely. Two
#: institutions named at the same instant are a tie.
_ADDRESS = """
CREATE OR REPLACE TABLE by_address AS
WITH ranked AS (
    SELECT *, rank() OVER (PARTITION BY empi_id ORDER BY strength NOT IN ('stated', 'village'), updated_at DESC) AS place
    FROM said)
SELECT empi_id, CASE WHEN min(org_code) = max(org_code) THEN min(org_code) END AS org_code, max(said_on) AS on_date,
       arg_min(source_system || '/' || strength, rec_no) AS basis, arg_min(from_org_code, rec_no) AS from_org_code,
       min(org_code) <> max(org_code) AS is_tied
FROM ranked WHERE place = 1 GROUP BY empi_id
"""
#: A contract is in force from its start (else the day it was signed) to its end, unless it was cancelled by then.
_CONTRACT = """
CREATE OR REPLACE TABLE contract AS
SELECT m.empi_id, m.org_code, m.archive_id, coalesce(o.managing_org_code, c.org_code) AS signed_with, c.signed_on
FROM silver.fd_contract c JOIN known_archive m ON m.archive_id = c.archive_id AND (m.org_code = c.org_code OR m.is_sole)
LEFT JOIN org o ON o.org_code = c.org_code
WHERE c.status_code = 'active' AND coalesce(c.starts_on, c.signed_on) <= {today}
      AND coalesce(c.ends_on, {today}) >= {today} AND (c.cancelled_on IS NULL OR c.cancelled_on > {today})
"""
_BY_CONTRACT = """
CREATE OR REPLACE TABLE by_contract AS
WITH ranked AS (SELECT *, rank() OVER (PARTITION BY empi_id ORDER BY signed_on DESC) AS place FROM contract)
SELECT empi_id, CASE WHEN min(signed_with) = max(signed_with) THEN min(signed_with) END AS org_code,
       max(signed_on) AS on_date, 'fd_contract' AS basis, min(signed_with) AS from_org_code,
       min(signed_with) <> max(signed_with) AS is_tied
FROM ranked WHERE place = 1 GROUP BY empi_id
"""
#: A service belongs to the archive of its own institution with that number, else to the only archive that has it.
_SERVICE = """
SELECT m.empi_id, m.org_code, m.archive_id, coalesce(o.managing_org_code, s.org_code) AS done_at, s.{on} AS done_on,
       '{table}' AS basis, {face} AS is_face_to_face
FROM silver.{table} s JOIN known_archive m ON m.archive_id = s.archive_id AND (m.org_code = s.org_code OR m.is_sole)
LEFT JOIN org o ON o.org_code = s.org_code WHERE s.{on} <= {today}
"""
_CLINIC = """
SELECT w.empi_id, NULL AS org_code, NULL AS archive_id, o.managing_org_code AS done_at,
       CAST(timezone('Asia/Shanghai', s.{on}) AS DATE) AS done_on, '{table}' AS basis, true AS is_face_to_face
FROM silver.{table} s
JOIN wanted w ON w.source_system = 'his' AND w.org_code = s.org_code AND w.identifier_value = s.patient_local_id
JOIN org o ON o.org_code = s.org_code AND o.is_primary
WHERE s.class_code IN ({classes}) AND CAST(timezone('Asia/Shanghai', s.{on}) AS DATE) <= {today}
"""
_BY_SERVICE = """
CREATE OR REPLACE TABLE by_service AS
WITH ranked AS (SELECT *, rank() OVER (PARTITION BY empi_id ORDER BY done_on DESC) AS place
                FROM service WHERE is_face_to_face)
SELECT empi_id, CASE WHEN min(done_at) = max(done_at) THEN min(done_at) END AS org_code, max(done_on) AS on_date,
       min(basis) AS basis, min(done_at) AS from_org_code, min(done_at) <> max(done_at) AS is_tied
FROM ranked WHERE place = 1 GROUP BY empi_id
"""
_SERVICE_COLUMNS = (
    "empi_id VARCHAR, org_code VARCHAR, archive_id VARCHAR, done_at VARCHAR, done_on DATE, basis VARCHAR, "
    "is_face_to_face BOOLEAN"
)


def _texts(values: tuple[str, ...]) -> str:
    return ", ".join("'" + v.replace("'", "''") + "'" for v in values)


def gather(connection: duckdb.DuckDBPyConnection, run: Run, data_date: date, rules: Rules) -> None:
    """Make the three tables of evidence, ``contract`` and ``service``; a feed that is not connected says nothing."""
    today = as_date(data_date)
    connection.execute(_ADDRESS)
    # all archives of these residents, closed ones too: a service in an archive that was closed since has been given
    connection.execute(
        """CREATE OR REPLACE TABLE known_archive AS
        SELECT a.*, n.copies = 1 AS is_sole FROM archive a SEMI JOIN several USING (empi_id)
        JOIN (SELECT archive_id, count(*) AS copies FROM archive GROUP BY archive_id) n USING (archive_id)"""
    )
    if "silver/fd_contract" in run.versions:
        connection.execute(_CONTRACT.format(today=today))
    else:
        connection.execute(
            "CREATE OR REPLACE TABLE contract (empi_id VARCHAR, org_code VARCHAR, archive_id VARCHAR, "
            "signed_with VARCHAR, signed_on DATE)"
        )
    connection.execute(_BY_CONTRACT)
    parts = [
        _SERVICE.format(
            table=s.table,
            on=s.on,
            today=today,
            face=f"coalesce(s.{s.way} IN ({_texts(rules.face_to_face_ways)}), false)" if s.way else "true",
        )
        for s in rules.services
        if f"silver/{s.table}" in run.versions
    ]
    if f"silver/{rules.clinic_table}" in run.versions:
        classes = _texts(rules.clinic_classes)
        parts.append(
            _CLINIC.format(table=rules.clinic_table, on=rules.clinic_on, classes=classes, today=today)
        )
    connection.execute(f"CREATE OR REPLACE TABLE service ({_SERVICE_COLUMNS})")
    for part in parts:
        connection.execute(f"INSERT INTO service {part}")
    connection.execute(_BY_SERVICE)
