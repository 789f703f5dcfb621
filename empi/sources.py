"""Collect every registration of a person, one row each, from the run's pinned silver tables.

A *record* is a registration: ``(source_system, org_code, identifier_value)``. Registers come first (``his``,
``public_health``); a laboratory or imaging system adds a record only for a patient id that its institution's
HIS does not know. Its silver rows are messages, so the newest one that names the patient stands for the record.
"""

from __future__ import annotations

from datetime import date

import duckdb

from lake import duck
from lake.errors import MedlakeError
from lake.runs import Run

REGISTERS = ("silver/patient", "silver/ph_archive")
_SOURCES = (*REGISTERS, "silver/lab_report", "silver/imaging_instance", "silver/death_registry")

#: People's decisions on pairs of records, an optional input: ``must_link`` | ``cannot_link`` | ``unsure``.
DECISIONS = "silver/match_decision"

#: Columns of ``source_record`` that hold a value as the source gave it.
RAW_COLUMNS: dict[str, str] = {
    "name": "VARCHAR",
    "sex_code": "VARCHAR",
    "birth_date": "DATE",
    "id_no": "VARCHAR",
    "health_card_no": "VARCHAR",
    "insurance_no": "VARCHAR",
    "phone": "VARCHAR",
    "contact_name": "VARCHAR",
    "contact_phone": "VARCHAR",
    "mother_identifier": "VARCHAR",
    "addr_region_code": "VARCHAR",
    "addr_detail": "VARCHAR",
    "is_dead": "BOOLEAN",
    "death_date": "DATE",
    "updated_at": "TIMESTAMPTZ",
}

_HIS = """
    SELECT 'his' AS source_system, org_code, patient_local_id AS identifier_value, name, sex_code, birth_date,
           id_no, health_card_no, insurance_no, phone, contact_name, contact_phone, addr_detail,
           mother_patient_id AS mother_identifier, source_updated_at AS updated_at
    FROM silver.patient"""
_ARCHIVE = """
    SELECT 'public_health' AS source_system, org_code, archive_id AS identifier_value, name, sex_code, birth_date,
           id_no, phone, contact_name, contact_phone, addr_region_code, addr_detail, is_dead, death_date,
           source_updated_at AS updated_at
    FROM silver.ph_archive"""
_KNOWN = """
    WHERE NOT EXISTS (SELECT 1 FROM silver.patient p
                      WHERE p.org_code = m.org_code AND p.patient_local_id = m.identifier_value)"""
_LAB = """
    SELECT 'lis' AS source_system, org_code, identifier_value, name, sex_code, birth_date, id_no, phone, updated_at
    FROM (SELECT coalesce(requesting_org_code, org_code) AS org_code, patient_local_id AS identifier_value, name,
                 sex_code, birth_date, id_no, phone, reported_at AS updated_at, report_id
          FROM silver.lab_report WHERE patient_local_id IS NOT NULL) m{known}
    QUALIFY row_number() OVER (PARTITION BY org_code, identifier_value
                               ORDER BY name IS NULL, updated_at DESC, report_id) = 1"""
_IMAGE = """
    SELECT 'pacs' AS source_system, org_code, identifier_value, name, sex_code, birth_date, updated_at
    FROM (SELECT org_code, patient_local_id AS identifier_value, name, sex_code, birth_date,
                 study_at AS updated_at, sop_instance_uid
          FROM silver.imaging_instance WHERE patient_local_id IS NOT NULL) m{known}
    QUALIFY row_number() OVER (PARTITION BY org_code, identifier_value
                               ORDER BY name IS NULL, updated_at DESC, sop_instance_uid) = 1"""


def connect(run: Run) -> duckdb.DuckDBPyConnection:
    """A working connection with views ``silver.*`` on the run's versions of what linking reads.

    Raises:
        MedlakeError: E301, the run has no register.
    """
    present = {n: v for n, v in run.versions.items() if n in (*_SOURCES, DECISIONS)}
    if not any(r in present for r in REGISTERS):
        raise MedlakeError("E301", data_date=run.data_date)
    connection = duck.connect()
    duck.create_views(connection, present)
    return connection


def create_source_record(connection: duckdb.DuckDBPyConnection) -> None:
    """Make an empty table ``source_record`` (also used by tests and by whoever brings records of their own)."""
    columns = ", ".join(f"{name} {kind}" for name, kind in RAW_COLUMNS.items())
    connection.execute(
        "CREATE OR REPLACE TABLE source_record (rec_no INTEGER, source_system VARCHAR, org_code VARCHAR, "
        f"identifier_value VARCHAR, {columns})"
    )


def collect(connection: duckdb.DuckDBPyConnection, run: Run) -> int:
    """Fill ``source_record``; ``rec_no`` counts from 0 in the order of the key, so a run is repeatable.

    Returns the number of records.
    """
    known = _KNOWN if "silver/patient" in run.versions else ""
    parts = {
        "silver/patient": _HIS,
        "silver/ph_archive": _ARCHIVE,
        "silver/lab_report": _LAB.format(known=known),
        "silver/imaging_instance": _IMAGE.format(known=known),
    }
    selects = [sql for name, sql in parts.items() if name in run.versions]
    create_source_record(connection)
    connection.execute(
        "INSERT INTO source_record BY NAME SELECT row_number() OVER (ORDER BY source_system, org_code, "
        f"identifier_value) - 1 AS rec_no, * FROM ({' UNION ALL BY NAME '.join(selects)})"
    )
    return int(connection.execute("SELECT count(*) FROM source_record").fetchall()[0][0])


def collect_decisions(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Fill ``decision(rec_l, rec_r, decision)`` with people's decisions on records that are here."""
    connection.execute("CREATE OR REPLACE TABLE decision (rec_l INTEGER, rec_r INTEGER, decision VARCHAR)")
    if DECISIONS not in run.versions:
        return
    sides = " ".join(
        f"JOIN source_record {s} ON ({s}.source_system, {s}.org_code, {s}.identifier_value) = "
        f"(d.source_system_{s}, d.org_code_{s}, d.identifier_value_{s})"
        for s in ("l", "r")
    )
    connection.execute(
        "INSERT INTO decision SELECT DISTINCT least(l.rec_no, r.rec_no), greatest(l.rec_no, r.rec_no), d.decision "
        f"FROM silver.match_decision d {sides} WHERE l.rec_no <> r.rec_no"
    )


def collect_deaths(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Make ``death(id_no, name, birth_date, died_on)`` from the death register, empty when there is none."""
    source = "silver.death_registry" if "silver/death_registry" in run.versions else "(SELECT NULL) LIMIT 0"
    columns = "id_no, name, birth_date, died_on"
    if "silver/death_registry" not in run.versions:
        columns = (
            "NULL::VARCHAR AS id_no, NULL::VARCHAR AS name, NULL::DATE AS birth_date, NULL::DATE AS died_on"
        )
    connection.execute(f"CREATE OR REPLACE TABLE death AS SELECT {columns} FROM {source}")


def as_date(value: date) -> str:
    """A date as an SQL literal."""
    return f"DATE '{value.isoformat()}'"
