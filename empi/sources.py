"""Collect every registration of a person, one row each, from the run's pinned silver tables.

A *record* is a registration: ``(source_system, org_code, identifier_value)``. Registers come first (``his``,
``public_health``); a laboratory or imaging system adds a record only for a patient id that its institution's
HIS does not know. Its silver rows are messages, so the newest one that names the patient stands for the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    FROM {patient}"""
_ARCHIVE = """
    SELECT 'public_health' AS source_system, org_code, archive_id AS identifier_value, name, sex_code, birth_date,
           id_no, phone, contact_name, contact_phone, addr_region_code, addr_detail, is_dead, death_date,
           source_updated_at AS updated_at
    FROM {ph_archive}"""
_KNOWN = """
    WHERE NOT EXISTS (SELECT 1 FROM {patient} p
                      WHERE p.org_code = m.org_code AND p.patient_local_id = m.identifier_value)"""
_LAB = """
    SELECT 'lis' AS source_system, org_code, identifier_value, name, sex_code, birth_date, id_no, phone, updated_at
    FROM (SELECT coalesce(requesting_org_code, org_code) AS org_code, patient_local_id AS identifier_value, name,
                 sex_code, birth_date, id_no, phone, reported_at AS updated_at, report_id
          FROM {lab_report} WHERE patient_local_id IS NOT NULL) m{known}
    QUALIFY row_number() OVER (PARTITION BY org_code, identifier_value
                               ORDER BY name IS NULL, updated_at DESC, report_id) = 1"""
_IMAGE = """
    SELECT 'pacs' AS source_system, org_code, identifier_value, name, sex_code, birth_date, updated_at
    FROM (SELECT org_code, patient_local_id AS identifier_value, name, sex_code, birth_date,
                 study_at AS updated_at, sop_instance_uid
          FROM {imaging_instance} WHERE patient_local_id IS NOT NULL) m{known}
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


#: Source -> its silver table, and how a row ``t`` of it names a record: institution and number.
KEYS: dict[str, tuple[str, str, str]] = {
    "his": ("silver/patient", "t.org_code", "t.patient_local_id"),
    "public_health": ("silver/ph_archive", "t.org_code", "t.archive_id"),
    "lis": ("silver/lab_report", "coalesce(t.requesting_org_code, t.org_code)", "t.patient_local_id"),
    "pacs": ("silver/imaging_instance", "t.org_code", "t.patient_local_id"),
}


def registrations(
    run: Run,
    only: str | None = None,
    *,
    systems: Iterable[str] = tuple(KEYS),
    at: Mapping[str, str] | None = None,
) -> str:
    """SELECT text of all registrations, without ``rec_no``.

    Args:
        only: a table of record keys; just these are looked at.
        systems: sources to ask.
        at: silver table -> FROM text to read instead of its view.
    """
    asked = {KEYS[system][0]: KEYS[system] for system in systems}
    views = {name: name.replace("/", ".") for name, _, _ in KEYS.values()} | dict(at or {})
    scans = {name.partition("/")[2]: view for name, view in views.items()}
    same = "k.org_code = {} AND k.identifier_value = {}"
    if only:
        for system, (name, org_code, number) in KEYS.items():
            on = f"k.source_system = '{system}' AND {same.format(org_code, number)}"
            scans[name.partition("/")[2]] = f"(SELECT t.* FROM {views[name]} t SEMI JOIN {only} k ON {on})"
    known = ""
    if (name := KEYS["his"][0]) in run.versions:
        on = same.format(*KEYS["his"][1:])
        known = _KNOWN.format(
            patient=f"(SELECT t.* FROM {views[name]} t SEMI JOIN {only} k ON {on})" if only else views[name]
        )
    parts = {
        "silver/patient": _HIS,
        "silver/ph_archive": _ARCHIVE,
        "silver/lab_report": _LAB,
        "silver/imaging_instance": _IMAGE,
    }
    present = [name for name in parts if name in run.versions and name in asked]
    selects = [parts[name].format(known=known, **scans) for name in present]
    return " UNION ALL BY NAME ".join(selects)


def collect(connection: duckdb.DuckDBPyConnection, run: Run) -> int:
    """Fill ``source_record``; ``rec_no`` counts from 0 in the order of the key, so a run is repeatable.

    Returns the number of records.
    """
    create_source_record(connection)
    connection.execute(
        "INSERT INTO source_record BY NAME SELECT row_number() OVER (ORDER BY source_system, org_code, "
        f"identifier_value) - 1 AS rec_no, * FROM ({registrations(run)})"
    )
    return int(connection.execute("SELECT count(*) FROM source_record").fetchall()[0][0])


#: Given values that nobody asks for once they are standardised.
_PASSING = (
    "birth_date",
    "health_card_no",
    "insurance_no",
    "contact_name",
    "contact_phone",
    "addr_region_code",
)


def forget_passing(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the columns of ``source_record`` that are in ``record`` now: a third of the memory it takes."""
    for column in _PASSING:
        connection.execute(f"ALTER TABLE source_record DROP COLUMN {column}")


_SIDES = [f"{c}_{s}" for s in ("l", "r") for c in ("source_system", "org_code", "identifier_value")]


def collect_decided(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Make ``decided``, people's decisions as they stand: the keys of both records (``_l``, ``_r``) and ``decision``."""
    columns = ", ".join(f"{c} VARCHAR" for c in (*_SIDES, "decision"))
    connection.execute(f"CREATE OR REPLACE TABLE decided ({columns})")
    if DECISIONS in run.versions:
        connection.execute(
            f"INSERT INTO decided SELECT DISTINCT {', '.join(_SIDES)}, decision FROM silver.match_decision"
        )


def match_decisions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``decision(rec_l, rec_r, decision)`` from ``decided``, for records that are in ``source_record``."""
    sides = " ".join(
        f"JOIN source_record {s} ON ({s}.source_system, {s}.org_code, {s}.identifier_value) = "
        f"(d.source_system_{s}, d.org_code_{s}, d.identifier_value_{s})"
        for s in ("l", "r")
    )
    connection.execute(
        "CREATE OR REPLACE TABLE decision AS SELECT DISTINCT least(l.rec_no, r.rec_no) AS rec_l, "
        "greatest(l.rec_no, r.rec_no) AS rec_r, d.decision "
        f"FROM decided d {sides} WHERE l.rec_no <> r.rec_no"
    )


def collect_decisions(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Both: ``decided`` and ``decision``."""
    collect_decided(connection, run)
    match_decisions(connection)


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
