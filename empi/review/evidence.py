"""What else the registers know of two persons: who shares their telephone and home, where they were seen, their archives.

Set queries over the silver tables that are visible; a table that is not in the lake is not looked at. Counts, dates
and institutions only: no name of a third person leaves here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from empi.review.pairs import COLUMNS, RecordKey
from empi.review.records import Bench
from empi.sources import as_date

#: Table of a patient's events -> the day of one, and the institution whose number ``patient_local_id`` is.
VISITS: dict[str, tuple[str, str]] = {
    "encounter": ("started_at", "t.org_code"),
    "inpatient_encounter": ("admitted_at", "t.org_code"),
    "lab_report": ("reported_at", "coalesce(t.requesting_org_code, t.org_code)"),
    "imaging_instance": ("study_at", "t.org_code"),
}
#: Table of a health archive's services -> the day of one.
SERVICES: dict[str, str] = {
    "ph_exam": "exam_on",
    "htn_visit": "visited_on",
    "dm_visit": "visited_on",
    "copd_visit": "visited_on",
    "smi_visit": "visited_on",
    "tb_visit": "visited_on",
    "child_visit": "visited_on",
    "prenatal_visit": "visited_on",
    "postpartum_visit": "visited_on",
    "tcm_elder": "assessed_on",
    "vaccination_record": "given_at",
    "fd_service": "done_on",
}
#: ``status_code`` of an archive that is in use (code system ``archive_status``).
ACTIVE = "0"
_ACTIVE = f"coalesce(a.status_code, '{ACTIVE}') = '{ACTIVE}'"


#: What may link two records through a contact person, over the sides ``l`` and ``r`` of ``record``.
CONTACTS: dict[str, str] = {
    "l_is_contact_of_r": "l.nm = r.kin_nm",
    "r_is_contact_of_l": "r.nm = l.kin_nm",
    "phone_of_l_is_contact_phone_of_r": "l.phone = r.kin_phone",
    "phone_of_r_is_contact_phone_of_l": "r.phone = l.kin_phone",
    "same_contact": "l.kin_nm = r.kin_nm",
    "same_contact_phone": "l.kin_phone = r.kin_phone",
}


@dataclass(frozen=True)
class Flags:
    """What decides who must look, and how soon."""

    active_archives: int = 0
    in_hospital: bool = False


@dataclass(frozen=True)
class Evidence:
    """Facts beside the fields. Lists are rows of plain values; ``side`` is ``l`` or ``r``.

    ``phones``, ``homes`` are None while nobody can tell (no run has left a state, or one is at work). ``contacts`` names
    what links each one's contact person to the other (:data:`CONTACTS`); ``same_days`` counts days on which both were
    seen, at different institutions.
    """

    phones: list[dict[str, Any]] | None
    homes: list[dict[str, Any]] | None
    contacts: list[str]
    visits: list[dict[str, Any]]
    same_days: int
    archives: list[dict[str, Any]]
    services: list[dict[str, Any]]


def _have(on: Bench, table: str) -> bool:
    return f"silver/{table}" in on.run.versions


def _members(on: Bench, persons: Iterable[tuple[str, str]]) -> None:
    """Make ``member(side, empi_id, source_system, org_code, identifier_value)``: all records of the persons."""
    rows = list(persons)
    connection = on.connection
    given = pa.table(
        {
            "side": pa.array([s for s, _ in rows], pa.string()),
            "empi_id": pa.array([e for _, e in rows], pa.string()),
        }
    )
    connection.register("persons_arrow", given)
    connection.execute(
        f"""CREATE OR REPLACE TABLE member AS
        SELECT g.side, g.empi_id, {", ".join(f"i.{c}" for c in COLUMNS)} FROM silver.person_identifier i
        JOIN persons_arrow g USING (empi_id) WHERE i.identifier_type = 'MR' AND i.valid_to IS NULL"""
    )
    connection.unregister("persons_arrow")


def flags(on: Bench, empi_ids: Iterable[str], stay_days: int) -> dict[str, Flags]:
    """Of each person: how many active archives, and whether they lie in a hospital now.

    ``stay_days``: an admission without an end that is older than this was forgotten, not a stay.
    """
    wanted = sorted(set(empi_ids))
    _members(on, [("l", e) for e in wanted])
    active: dict[str, int] = {}
    lying: set[str] = set()
    if _have(on, "ph_archive"):
        active = _counted(
            on,
            f"""SELECT m.empi_id, count(*) FROM member m JOIN silver.ph_archive a
            ON a.org_code = m.org_code AND a.archive_id = m.identifier_value
            WHERE m.source_system = 'public_health' AND {_ACTIVE} GROUP BY 1""",
        )
    if _have(on, "inpatient_encounter"):
        lying = set(
            _counted(
                on,
                f"""SELECT m.empi_id, count(*) FROM member m JOIN silver.inpatient_encounter e
                ON e.org_code = m.org_code AND e.patient_local_id = m.identifier_value
                WHERE m.source_system <> 'public_health' AND e.discharged_at IS NULL
                AND (e.admitted_at AT TIME ZONE 'Asia/Shanghai')::DATE >= {as_date(on.run.data_date)} - {stay_days}
                GROUP BY 1""",
            )
        )
    return {e: Flags(active.get(e, 0), e in lying) for e in wanted}


def _counted(on: Bench, sql: str) -> dict[str, int]:
    return {str(k): int(n) for k, n in on.connection.execute(sql).fetchall()}


def _rows(on: Bench, sql: str) -> list[dict[str, Any]]:
    return list(on.connection.execute(sql).to_arrow_table().to_pylist())


def _seen(on: Bench, tables: dict[str, tuple[str, str]], key: str, whose: str) -> str:
    """SELECT text of (side, org_code, kind, day) of all events in the tables that are in the lake."""
    parts = [
        f"""SELECT m.side, m.org_code, '{table}' AS kind,
            (t.{day}{" AT TIME ZONE 'Asia/Shanghai'" if day.endswith("_at") else ""})::DATE AS day
        FROM silver.{table} t JOIN member m ON m.identifier_value = t.{key} AND m.org_code = {org} AND {whose}"""
        for table, (day, org) in tables.items()
        if _have(on, table)
    ]
    return " UNION ALL ".join(parts) or (
        "SELECT NULL::VARCHAR AS side, NULL::VARCHAR AS org_code, NULL::VARCHAR AS kind, NULL::DATE AS day LIMIT 0"
    )


def _summed(seen: str) -> str:
    return f"""SELECT side, org_code, kind, count(*) AS times, min(day) AS first_on, max(day) AS last_on
        FROM ({seen}) GROUP BY ALL ORDER BY side, last_on DESC NULLS LAST, org_code, kind"""


def gather(on: Bench, left: RecordKey, right: RecordKey, person_l: str, person_r: str) -> Evidence:
    """Everything about the two persons that the pair's records belong to (``records.load`` was called)."""
    _members(on, [("l", person_l), ("r", person_r)])
    for side, key in (("l", left), ("r", right)):  # of whom no run has linked yet, the record itself
        on.connection.execute(
            "INSERT INTO member SELECT $1, NULL, $2, $3, $4 WHERE ($2, $3, $4) NOT IN "
            "(SELECT (source_system, org_code, identifier_value) FROM member)",
            [side, *key],
        )
    visits = _seen(on, VISITS, "patient_local_id", "m.source_system <> 'public_health'")
    services = _seen(
        on,
        {t: (day, "t.org_code") for t, day in SERVICES.items()},
        "archive_id",
        "m.source_system = 'public_health'",
    )
    both = f"""SELECT count(*) FROM (SELECT day FROM ({visits} UNION ALL {services}) WHERE day IS NOT NULL
               GROUP BY day HAVING count(DISTINCT side) = 2 AND count(DISTINCT org_code) > 1)"""
    archives = (
        _rows(
            on,
            f"""SELECT m.side, m.org_code, a.status_code, {_ACTIVE} AS is_active, a.is_dead, a.created_on,
                   a.addr_region_code, a.doctor_id, a.source_updated_at::DATE AS updated_on
            FROM member m JOIN silver.ph_archive a ON a.org_code = m.org_code AND a.archive_id = m.identifier_value
            WHERE m.source_system = 'public_health' ORDER BY m.side, a.created_on, m.org_code""",
        )
        if _have(on, "ph_archive")
        else []
    )
    return Evidence(
        phones=_phones(on, left, right) if on.is_informed else None,
        homes=_homes(on, left, right) if on.is_informed else None,
        contacts=_contacts(on, left, right),
        visits=_rows(on, _summed(visits)),
        same_days=int(on.connection.execute(both).fetchall()[0][0]),
        archives=archives,
        services=_rows(on, _summed(services)),
    )


def _sides(on: Bench, left: RecordKey, right: RecordKey) -> str:
    return f"(VALUES ('l', {on.number[left]}), ('r', {on.number[right]})) s(side, rec_no)"


def _phones(on: Bench, left: RecordKey, right: RecordKey) -> list[dict[str, Any]]:
    """Of each telephone of the two: how many registrations, persons and homes have it, of the whole city."""
    return _rows(
        on,
        f"""WITH own AS (SELECT s.side, 'phone' AS whose, r.phone FROM record r JOIN {_sides(on, left, right)} USING (rec_no)
                     UNION ALL SELECT s.side, 'contact', r.kin_phone FROM record r
                     JOIN {_sides(on, left, right)} USING (rec_no))
        SELECT o.side, o.whose, count(n.phone) AS records, count(DISTINCT n.empi_id) AS persons,
               count(DISTINCT CASE WHEN n.village IS NOT NULL THEN (n.town, n.village, n.house) END) AS homes
        FROM own o LEFT JOIN neighbour n ON n.phone = o.phone WHERE o.phone IS NOT NULL GROUP BY ALL ORDER BY ALL""",
    )


def _homes(on: Bench, left: RecordKey, right: RecordKey) -> list[dict[str, Any]]:
    """Of each one's house: how many registrations and persons live in it."""
    return _rows(
        on,
        f"""SELECT s.side, count(n.village) AS records, count(DISTINCT n.empi_id) AS persons
        FROM record r JOIN {_sides(on, left, right)} USING (rec_no)
        JOIN neighbour n ON n.village = r.village AND n.house = r.house AND n.town IS NOT DISTINCT FROM r.town
        GROUP BY ALL ORDER BY ALL""",
    )


def _contacts(on: Bench, left: RecordKey, right: RecordKey) -> list[str]:
    facts = ", ".join(f"coalesce({sql}, false) AS {name}" for name, sql in CONTACTS.items())
    (row,) = _rows(
        on,
        f"""SELECT {facts} FROM record l, record r
        WHERE l.rec_no = {on.number[left]} AND r.rec_no = {on.number[right]}""",
    )
    return [name for name in CONTACTS if row[name]]
