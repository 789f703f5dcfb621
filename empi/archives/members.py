"""Who has several active archives, and everything that the registers say about where these residents live."""

from __future__ import annotations

from datetime import date

import duckdb

from empi import addresses, sources
from lake import duck, registry
from lake.errors import MedlakeError
from lake.runs import Run

NEEDED = ("silver/person", "silver/person_identifier", "silver/ph_archive")

#: Institutions with the centre that answers for them: a station's archives are its centre's.
_ORG = """
CREATE OR REPLACE TABLE org AS
SELECT org_code, region_code, org_level_code = '1' AS is_centre, org_level_code IN ('0', '1') AS is_primary,
       CASE WHEN org_level_code = '0' THEN parent_org_code ELSE org_code END AS managing_org_code
FROM org_arrow
"""
#: Every archive with its resident. Active: not closed, not of somebody dead, whoever says so.
_ARCHIVE = """
CREATE OR REPLACE TABLE archive AS
SELECT i.empi_id, i.person_token, a.org_code, a.archive_id, coalesce(o.managing_org_code, a.org_code) AS managed_by,
       a.created_on, a.source_updated_at AS updated_at,
       a.status_code = '0' AND NOT coalesce(a.is_dead, false) AND NOT coalesce(p.is_deceased, false) AS is_active
FROM silver.ph_archive a
JOIN silver.person_identifier i ON i.source_system = 'public_health' AND i.org_code = a.org_code
     AND i.identifier_value = a.archive_id AND i.identifier_type = 'MR' AND i.valid_to IS NULL
LEFT JOIN silver.person p ON p.empi_id = i.empi_id
LEFT JOIN org o ON o.org_code = a.org_code;
CREATE OR REPLACE TABLE several AS
SELECT empi_id, any_value(person_token) AS person_token, count(*) AS active_archives
FROM archive WHERE is_active GROUP BY empi_id HAVING count(*) > 1;
CREATE OR REPLACE TABLE member AS
SELECT a.* FROM archive a SEMI JOIN several USING (empi_id) WHERE a.is_active
"""
_KEYS = """
CREATE OR REPLACE TABLE wanted AS
SELECT i.empi_id, i.source_system, i.org_code, i.identifier_value
FROM silver.person_identifier i SEMI JOIN several USING (empi_id)
WHERE i.identifier_type = 'MR' AND i.valid_to IS NULL
"""


def connect(run: Run, tables: list[str]) -> duckdb.DuckDBPyConnection:
    """A working connection with views on the run's versions of the registers, the persons and ``tables``.

    Raises:
        MedlakeError: E360, there are no archives or nobody was linked.
    """
    if any(n not in run.versions for n in NEEDED):
        raise MedlakeError("E360", data_date=run.data_date)
    wanted = {*NEEDED, *sources.REGISTERS, "silver/lab_report", "silver/imaging_instance"}
    wanted |= {f"silver/{t}" for t in tables}
    connection = duck.connect()
    duck.create_views(connection, {n: v for n, v in run.versions.items() if n in wanted})
    return connection


def collect(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Make ``org``, ``archive``, ``several``, ``member`` and ``source_record`` (all records of those residents)."""
    connection.register("org_arrow", registry.orgs())
    connection.execute(_ORG)
    connection.unregister("org_arrow")
    for statement in (_ARCHIVE + ";" + _KEYS).split(";"):
        connection.execute(statement)
    sources.create_source_record(connection)
    connection.execute(
        "INSERT INTO source_record BY NAME SELECT row_number() OVER (ORDER BY source_system, org_code, "
        f"identifier_value) - 1 AS rec_no, * FROM ({sources.registrations(run, only='wanted')})"
    )


#: What an address says of the town, and how surely: ``stated`` in words, the only ``village`` of that name in the city;
#: ``nearby``, the institution's own village of a name that other towns have too; ``code``, the region code where no
#: words name a place: an institution fills it in from its own tree.
STRENGTHS = ("stated", "village", "nearby", "code")

_TOWN = """
CREATE OR REPLACE TABLE town AS
SELECT town, any_value(left(region_code, 9)) AS region_code FROM region WHERE village IS NULL
GROUP BY town HAVING count(DISTINCT left(region_code, 9)) = 1
"""
_SAID = """
CREATE OR REPLACE TABLE said AS
WITH read AS (
    SELECT s.rec_no, s.source_system, s.org_code, s.updated_at, s.addr_region_code, a.town, a.village
    FROM source_record s LEFT JOIN address a USING (addr_detail)
    WHERE s.addr_detail IS NOT NULL OR s.addr_region_code IS NOT NULL),
named AS (
    SELECT r.*, t.region_code AS by_town,
           CASE WHEN r.town IS NULL THEN u.town END AS only_town, CASE WHEN r.town IS NULL THEN n.town END AS near_town
    FROM read r LEFT JOIN town t ON t.town = r.town
    LEFT JOIN (SELECT village, town FROM nearby WHERE org_code IS NULL) u ON u.village = r.village
    LEFT JOIN (SELECT org_code, village, town FROM nearby WHERE org_code IS NOT NULL) n
           ON n.org_code = r.org_code AND n.village = r.village),
placed AS (
    SELECT n.*, CASE WHEN n.by_town IS NOT NULL THEN 'stated' WHEN n.only_town IS NOT NULL THEN 'village'
                     WHEN n.near_town IS NOT NULL THEN 'nearby'
                     WHEN length(n.addr_region_code) >= 9 AND n.town IS NULL AND n.village IS NULL THEN 'code' END AS strength,
           coalesce(n.by_town, o.region_code, e.region_code,
                    CASE WHEN n.town IS NULL AND n.village IS NULL THEN left(n.addr_region_code, 9) END) AS town_code
    FROM named n LEFT JOIN town o ON o.town = n.only_town LEFT JOIN town e ON e.town = n.near_town)
SELECT p.rec_no, w.empi_id, p.source_system, p.org_code AS from_org_code, p.strength,
       CAST(timezone('Asia/Shanghai', p.updated_at) AS DATE) AS said_on, p.updated_at, c.org_code AS org_code
FROM placed p
JOIN source_record s USING (rec_no)
JOIN wanted w ON (w.source_system, w.org_code, w.identifier_value) = (s.source_system, s.org_code, s.identifier_value)
JOIN org c ON c.is_centre AND left(c.region_code, 9) = p.town_code AND length(c.region_code) >= 9
WHERE p.strength IS NOT NULL AND p.updated_at IS NOT NULL
      -- closing an archive dates its row anew, not the address in it
      AND NOT EXISTS (SELECT 1 FROM archive a WHERE p.source_system = 'public_health' AND a.org_code = p.org_code
                      AND a.archive_id = s.identifier_value AND NOT a.is_active)
"""


def locate(connection: duckdb.DuckDBPyConnection, data_date: date) -> None:
    """Make ``said``: of each record with an address, the centre in whose jurisdiction it lies, and how surely.

    An address outside the register of regions, and one changed after the date, say nothing.
    """
    addresses.create_region(connection)
    addresses.create_nearby(connection)
    addresses.create_address(connection)
    connection.execute(_TOWN)
    connection.execute(_SAID)
    connection.execute("DELETE FROM said WHERE said_on > ?", [data_date])
